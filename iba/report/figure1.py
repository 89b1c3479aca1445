"""Figure 1: normalised drop d̄ against the share of removed tokens, a panel per protocol and data set.

Where d̄ means little, all panels of the data set show the probability (`iba/report/curves.py`). The companion
`figure1_probability` shows it everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iba.evaluation.ranking import FIRST_STEP
from iba.report.curves import PROBABILITY, Curves, mean_curves, quantity, readable
from iba.report.drawing import PAGE_WIDTH, Look, Picture, lacking, legend, share_axis
from iba.report.stored import Stored

#: Line style and marker by rank of the method, so that a grey print can still be read.
_MARKS = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "x"), ((0, (5, 1)), "D"), ((0, (1, 1)), "v"))
#: By protocol and data set.
Panels = dict[tuple[str, str], Curves]


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure1` and the unscaled companion."""
    scaled = panels(stored)
    shown, plain = readable(scaled), {key: found.unscaled() for key, found in scaled.items()}
    of = "of the target while tokens are removed, most important first. Dotted: the first step, 11 %"
    of += f" (Table 1); shaded: {stored.how.percent} bootstrap intervals, wide ones cut at the frame."
    drop = "Normalised drop of the probability (1: whole text, 0: emptied text)"
    yield Picture("figure1", draw(stored, shown, quantity(shown.values())), f"Figure 1. {drop} {of}")
    unscaled = "Figure 1, unscaled. Mean probability"
    yield Picture("figure1_probability", draw(stored, plain, PROBABILITY), f"{unscaled} {of}")


def panels(stored: Stored) -> Panels:
    """The normalised drops by protocol and data set, from the most-first deletion rows."""
    found = {}
    for protocol in stored.protocols:
        for dataset in stored.datasets:
            rows = stored.deletion.of(protocol=protocol, dataset=dataset)
            if len(rows.rows):
                methods, curves = rows.stacked()
                found[protocol, dataset] = mean_curves(methods, rows.fractions, curves, stored.how)
    return found


def draw(stored: Stored, found: Panels, label: str) -> Figure:
    """Protocols as rows, data sets as columns, one legend above."""
    protocols, columns, names = stored.protocols, stored.datasets, stored.names
    each = max(1.26, min(2.3, (PAGE_WIDTH - 0.6) / len(columns)))
    size = 0.6 + each * len(columns), 0.8 + 1.5 * len(protocols)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(protocols), len(columns), sharex=True, sharey="col", squeeze=False)
    for line, protocol in zip(grid, protocols, strict=True):
        line[0].set_ylabel(f"{names.protocols[protocol]}\n{label}")
        for axes, dataset in zip(line, columns, strict=True):
            if (protocol, dataset) in found:
                draw_panel(axes, found[protocol, dataset], stored)
            else:
                lacking(axes, "not run")
    for axes, dataset in zip(grid[0], columns, strict=True):
        shown = [found[p, dataset] for p in protocols if (p, dataset) in found]
        axes.set_ylim(*limits(shown))
        sizes = " or ".join(map(str, sorted({one.n for one in shown})))
        axes.set_title(f"{names.datasets[dataset]}\nn = {sizes}".replace(", ", ",\n"))
    figure.supxlabel("tokens removed (%), most important first", fontsize=7)
    legend(figure, names.methods.values())
    return figure


def draw_panel(axes: Axes, found: Curves, stored: Stored) -> None:
    """The curves of one panel with their intervals."""
    names = stored.names
    styles = dict(zip(names.methods, cycle(_MARKS), strict=False))
    for method, mean, low, high in zip(found.names, *found.shown, strict=True):
        colour = names.colours[method]
        axes.fill_between(found.fractions, low, high, color=colour, alpha=0.18, linewidth=0)
        line, marker = styles[method]
        look: Look = {"color": colour, "linestyle": line, "marker": marker}
        axes.plot(found.fractions, mean, label=names.methods[method], **look)
    share_axis(axes, found.remark)
    axes.axvline(FIRST_STEP, color="0.7", linewidth=0.5, linestyle=":", zorder=0)


def limits(column: Sequence[Curves]) -> tuple[float, float]:
    """The heights that a figure's column of panels shows: its curves, and as much again for intervals.

    Where hardly anything can be lost, an interval of d̄ is many times the curve; it is cut at the frame.
    """
    curves = [c.shown for c in column if np.isfinite(c.shown[0]).all()]  # NaN where nothing at all is lost
    if not curves:
        return 0.0, 1.0
    means = np.concatenate([mean.ravel() for mean, *_ in curves])
    low, high, ends = means.min(), means.max(), np.concatenate([shown.ravel() for shown in curves])
    lowest, highest = max(np.nanmin(ends), 2 * low - high), min(np.nanmax(ends), 2 * high - low)
    pad = 0.04 * (highest - lowest)
    remark = 0.4 * (highest - lowest) if any(c.remark for c in column) else 0  # room for it
    return float(lowest - pad), float(highest + pad + remark)
