"""What figures share: their look, marks, axes and legend, and writing PNG and PDF."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
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
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 7,
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
#: Height of the line below a figure, inches, and its letters.
_FOOT, _FOOT_POINTS = 0.13, 5.5
#: Length of a line in the legend, in units of its font.
_HANDLE = 3


@dataclass(frozen=True)
class Picture:
    """A figure, its file's name, and a sentence or two on what it shows."""

    stem: str
    figure: Figure
    caption: str


def write(stored: Stored, pictures: Iterable[Picture]) -> list[tuple[Path, str]]:
    """Store `figures/<stem>.png` and `.pdf` of each; returns the PNG files with their captions."""
    folder, found = stored.folder / "figures", []
    with matplotlib.rc_context(LOOK):  # the pictures are drawn as they are asked for
        for picture in pictures:
            found.append((save(picture.figure, folder / picture.stem, stored.made_with), picture.caption))
    return found


def save(figure: Figure, stem: Path, foot: str) -> Path:
    """Write `<stem>.pdf` and `<stem>.png` atomically, the same figure as the same bytes; returns the latter.

    `foot` is printed small below the figure, whose page grows by a line: no layout has to know of it.
    """
    across, up = figure.get_size_inches()
    place = {"x": 1 - 0.05 / across, "y": -0.02 / up, "ha": "right", "va": "top"}
    figure.text(**place, s=foot, size=_FOOT_POINTS, color="0.45")
    page = Bbox.from_bounds(0, -_FOOT, across, up + _FOOT)
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        with atomic(stem.with_name(stem.name + suffix)) as temporary:
            figure.savefig(temporary, metadata=metadata, bbox_inches=page)
        figure.set_layout_engine("none")  # the layout is done: the second file takes it over
    return stem.with_name(f"{stem.name}.png")


def share_axis(axes: Axes, remark: str) -> None:
    """The axis of the removed tokens' shares, a line at 0, and at the top what must be said."""
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 1 / 3, 2 / 3, 1], ["0", "33", "67", "100"])
    axes.axhline(0, color="0.7", linewidth=0.5, zorder=0)
    axes.text(0.5, 0.98, remark, transform=axes.transAxes, ha="center", va="top", fontsize=6)


def lacking(axes: Axes, said: str) -> None:
    """What an empty panel lacks."""
    axes.text(0.5, 0.5, said, transform=axes.transAxes, ha="center", va="center", color="0.5")


def legend(figure: Figure, order: Iterable[str] = ()) -> None:
    """One legend above for all labelled lines of the figure, in as many rows as its width needs; those labels
    first that `order` has."""
    found = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    found = {label: found[label] for label in [*order, *found] if label in found}
    if found:
        letters = _HANDLE + 3 + 0.56 * max(map(len, found))
        most = max(1, int(72 * figure.get_figwidth() / (LOOK["legend.fontsize"] * letters)))
        rows = -(-len(found) // most)
        look: Look = {"loc": "outside upper center", "frameon": False, "handlelength": _HANDLE}
        figure.legend(found.values(), found.keys(), ncols=-(-len(found) // rows), **look)
