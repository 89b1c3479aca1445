"""Figure 2b: β over many decades, beside two references (2a: see `figure4`).

A column per data set and protocol: curves above, and below, against β: drop at 11 %, area over the curve, the
target's probability with T in place of X, and the bits per token that T keeps of X.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from iba.pipeline.views import Value
from iba.report import study_panels
from iba.report.drawing import PAGE_WIDTH, Look, Picture
from iba.report.stored import Stored
from iba.report.studies import METHOD, StudyRows, load

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
        caption = (
            "Figure 2b. β over many decades: degradation curves, one per β, and against β two scores of the "
            "curve, the target's probability with the bottleneck, and the bits per token that it keeps. "
            f"Bars and bands: {stored.how.percent} bootstrap intervals."
        )
        yield Picture("figure2b", draw(stored, study), caption)


def draw(stored: Stored, study: Sequence[StudyRows]) -> Figure:
    """Columns are data sets and protocols; every row has one scale, so that they can be compared."""
    figure = Figure(figsize=(PAGE_WIDTH if len(study) > 1 else 4.4, 7.4), layout="constrained")
    measures = list(study_panels.AXIS)
    heights = [1.9, *[1] * len(measures)]
    grid = figure.subplots(len(heights), len(study), sharey="row", squeeze=False, height_ratios=heights).T
    betas = sorted({beta for rows in study for beta in rows.values})
    for column, rows in zip(grid, study, strict=True):
        for axes in column[1:]:
            _beta_axis(axes, stored, rows, betas)
    study_panels.draw(figure, grid, stored, study, measures, betas, ("β", "β", power))
    for axes in grid[:, 1:-1].flat:
        axes.set_xlabel("")
        axes.tick_params(axis="x", labelbottom=False)
    for axes in grid[1:].flat:
        axes.set_ylabel("")
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


def _beta_axis(axes: Axes, stored: Stored, rows: StudyRows, betas: Sequence[Value]) -> None:
    for label, beta in marked_betas(stored, rows).items():
        axes.axvline(beta, color="#b2182b", label=label, zorder=0, **_LINES[label])
    axes.set(xscale="log", xlim=(float(betas[0]) / 2, float(betas[-1]) * 2))
    axes.xaxis.set_major_locator(LogLocator(numticks=20))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda beta, _: power(beta)))


def power(beta: Value) -> str:
    """A β as a power of ten where it is one."""
    exponent = math.log10(float(beta)) if float(beta) > 0 else math.nan
    if math.isnan(exponent) or abs(exponent - round(exponent)) > 1e-6 or abs(exponent) < 1.5:
        return f"{beta:g}"
    return f"$10^{{{round(exponent)}}}$"
