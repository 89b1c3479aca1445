"""Single texts of a study, and their heat maps: what varies upwards, tokens to the right, bits as colour.

The scale is absolute: all rows of a map share it, so that a layer or β which keeps more is brighter; it is
logarithmic where the map spans more than `WIDE`. Special tokens are dimmed and do not stretch it. Texts
too long for one line are wrapped, like text.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from iba.display.highlight import printable, units
from iba.report.drawing import PAGE_WIDTH, Look
from iba.report.stored import Stored
from iba.report.studies import METHOD

#: Largest over smallest number of a map from which on colours are logarithmic.
WIDE = 20.0
#: Tokens in one line.
PER_LINE = 34
# Inches.
_ROW, _WIDEST, _LEFT, _RIGHT, _TITLE, _GAP = 0.115, 0.27, 0.55, 0.85, 0.2, 0.1
_LETTER, _TILT = 0.05, 50
_MARGIN = 0.08  # above the first and below the last block of a sheet
_MAP = "viridis"
#: What is kept of the scores of a cell.
_COLUMNS = ["instance_id", "target", "tokens", "special", "scores", "bits"]


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
            numbers, own = cell.numbers(), scores.reindex(columns=_COLUMNS)
            joined = own if numbers is None else own.merge(numbers, "left", "instance_id")
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


def how_many(texts: Sequence[ScoredText]) -> str:
    """How many texts these are, for a caption."""
    n = len({(text.dataset, text.instance_id) for text in texts})
    return "one text" if n == 1 else f"{n} texts"


class Block(ABC):
    """A part of a sheet."""

    @property
    @abstractmethod
    def height(self) -> float:
        """Inches that it needs."""

    @abstractmethod
    def draw(self, figure: Figure, top: float) -> None:
        """Draw it below `top`, inches from the figure's lower edge."""


def sheet(blocks: Sequence[Block]) -> Figure:
    """A page-wide figure of blocks from top to bottom."""
    top = sum(block.height for block in blocks) + _MARGIN
    figure = Figure(figsize=(PAGE_WIDTH, top + _MARGIN))
    for block in blocks:
        block.draw(figure, top)
        top -= block.height
    return figure


@dataclass(frozen=True)
class TokenMap(Block):
    """One number per row (a layer, a β) and token of one text; `label`: what the rows are, `names`: which."""

    title: str
    label: str
    names: list[str]
    tokens: list[str]
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

    @property
    def height(self) -> float:
        """Title and tokens included."""
        return _TITLE + sum(self._tall + self._below(line) + _GAP for line in self.lines)

    @property
    def _tall(self) -> float:
        return _ROW * len(self.names)

    def _below(self, line: slice) -> float:
        """Room for the slanted tokens of a line."""
        return 0.1 + _LETTER * max(map(len, self.tokens[line])) * float(np.sin(np.radians(_TILT)))

    def draw(self, figure: Figure, top: float) -> None:
        """Line after line."""
        lines, norm, bottom = self.lines, self.norm, top - _TITLE - self._tall
        width = min(_WIDEST, (PAGE_WIDTH - _LEFT - _RIGHT) / max(s.stop - s.start for s in lines))
        for number, line in enumerate(lines):
            axes = _axes(figure, _LEFT, bottom, width * (line.stop - line.start), self._tall)
            self._draw_line(axes, line, norm)
            if number == 0:
                axes.set_title(self.title, loc="left")
                right = _LEFT + width * line.stop + 0.12
                self._colour_bar(figure, norm, _axes(figure, right, bottom, 0.09, self._tall))
            bottom -= self._tall + self._below(line) + _GAP

    def _draw_line(self, axes: Axes, line: slice, norm: Normalize) -> None:
        axes.pcolormesh(self.values[:, line], norm=norm, cmap=_MAP, edgecolors="white", linewidth=0.3)
        places, tokens = np.arange(line.stop - line.start) + 0.5, map(printable, self.tokens[line])
        slanted: Look = {"rotation": _TILT, "ha": "right", "rotation_mode": "anchor", "parse_math": False}
        axes.set_xticks(places, list(tokens), **slanted)
        axes.set_yticks(np.arange(len(self.names)) + 0.5, self.names)
        axes.set_ylabel(self.label)
        axes.tick_params(length=0, pad=2)
        axes.spines[:].set_visible(False)
        for place in map(int, np.flatnonzero(self.special[line])):
            axes.axvspan(place, place + 1, color="white", alpha=0.6, linewidth=0)
            axes.get_xticklabels()[place].set_color("0.55")

    def _colour_bar(self, figure: Figure, norm: Normalize, axes: Axes) -> None:
        bar = figure.colorbar(matplotlib.cm.ScalarMappable(norm, _MAP), cax=axes)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
        bar.ax.tick_params(labelsize=6)
        bar.set_label(self.unit.replace(" (", "\n("), fontsize=6)


def token_map(rows: pd.DataFrame, title: str, label: str, names: Sequence[str]) -> TokenMap:
    """A text's rows as a map: bits where they are stored, else scores."""
    of_bits = rows["bits"].notna().all()
    special = np.asarray(rows["special"].iloc[0], np.bool_)
    pieces = units(list(rows["tokens"].iloc[0]), special)
    return TokenMap(
        title,
        label,
        list(names),
        [f"{'-' * (piece.joined and piece.text[:1].isalnum())}{piece.text}" for piece in pieces],
        special,
        np.stack([np.asarray(values, float) for values in rows["bits" if of_bits else "scores"]]),
        "information (bits per token)" if of_bits else "score",
    )


def _axes(figure: Figure, left: float, bottom: float, width: float, tall: float) -> Axes:
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, tall / up))
