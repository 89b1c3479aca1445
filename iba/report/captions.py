"""A sentence under every figure of the page: what it shows, and of how many instances."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from iba.report import figure1, figure2, figure3, figure4, figure5, methods_figure
from iba.report.rows import Stored

#: The figure's file name → its caption.
CAPTIONS: dict[str, Callable[[Stored], str]] = {
    "figure1": figure1.caption,
    "figure1_probability": figure1.caption_unscaled,
    "figure2a": partial(figure2.caption, part="a"),
    "figure2b": partial(figure2.caption, part="b"),
    "figure3": figure3.caption,
    "figure4": figure4.caption,
    "figure5": figure5.caption,
    "methods": methods_figure.caption,
}


def caption(stored: Stored, stem: str) -> str:
    """The caption of the figure in `<stem>.png`; its name where no more is known."""
    if stem in CAPTIONS:
        return CAPTIONS[stem](stored)
    return f"{stem.replace('_', ', ').capitalize()}; with intervals."
