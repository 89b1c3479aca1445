"""What figures share: their look, the marks of the methods, writing PNG and PDF."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from iba.pipeline.store import atomic

#: Text width of the paper's two-column page, inches.
PAGE_WIDTH = 6.9
_LOOK: dict[Any, Any] = {
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
#: Line style and marker by rank of the method, so that a grey print can still be read.
_MARKS = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "x"), ((0, (5, 1)), "D"), ((0, (1, 1)), "v"))

#: Height of the line below a figure, inches, and its letters.
_FOOT, _FOOT_POINTS = 0.13, 5.5
#: Length of a line in the legend, in units of its font.
_HANDLE = 3


@dataclass(frozen=True)
class Mark:
    """How a method is drawn everywhere."""

    color: str
    linestyle: str | tuple
    marker: str


def marks(colours: dict[str, str]) -> dict[str, Mark]:
    """A mark per method: its configured colour, and a line style and marker of its own."""
    return {
        name: Mark(colour, *_MARKS[rank % len(_MARKS)]) for rank, (name, colour) in enumerate(colours.items())
    }


def legend(figure: Figure, order: Sequence[str] = ()) -> None:
    """One legend above for all labelled lines of the figure, in as many rows as its width needs.

    `order`: labels that come first, in this order.
    """
    found = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    labels = [label for label in order if label in found]
    labels += [label for label in found if label not in labels]
    if not labels:
        return
    size = matplotlib.rcParams["legend.fontsize"] / 72  # inches
    entry = size * (_HANDLE + 3 + 0.56 * max(map(len, labels)))
    most = max(1, min(len(labels), int(figure.get_figwidth() / entry)))
    ncols = math.ceil(len(labels) / math.ceil(len(labels) / most))  # rows of like lengths
    figure.legend(
        [found[label] for label in labels],
        labels,
        loc="outside upper center",
        ncols=ncols,
        frameon=False,
        handlelength=_HANDLE,
    )


@contextmanager
def look() -> Iterator[None]:
    """The look of all figures, without changing Matplotlib for anyone else."""
    with matplotlib.rc_context(_LOOK):
        yield


def save(figure: Figure, stem: Path, foot: str) -> list[Path]:
    """Write `<stem>.png` and `<stem>.pdf` atomically; the same figure gives the same bytes.

    `foot` is printed small below the figure, whose page grows by a line: no layout has to know of it.
    """
    paths = []
    across, up = figure.get_size_inches()
    place = {"x": 1 - 0.05 / across, "y": -0.02 / up, "ha": "right", "va": "top"}
    figure.text(**place, s=foot, size=_FOOT_POINTS, color="0.45")
    page = Bbox.from_bounds(0, -_FOOT, across, up + _FOOT)
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        path = stem.with_suffix(suffix)
        with atomic(path) as temporary:
            figure.savefig(temporary, metadata=metadata, bbox_inches=page)
        figure.set_layout_engine("none")  # the layout is done: the second file takes it over
        paths.append(path)
    return paths
