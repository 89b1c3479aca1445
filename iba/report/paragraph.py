"""Coloured text in a figure: units one after the other, in as many lines as they need."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from iba.report.highlight import AGAINST, FAINTEST, FOR, Unit

#: Inches between words, and between lines of text of `SIZE`.
SPACE, LINE, SIZE = 0.055, 0.26, 9.5


def paragraph(
    figure: Figure,
    shown: Sequence[Unit],
    strengths: Sequence[float],
    start: tuple[float, float],
    right: float,
    size: float = SIZE,
) -> float:
    """Write units from `start` to `right` on a background as strong as their strength (−1 … 1).

    All places are inches from the figure's lower left corner; returns the base of the last line.
    """
    width, height = figure.get_size_inches()
    renderer = FigureCanvasAgg(figure).get_renderer()
    scale = size / SIZE
    (left, y), x = start, start[0]
    for i, (one, strength) in enumerate(zip(shown, strengths, strict=True)):
        drawn = figure.text(x / width, y / height, literal(one.text), size=size, va="baseline")
        across = drawn.get_window_extent(renderer).width / figure.dpi
        gap = SPACE * scale if one.spaced and i else 0.0
        if i and x + gap + across > right:
            x, y, gap = left, y - LINE * scale, 0.0
        drawn.set_position(((x + gap) / width, y / height))
        if one.special:
            drawn.set_color("#888888")
        elif abs(strength) >= FAINTEST:
            colour = [c / 255 for c in (FOR if strength > 0 else AGAINST)]
            drawn.set_bbox({"facecolor": [*colour, abs(strength)], "edgecolor": "none", "pad": 0.7})
        x += gap + across
    return y


def literal(text: str) -> str:
    """Text that Matplotlib shows as it is: a lone "$" would begin its own mathematics."""
    return text.replace("$", r"\$")
