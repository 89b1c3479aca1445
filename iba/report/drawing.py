"""What figures share: their look, the legend, and writing PNG and PDF."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from iba.report.stored import Stored
from iba.store import atomic

#: Text width of the paper's two-column page, inches.
PAGE_WIDTH = 6.9
#: The look of all figures, to be drawn and saved in `matplotlib.rc_context(LOOK)`.
LOOK: dict[Any, Any] = {
    "font.size": 7,
    "axes.titlesize": 7.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.2,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 220,
}
#: How a line or a mark is drawn: arguments of `plot`.
Look = dict[str, Any]
#: Height of the line below a figure, inches.
_FOOT = 0.13


@dataclass(frozen=True)
class Picture:
    """A figure, its file's name, and a sentence or two on what it shows."""

    stem: str
    figure: Figure
    caption: str


def write(stored: Stored, pictures: Iterable[Picture]) -> list[tuple[Path, str]]:
    """Store `figures/<stem>.png` and `.pdf` of each; returns the PNG files with their captions."""
    folder = stored.folder / "figures"
    with matplotlib.rc_context(LOOK):  # the pictures are drawn as they are asked for
        return [(save(one.figure, folder / one.stem, stored.made_with), one.caption) for one in pictures]


def save(figure: Figure, stem: Path, foot: str) -> Path:
    """Write `<stem>.pdf` and `<stem>.png` atomically, the same figure as the same bytes; returns the latter.

    `foot` is printed small below the figure, whose page grows by a line: no layout has to know of it.
    """
    across, up = figure.get_size_inches()
    figure.text(1 - 0.05 / across, -0.02 / up, foot, ha="right", va="top", size=5.5, color="0.45")
    page = Bbox.from_bounds(0, -_FOOT, across, up + _FOOT)
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        with atomic(stem.with_name(stem.name + suffix)) as temporary:
            figure.savefig(temporary, metadata=metadata, bbox_inches=page)
        figure.set_layout_engine("none")  # the layout is done: the second file takes it over
    return stem.with_name(f"{stem.name}.png")


def legend(figure: Figure, order: Iterable[str] = ()) -> None:
    """One legend above for all labelled lines, those of `order` first, in as many rows as its width needs."""
    handles = [axes.get_legend_handles_labels() for axes in figure.axes]
    known = {label: line for lines, labels in handles for line, label in zip(lines, labels, strict=True)}
    found = {label: known[label] for label in [*order, *known] if label in known}
    if found:
        letters = 6 + 0.56 * max(map(len, found))  # of which 3 for the line and 3 for gaps
        most = max(1, int(72 * figure.get_figwidth() / (LOOK["font.size"] * letters)))
        rows = -(-len(found) // most)
        look: Look = {"loc": "outside upper center", "frameon": False, "handlelength": 3}
        figure.legend(found.values(), found.keys(), ncols=-(-len(found) // rows), **look)
