"""Heat maps of single texts: what varies upwards, tokens to the right, information as colour.

The scale is absolute: all rows of a map share it, so that a layer or β which keeps more is brighter; it is
logarithmic where the map spans more than `WIDE`. Special tokens are dimmed and do not stretch it. Texts
too long for one line are wrapped, like text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from iba.explain.highlight import printable, units
from iba.report.drawing import PAGE_WIDTH
from iba.report.study_rows import Value, value_of

#: Largest over smallest number of a map from which on colours are logarithmic.
WIDE = 20.0
#: Tokens in one line.
PER_LINE = 34
# Inches.
_ROW, _WIDEST, _LEFT, _RIGHT, _TITLE, _GAP = 0.115, 0.27, 0.55, 0.85, 0.2, 0.1
_LETTER, _TILT = 0.05, 50

_MAP = "viridis"


@dataclass(frozen=True)
class TokenMap:
    """One number per row (a layer, a β) and token of one text."""

    tokens: list[str]
    special: Bool[np.ndarray, " tokens"]
    rows: list[Value]
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


def token_map(rows: pd.DataFrame) -> TokenMap:
    """The stored points of one text: bits where they are stored, else scores; rows by ascending value."""
    ordered = rows.assign(value=[value_of(point) for point in rows["point"]]).sort_values("value")
    column = "bits" if "bits" in rows and rows["bits"].notna().all() else "scores"
    first = ordered.iloc[0]
    special = np.asarray(first["special"], np.bool_)
    pieces = units(list(first["tokens"]), special.tolist())
    return TokenMap(
        [f"{'##' * piece.joined}{piece.text}" for piece in pieces],
        special,
        list(ordered["value"]),
        np.stack([np.asarray(values, float) for values in ordered[column]]),
        "information (bits per token)" if column == "bits" else "score",
    )


def height(found: TokenMap) -> float:
    """Inches that the map needs, its title and the tokens below included."""
    below = sum(_below(found.tokens[line]) + _GAP for line in found.lines)
    return _TITLE + below + len(found.lines) * _ROW * len(found.rows)


def draw(
    figure: Figure, found: TokenMap, top: float, title: str, label: str, name: Callable[[Value], str]
) -> float:
    """Draw the map below `top` (inches from the figure's lower edge); returns where it ends.

    `label`: what the rows are; `name`: how a row is called.
    """
    norm = found.norm
    width = min(_WIDEST, (PAGE_WIDTH - _LEFT - _RIGHT) / max(s.stop - s.start for s in found.lines))
    tall = _ROW * len(found.rows)
    top -= _TITLE
    for number, line in enumerate(found.lines):
        across = width * (line.stop - line.start)
        axes = _axes(figure, _LEFT, top - tall, across, tall)
        _draw_line(axes, found, line, norm)
        axes.set_yticks(np.arange(len(found.rows)) + 0.5, [name(row) for row in found.rows])
        axes.set_ylabel(label)
        if number == 0:
            axes.set_title(title, loc="left")
            _colour_bar(figure, found, norm, _LEFT + width * found.lines[0].stop + 0.12, top - tall, tall)
        top -= tall + _below(found.tokens[line]) + _GAP
    return top


def _draw_line(axes: Axes, found: TokenMap, line: slice, norm: Normalize) -> None:
    tokens, special = found.tokens[line], found.special[line]
    axes.pcolormesh(found.values[:, line], norm=norm, cmap=_MAP, edgecolors="white", linewidth=0.3)
    axes.set_xticks(
        np.arange(len(tokens)) + 0.5,
        [printable(token) for token in tokens],
        rotation=_TILT,
        ha="right",
        rotation_mode="anchor",
        parse_math=False,
    )
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    for place in map(int, np.flatnonzero(special)):
        axes.axvspan(place, place + 1, color="white", alpha=0.6, linewidth=0)
        axes.get_xticklabels()[place].set_color("0.55")


def _colour_bar(
    figure: Figure, found: TokenMap, norm: Normalize, left: float, bottom: float, tall: float
) -> None:
    bar = figure.colorbar(
        matplotlib.cm.ScalarMappable(norm, _MAP), cax=_axes(figure, left, bottom, 0.09, tall)
    )
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(labelsize=6)
    bar.set_label(found.unit.replace(" (", "\n("), fontsize=6)


def _below(tokens: Sequence[str]) -> float:
    """Room for the slanted names of tokens."""
    return 0.1 + _LETTER * max(map(len, tokens)) * float(np.sin(np.radians(_TILT)))


def _axes(figure: Figure, left: float, bottom: float, width: float, tall: float) -> Axes:
    across, up = figure.get_size_inches()
    return figure.add_axes((left / across, bottom / up, width / across, tall / up))
