"""Figure 2b: β over many decades, beside two references (2a: see `figure4`).

A column per data set and protocol: curves above, and below, against β: drop at 11 %, area over the curve, the
target's probability with T in place of X, and the bits per token that T keeps of X.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from iba.report.curves import Curves, in_words, quantity
from iba.report.drawing import PAGE_WIDTH, Look, Picture, legend
from iba.report.stored import Stored
from iba.report.studies import METHOD, X_ALONE, StudyRows, load
from iba.report.study_panels import (
    AXIS,
    BARE,
    REMOVED,
    colour_bar,
    colours,
    curves,
    draw_line,
    make_room,
    samples,
)

STUDY = "betas"
_PAPERS, _SELECTED = "the paper's β", "selected β (corrected, uncut texts)"
#: The paper's β is one of the points: a pale band behind it, so that its interval can be seen.
_LINES: dict[str, Look] = {
    _PAPERS: {"linewidth": 5, "alpha": 0.25},
    _SELECTED: {"linestyle": "--", "linewidth": 0.9},
}


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure2b`; nothing where the study was not run."""
    if study := load(stored, STUDY):
        found = curves(study, stored.how)
        yield Picture("figure2b", draw(stored, study, found), caption(stored, study, found))


def draw(stored: Stored, study: Sequence[StudyRows], found: Sequence[Curves]) -> Figure:
    """Columns are data sets and protocols; every row has one scale, so that they can be compared."""
    figure = Figure(figsize=(PAGE_WIDTH if len(study) > 1 else 4.4, 7.4), layout="constrained")
    heights = [1.9, *[1] * len(AXIS)]
    grid = figure.subplots(len(heights), len(study), sharey="row", squeeze=False, height_ratios=heights)
    colour = colours({beta for rows in study for beta in rows.values})
    for column, rows, shown in zip(grid.T, study, found, strict=True):
        draw_line(list(column), stored, rows, shown, list(AXIS), colour)
        column[0].set_xlabel(REMOVED)
        for axes in column[1:]:
            _beta_axis(axes, [float(beta) for beta in colour], marked_betas(stored, rows))
            axes.tick_params(axis="x", labelbottom=axes is column[-1])
        column[-1].set_xlabel("β")
    make_room(grid[0, 0], found)
    for axes, label in zip(grid[:, 0], [quantity(found), *AXIS.values()], strict=True):
        axes.set_ylabel(label)
    colour_bar(figure, list(grid[0]), colour, [power(float(beta)) for beta in colour], "β")
    legend(figure)
    return figure


def marked_betas(stored: Stored, rows: StudyRows) -> dict[str, float]:
    """The paper's β and the one that `corrected` selected, which means something for the same noise alone."""
    found = {}
    described, corrected = (stored.record(p, rows.dataset, METHOD) for p in ("described", "corrected"))
    paper = described.get("settings", {}).get("method", {}).get("beta")
    if isinstance(paper, int | float):
        found[_PAPERS] = float(paper)
    method = corrected.get("settings", {}).get("method", {})
    if "tuning" in corrected and method.get("noise") == rows.settings["method"].get("noise"):
        found[_SELECTED] = float(method["beta"])
    return found


def _beta_axis(axes: Axes, betas: Sequence[float], marked: Mapping[str, float]) -> None:
    for label, beta in marked.items():
        axes.axvline(beta, color="#b2182b", label=label, zorder=0, **_LINES[label])
    axes.set_xscale("log")
    axes.set_xlim(min(betas) / 2, max(betas) * 2)
    axes.xaxis.set_major_locator(LogLocator(numticks=20))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda beta, _: power(beta)))
    axes.minorticks_off()


def power(beta: float) -> str:
    """A β as a power of ten where it is one."""
    exponent = math.log10(beta) if beta > 0 else math.nan
    if math.isnan(exponent) or abs(exponent - round(exponent)) > 1e-6 or abs(exponent) < 1.5:
        return f"{beta:g}"
    return f"$10^{{{round(exponent)}}}$"


def caption(stored: Stored, study: Sequence[StudyRows], found: Sequence[Curves]) -> str:
    """What the figure shows, of how many instances, and what stands for the paper's "X alone" where."""
    alone: dict[str, list[str]] = {}
    for rows in study:
        if X_ALONE in rows.reference_records:
            alone.setdefault(rows.x_alone(), []).append(stored.names.protocols[rows.protocol])
    stands = (f"; for “X alone” stands the {x} ({', '.join(dict.fromkeys(p))})" for x, p in alone.items())
    return (
        f"Figure 2b. β over many decades: {in_words(found)} while tokens are removed, most important first "
        "(one colour per β) and, against β, mean drop at 11 %, area over the curve, the target's probability "
        "with the bottleneck (dash-dotted: of the whole text), and the bits per token that it lets through "
        f"(dash-dotted: before the optimisation), with {stored.how.percent} bootstrap intervals (bars and "
        f"bands); {BARE}; corrected selects its β on training rows, not cut as here{''.join(stands)}; "
        f"{samples(study)}."
    )
