"""Figure 2b: β over many decades, beside two references (2a: see `figure4`).

A column per data set and protocol: curves above, and below, against β: drop at 11 %, area over the curve, the
target's probability with T in place of X, and the bits per token that T keeps of X.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from iba.report.curves import Curves, in_words, quantity
from iba.report.drawing import PAGE_WIDTH, Picture, lacking, legend
from iba.report.stored import Stored
from iba.report.studies import METHOD, X_ALONE, StudyRows, load
from iba.report.study_panels import (
    AXIS,
    BARE,
    REMOVED,
    Colours,
    colour_bar,
    colours,
    curves,
    draw_curves,
    draw_levels,
    draw_track,
    level_of_points,
    samples,
    title,
    track,
)

STUDY, BITS = "betas", "bits_per_token"
#: Rows below the curves → what they are measured against: the same number without any optimisation.
_AGAINST = {"drop_11": None, "area_over": None, "prob_bottleneck": "prob_start", BITS: "bits_per_token_start"}
_AXIS = AXIS | {"prob_bottleneck": "target probability\nwith bottleneck", BITS: "bits per token"}
_WITHOUT = "whole text, or before optimisation"
_PAPERS, _SELECTED = "the paper's β", "selected β (corrected, uncut texts)"
#: The paper's β is one of the points: a pale band behind it, so that its interval can be seen.
_LINES: dict[str, dict[str, Any]] = {
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
    heights = [1.9, *[1] * len(_AGAINST)]
    grid = figure.subplots(len(heights), len(study), sharey="row", squeeze=False, height_ratios=heights)
    colour = colours({beta for rows in study for beta in rows.values})
    for column, rows, shown in zip(grid.T, study, found, strict=True):
        column[0].set_title(title(stored, rows))
        draw_curves(column[0], rows, shown, colour)
        column[0].set_xlabel(REMOVED)
        for axes, measure in zip(column[1:], _AGAINST, strict=True):
            _draw_measure(axes, stored, rows, measure, colour)
            axes.tick_params(axis="x", labelbottom=measure == BITS)
        column[-1].set_xlabel("β")
    for axes, label in zip(grid[:, 0], [quantity(found), *_AXIS.values()], strict=True):
        axes.set_ylabel(label)
    colour_bar(figure, list(grid[0]), colour, [power(float(beta)) for beta in colour], "β")
    legend(figure)
    return figure


def _draw_measure(axes: Axes, stored: Stored, rows: StudyRows, measure: str, colour: Colours) -> None:
    found, start = track(rows, measure, stored.how), _AGAINST[measure]
    if found.empty:
        lacking(axes, "not stored", va="center")
    else:
        draw_track(axes, found, colour)
    if start is None:
        draw_levels(axes, rows, measure, stored.how)
    elif not math.isnan(level := level_of_points(rows, start)):
        axes.axhline(level, color="black", linestyle="-.", linewidth=0.8, label=_WITHOUT, zorder=0)
    if measure == BITS and (found["estimate"] > 0).any():
        axes.set_yscale("log", nonpositive="mask")
    _beta_axis(axes, [float(beta) for beta in colour])
    for label, beta in marked_betas(stored, rows).items():
        axes.axvline(beta, color="#b2182b", label=label, zorder=0, **_LINES[label])


def marked_betas(stored: Stored, rows: StudyRows) -> dict[str, float]:
    """The paper's β and the one that `corrected` selected, which means something for the same noise alone."""
    found = {}
    described, corrected = (stored.record(p, rows.dataset, METHOD) for p in ("described", "corrected"))
    paper = described.get("settings", {}).get("method", {}).get("beta")
    if isinstance(paper, int | float):
        found[_PAPERS] = float(paper)
    beta = corrected.get("provenance", {}).get("learned", {}).get("beta")
    noise = corrected.get("settings", {}).get("method", {}).get("noise")
    if beta is not None and noise == rows.settings["method"].get("noise"):
        found[_SELECTED] = float(np.ravel(beta)[0])
    return found


def _beta_axis(axes: Axes, betas: Sequence[float]) -> None:
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
