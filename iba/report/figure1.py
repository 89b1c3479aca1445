"""Figure 1: normalised drop d̄ against the share of removed tokens, a panel per protocol and data set.

Where d̄ means little, all panels of the data set show the probability (`iba/report/curves.py`). The companion
`figure1_probability` shows it everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product

import numpy as np
from matplotlib.figure import Figure

from iba.evaluation.ranking import FIRST_STEP
from iba.report import curves
from iba.report.curves import Curves, mean_curves, quantity, readable
from iba.report.drawing import PAGE_WIDTH, Look, Picture, legend
from iba.report.stored import Stored

#: Line style and marker by rank of the method, so that a grey print can still be read.
_MARKS = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "x"), ((0, (5, 1)), "D"), ((0, (1, 1)), "v"))
#: By protocol and data set.
Panels = Mapping[tuple[str, str], Curves]


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure1` and the unscaled companion."""
    scaled = panels(stored)
    unscaled = {key: found.unscaled() for key, found in scaled.items()}
    of = "of the target while tokens are removed, most important first. Dotted: the first step, 11 %"
    of += f" (Table 1); shaded: {stored.how.percent} bootstrap intervals, wide ones cut at the frame."
    drop = "Normalised drop of the probability (1: whole text, 0: emptied text)"
    yield Picture("figure1", draw(stored, readable(scaled)), f"Figure 1. {drop} {of}")
    caption = f"Figure 1, unscaled. Mean probability {of}"
    yield Picture("figure1_probability", draw(stored, unscaled), caption)


def panels(stored: Stored) -> Panels:
    """The normalised drops by protocol and data set, from the most-first deletion rows."""
    return {
        (protocol, dataset): mean_curves(*rows.stacked(), rows.fractions, stored.how)
        for protocol, dataset in product(stored.protocols, stored.datasets)
        if len((rows := stored.deletion.of(protocol=protocol, dataset=dataset)).rows)
    }


def draw(stored: Stored, found: Panels) -> Figure:
    """Protocols as rows, data sets as columns, one legend above."""
    protocols, datasets, names = stored.protocols, stored.datasets, stored.names
    looks: dict[str, Look] = {
        method: {"label": label, "color": names.colours[method], "linestyle": line, "marker": marker}
        for (method, label), (line, marker) in zip(names.methods.items(), cycle(_MARKS), strict=False)
    }
    each = max(1.26, min(2.3, (PAGE_WIDTH - 0.6) / len(datasets)))
    size = 0.6 + each * len(datasets), 0.8 + 1.5 * len(protocols)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(protocols), len(datasets), sharex=True, sharey="col", squeeze=False)
    for key, axes in zip(product(protocols, datasets), grid.flat, strict=True):
        if key in found:
            curves.draw(axes, found[key], looks, intervals=True)
            axes.axvline(FIRST_STEP, color="0.7", linewidth=0.5, linestyle=":", zorder=0)
        else:
            axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", va="center", color="0.5")
    for axes, protocol in zip(grid[:, 0], protocols, strict=True):
        axes.set_ylabel(f"{names.protocols[protocol]}\n{quantity(found.values())}")
    for axes, dataset in zip(grid[0], datasets, strict=True):
        shown = [found[p, dataset] for p in protocols if (p, dataset) in found]
        axes.set_ylim(*limits(shown))
        axes.set_title(f"{names.datasets[dataset]}\nn = {shown[0].n}".replace(", ", ",\n"))
    figure.supxlabel("tokens removed (%), most important first", fontsize=7)
    legend(figure, names.methods.values())
    return figure


def limits(column: Sequence[Curves]) -> tuple[float, float]:
    """The heights that a figure's column of panels shows: its curves, and as much again for intervals.

    Where hardly anything can be lost, an interval of d̄ is many times the curve; it is cut at the frame.
    """
    shown = np.concatenate([found.shown for found in column], axis=1)
    low, high = shown[0].min(), shown[0].max()
    lowest, highest = max(np.nanmin(shown), 2 * low - high), min(np.nanmax(shown), 2 * high - low)
    pad = 0.04 * (highest - lowest)
    room = 0.4 * (highest - lowest) * any(found.remark for found in column)
    return float(lowest - pad), float(highest + pad + room)
