"""Single texts of a study, and their heat maps: what varies upwards, tokens to the right, bits as colour.

The scale is absolute: all rows of a map share it, so that a layer or β which keeps more is brighter; it is
logarithmic where the map spans more than `WIDE`. Special tokens are dimmed and do not stretch it. Texts
too long for one line are wrapped, like text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from iba.display.highlight import printable, units
from iba.report.drawing import PAGE_WIDTH
from iba.report.stored import Stored
from iba.report.studies import METHOD

#: Largest over smallest number of a map from which on colours are logarithmic.
WIDE = 20.0
#: Tokens in one line, and as how many at least a line is drawn: cells of few tokens would be too wide.
PER_LINE, _LEAST = 34, 20
#: Inches: a row, title and gaps of a line, and the height of one letter of a slanted token.
_ROW, _AROUND, _LETTER, _TILT = 0.115, 0.3, 0.04, 50


@dataclass(frozen=True)
class ScoredText:
    """One text at all points of a study under one protocol; `layer`: where the bottleneck stood, if known.

    `rows`: by the varied value, ascending: tokens, special, scores, and what else the method reported.
    """

    dataset: str
    protocol: str
    instance_id: str
    target: str
    layer: int | None
    rows: pd.DataFrame


def load(stored: Stored, study: str) -> list[ScoredText]:
    """The texts of a study whose scores are stored, by protocol and data set; empty without any."""
    pairs = product(stored.names.protocols, stored.datasets)
    return [text for pair in pairs for text in _texts(stored, study, *pair)]


def _texts(stored: Stored, study: str, protocol: str, dataset: str) -> Iterator[ScoredText]:
    keys = stored.seed, study, protocol, dataset, METHOD
    tables, layer = [], None
    for v, cell in stored.cells.items():
        varied = v.value is not None and (v.seed, v.study, v.protocol, v.dataset, v.method) == keys
        if varied and (scores := cell.scores()) is not None:
            numbers = cell.numbers()
            joined = scores if numbers is None else scores.merge(numbers, "left", "instance_id")
            tables.append(joined.assign(value=v.value))
            layer = cell.record["settings"]["method"].get("layer")
    labels = stored.classifiers[dataset]["provenance"]["labels"]
    for instance_id, rows in pd.concat(tables).groupby("instance_id", sort=False) if tables else ():
        target = str(labels[int(rows["target"].iloc[0])])
        ordered = rows.set_index("value").sort_index()
        yield ScoredText(dataset, protocol, str(instance_id), target, layer, ordered)


def heading(stored: Stored, text: ScoredText) -> str:
    """Data set, instance, explained class, protocol; a study's own text is called that."""
    data, protocol = stored.names.datasets[text.dataset], stored.names.protocols[text.protocol]
    kind, _, number = text.instance_id.partition(":")
    which = f"own text {int(number) + 1} ({data})" if kind == "text" else f"{data} {text.instance_id}"
    return f"{which}, target {text.target} ({protocol})"


@dataclass(frozen=True)
class TokenMap:
    """One number per row (a layer, a β) and token of one text; `label`: what the rows are, `names`: which."""

    title: str
    label: str
    names: Sequence[str]
    tokens: Sequence[str]
    special: Bool[np.ndarray, " tokens"]
    values: Float[np.ndarray, "rows tokens"]
    unit: str

    @property
    def lines(self) -> list[slice]:
        """The tokens of every line, as even as they can be."""
        n = len(self.tokens)
        ends = np.linspace(0, n, -(-n // PER_LINE) + 1).round().astype(int)
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    @property
    def norm(self) -> Normalize:
        """From the smallest to the largest number of a token that is not special."""
        own = self.values[:, ~self.special] if (~self.special).any() else self.values
        low, high = float(own.min()), float(own.max())
        positive = own[own > 0]
        if len(positive) and high > WIDE * positive.min():
            return LogNorm(float(positive.min()), high, clip=True)
        return Normalize(low, high if high > low else low + 1)


def token_map(rows: pd.DataFrame, title: str, label: str, names: Sequence[str]) -> TokenMap:
    """A text's rows as a map: bits where they are stored, else scores."""
    of_bits = "bits" in rows and rows["bits"].notna().all()
    special = np.asarray(rows["special"].iloc[0], np.bool_)
    pieces = units(list(rows["tokens"].iloc[0]), special)
    tokens = [f"{'-' * (piece.joined and piece.text[:1].isalnum())}{piece.text}" for piece in pieces]
    values = np.stack([np.asarray(row, float) for row in rows["bits" if of_bits else "scores"]])
    unit = "information\n(bits per token)" if of_bits else "score"
    return TokenMap(title, label, names, tokens, special, values, unit)


def sheet(maps: Sequence[TokenMap], above: float = 0) -> Figure:
    """A page-wide figure of maps from top to bottom; `above` them so many inches are left free."""
    lines = [(one, line) for one in maps for line in one.lines]
    up = above + sum(_height(one, line) for one, line in lines)
    figure = Figure(figsize=(PAGE_WIDTH, up), layout="constrained")
    if lines:
        figure.get_layout_engine().set(rect=(0, 0, 1, 1 - above / up))  # type: ignore[union-attr,call-arg]
        heights = [len(one.names) for one, _ in lines]
        grid = figure.subplots(len(lines), 1, squeeze=False, height_ratios=heights)[:, 0]
        left = iter(grid)
        for one in maps:
            _draw(figure, one, [next(left) for _ in one.lines])
    return figure


def _height(one: TokenMap, line: slice) -> float:
    """Inches of a line with its title and slanted tokens."""
    return _ROW * len(one.names) + _AROUND + _LETTER * max(map(len, one.tokens[line]))


def _draw(figure: Figure, one: TokenMap, panels: Sequence[Axes]) -> None:
    across, norm = max(_LEAST, *(line.stop - line.start for line in one.lines)), one.norm
    for axes, line in zip(panels, one.lines, strict=True):
        mesh = _draw_line(axes, one, line, norm)
        axes.set_xlim(0, across)
    panels[0].set_title(one.title, loc="left")
    bar = figure.colorbar(mesh, ax=panels, aspect=14, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(labelsize=6)
    bar.set_label(one.unit, fontsize=6)


def _draw_line(axes: Axes, one: TokenMap, line: slice, norm: Normalize) -> QuadMesh:
    mesh = axes.pcolormesh(one.values[:, line], norm=norm, cmap="viridis", edgecolors="white", linewidth=0.3)
    places, tokens = np.arange(line.stop - line.start) + 0.5, [*map(printable, one.tokens[line])]
    axes.set_xticks(places, tokens, rotation=_TILT, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(np.arange(len(one.names)) + 0.5, one.names)
    axes.set_ylabel(one.label)
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    for place in map(int, np.flatnonzero(one.special[line])):
        axes.axvspan(place, place + 1, color="white", alpha=0.6, linewidth=0)
        axes.get_xticklabels()[place].set_color("0.55")
    return mesh
