"""A figure of blocks from top to bottom, each of its own height, for what is laid out in inches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from iba.report.drawing import PAGE_WIDTH

#: Inches above the first and below the last block.
_MARGIN = 0.08


@dataclass(frozen=True)
class Block:
    """`height` in inches; `draw` gets the figure and the block's upper edge, inches from the lower edge."""

    height: float
    draw: Callable[[Figure, float], object]


def sheet(blocks: Sequence[Block]) -> Figure:
    """The blocks on a page-wide figure."""
    tall = sum(block.height for block in blocks) + 2 * _MARGIN
    figure = Figure(figsize=(PAGE_WIDTH, tall))
    top = tall - _MARGIN
    for block in blocks:
        block.draw(figure, top)
        top -= block.height
    return figure
