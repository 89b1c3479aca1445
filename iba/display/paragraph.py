"""Coloured text in a figure: units one after the other, in as many lines as they need."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import accumulate, groupby

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from iba.display.highlight import AGAINST, FAINTEST, FOR, Unit, printable

#: Inches between words, and between lines of text of `SIZE`.
SPACE, LINE, SIZE = 0.055, 0.26, 9.5
#: Points that a background goes beyond its text; what stands close together is parted by as much.
_PAD = 0.7

_Item = tuple[Text | None, float]  # a unit or the space before it, and its width


def paragraph(
    figure: Figure,
    shown: Sequence[Unit],
    strengths: Sequence[float],
    start: tuple[float, float],
    right: float,
    size: float = SIZE,
) -> float:
    """Write units from `start` to `right` on a background as strong as their strength (−1 … 1).

    All places are inches from the figure's lower left corner; returns the base of the last line. A line ends
    where it is full or the text has a line end. Text that begins right to left starts at the right.
    """
    width, height = figure.get_size_inches()
    renderer = FigureCanvasAgg(figure).get_renderer()
    lines: list[list[_Item]] = [[]]
    x = start[0]
    for one, strength in zip(shown, strengths, strict=True):
        drawn = _write(figure, one, strength, size)
        across = drawn.get_window_extent(renderer).width / figure.dpi
        gap = (SPACE * size / SIZE if one.before else 2 * _PAD / 72) if lines[-1] else 0.0
        if lines[-1] and ("\n" in printable(one.before) or x + gap + across > right):
            lines.append([])
            x, gap = start[0], 0.0
        lines[-1] += [(None, gap), (drawn, across)]
        x += gap + across
    leftwards = bool(_leftwards("".join(one.text for one in shown)))
    y = start[1] + LINE * size / SIZE
    for line in lines:
        y -= LINE * size / SIZE
        x = right - sum(across for _, across in line) if leftwards else start[0]
        for text, across in _visual(line, leftwards):
            if text is not None:
                text.set_position((x / width, y / height))
            x += across
    return y


def _write(figure: Figure, one: Unit, strength: float, size: float) -> Text:
    drawn = figure.text(0, 0, printable(one.text), size=size, va="baseline", parse_math=False)
    if one.special:
        drawn.set_color("#888888")
    elif abs(strength) >= FAINTEST:
        colour = [c / 255 for c in (FOR if strength > 0 else AGAINST)]
        drawn.set_bbox({"facecolor": [*colour, abs(strength)], "edgecolor": "none", "pad": _PAD})
    return drawn


def _visual(line: Sequence[_Item], leftwards: bool) -> list[_Item]:
    """A line's items from left to right: the rules N1, N2 and L2 of Unicode's UAX #9, without nesting.

    `leftwards`: the text as a whole runs from right to left. Letters inside an item are Matplotlib's work.
    """
    strong = [None if text is None else _leftwards(text.get_text()) for text, _ in line]
    before = list(accumulate(strong, _latest, initial=leftwards))[1:]
    after = list(accumulate(reversed(strong), _latest, initial=leftwards))[:0:-1]
    runs = [a if a == b else leftwards for a, b in zip(before, after, strict=True)]
    ordered: list[_Item] = []
    for run, members in groupby(zip(runs, line, strict=True), key=lambda pair: pair[0]):
        items = [item for _, item in members]
        ordered += items if run == leftwards else reversed(items)
    return ordered[::-1] if leftwards else ordered


def _latest(known: bool, here: bool | None) -> bool:
    return known if here is None else here


def _leftwards(text: str) -> bool | None:
    """Whether the first letter of the text runs from right to left; None without a letter."""
    kinds = (unicodedata.bidirectional(character) for character in text)
    return next((kind != "L" for kind in kinds if kind in ("L", "R", "AL")), None)


def literal(text: str) -> str:
    """Text that Matplotlib shows as it is beside mathematics: a lone "$" would begin its own."""
    return text.replace("$", r"\$")
