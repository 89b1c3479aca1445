"""Figure 1: normalised drop d̄ against the share of removed tokens, a panel per protocol and data set.

Where d̄ means little, all panels of the data set show the probability (`iba/report/curves.py`). The companion
`figure1_probability` shows it everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iba.evaluation.ranking import FIRST_STEP
from iba.report.curves import PROBABILITY, Curves, mean_curves, quantity, readable
from iba.report.drawing import PAGE_WIDTH, Picture, lacking, legend, marks, remark, share_axis
from iba.report.stored import Stored

Panels = dict[tuple[str, str], Curves]


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure1` (all protocols), one file per protocol, and the unscaled companion."""
    scaled = panels(stored)
    shown = readable(scaled)
    label = quantity(shown.values())
    yield Picture("figure1", draw(stored, stored.protocols, shown, label), _caption(stored, shown))
    for protocol in stored.protocols:
        yield Picture(f"figure1_{protocol}", draw(stored, [protocol], shown, label))
    plain = {key: found.unscaled() for key, found in scaled.items()}
    yield Picture(
        "figure1_probability",
        draw(stored, stored.protocols, plain, PROBABILITY),
        "Figure 1, unscaled: mean probability of the target while tokens are removed, most important first; "
        f"{_shading(stored)}.",
    )


def panels(stored: Stored) -> Panels:
    """The normalised drops by protocol and data set, from the most-first deletion rows."""
    found = {}
    for (protocol, dataset), _ in stored.deletion.rows.groupby(["protocol", "dataset"], observed=True):
        rows = stored.deletion.of(protocol=protocol, dataset=dataset)
        methods, curves = rows.stacked()
        found[protocol, dataset] = mean_curves(methods, rows.fractions, curves, stored.how)
    return found


def draw(stored: Stored, protocols: Sequence[str], found: Panels, label: str) -> Figure:
    """Protocols as rows, data sets as columns, one legend above."""
    columns = stored.datasets
    width = max(PAGE_WIDTH, 1.38 * len(columns)) if len(columns) > 2 else 0.6 + 2.3 * len(columns)
    figure = Figure(figsize=(width, 0.8 + 1.5 * len(protocols)), layout="constrained")
    grid = figure.subplots(len(protocols), len(columns), sharex=True, sharey="col", squeeze=False)
    for line, protocol in zip(grid, protocols, strict=True):
        for axes, dataset in zip(line, columns, strict=True):
            if (protocol, dataset) in found:
                draw_panel(axes, found[protocol, dataset], stored)
            else:
                lacking(axes, "not run")
        line[0].set_ylabel(f"{stored.names.protocols[protocol]}\n{label}")
    for axes, dataset in zip(grid[0], columns, strict=True):
        shown = [found[p, dataset] for p in protocols if (p, dataset) in found]
        axes.set_ylim(*limits(shown))
        sizes = sorted({one.n for (_, name), one in found.items() if name == dataset})
        name = stored.names.datasets[dataset].replace(", ", ",\n")
        axes.set_title(f"{name}\nn = {' or '.join(map(str, sizes))}")
    figure.supxlabel("tokens removed (%), most important first", fontsize=7)
    legend(figure, list(stored.names.methods.values()))
    return figure


def draw_panel(axes: Axes, found: Curves, stored: Stored) -> None:
    """The curves of one panel with their intervals."""
    styles, names = marks(stored.names.methods), stored.names
    for method, mean, low, high in zip(found.names, found.mean, found.low, found.high, strict=True):
        colour = names.colours[method]
        axes.fill_between(found.fractions, low, high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(found.fractions, mean, color=colour, label=names.methods[method], **styles[method])
    share_axis(axes)
    axes.axvline(FIRST_STEP, color="0.7", linewidth=0.5, linestyle=":", zorder=0)
    remark(axes, found.remark)


def limits(column: Sequence[Curves]) -> tuple[float, float]:
    """The heights that a figure's column of panels shows: its curves, and as much again for intervals.

    Where hardly anything can be lost, an interval of d̄ is many times the curve; it is cut at the frame.
    """
    curves = [c for c in column if np.isfinite(c.mean).all()]  # NaN where nothing at all is lost
    if not curves:
        return 0.0, 1.0
    low, high = min(c.mean.min() for c in curves), max(c.mean.max() for c in curves)
    lowest = max(min(np.fmin(c.low, low).min() for c in curves), 2 * low - high)  # fmin passes NaN over
    highest = min(max(np.fmax(c.high, high).max() for c in curves), 2 * high - low)
    pad = 0.04 * (highest - lowest)
    remark = 0.4 * (highest - lowest) if any(c.remark for c in column) else 0  # room for it
    return float(lowest - pad), float(highest + pad + remark)


def _caption(stored: Stored, shown: Panels) -> str:
    small = dict.fromkeys(stored.names.datasets[d] for (_, d), found in shown.items() if found.remark)
    why = f" ({', '.join(small)}: the probability itself, as emptying loses too little)" if small else ""
    return (
        "Figure 1. Normalised drop of the target's probability (1 with the whole text, 0 at the lowest mean "
        f"of an emptied one) while tokens are removed, most important first{why}; {_shading(stored)}."
    )


def _shading(stored: Stored) -> str:
    sizes = stored.table1.rows.groupby("dataset", observed=True)["instance_id"].nunique()
    each = ", ".join(f"{stored.names.datasets[d]} {sizes[d]}" for d in stored.datasets)
    return (
        f"dotted: the first step, 11 % (Table 1); shaded: {stored.how.percent} bootstrap intervals, "
        f"wide ones cut at the frame; n: {each}"
    )
