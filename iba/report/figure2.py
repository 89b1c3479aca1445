"""Figure 2: (a) the bottleneck after selected layers; (b) β over many decades, beside two references.

(a) is Figure 4 with a few layers singled out. (b) has a column per data set and protocol: curves of the
normalised drop d̄ above, and below, against β: drop at 11 %, area over the curve, the target's probability
with T in place of X, and the bits per token that T keeps of X.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from iba.report import figure4
from iba.report.drawing import PAGE_WIDTH, legend, look, save
from iba.report.rows import Stored
from iba.report.study_panels import (
    AREA,
    AXIS,
    DROP,
    REMOVED,
    colour_bar,
    colours,
    draw_curves,
    draw_levels,
    draw_track,
    level_of_points,
    sample,
    title,
    track,
)
from iba.report.study_rows import X_ALONE, StudyRows, Value, load

STUDY = "betas"
#: The layers of panel (a), of 12.
LAYERS, DEPTH = (1, 4, 8, 9, 12), 12
PROBABILITY, BITS = "prob_bottleneck", "bits_per_token"
#: Rows of (b) below the curves → what they are measured against: the same number without any optimisation.
_QUANTITIES = {
    DROP: (AXIS[DROP], None),
    AREA: (AXIS[AREA], None),
    PROBABILITY: ("target probability\nwith bottleneck", "prob_start"),
    BITS: ("bits per token", "bits_per_token_start"),
}
_WITHOUT = "whole text, or before optimisation"
_PAPERS, _SELECTED = "the paper's β", "selected β (corrected, uncut texts)"
#: The paper's β is one of the points: a pale band behind it, so that its interval can be seen.
_LINES: dict[str, dict[str, Any]] = {
    _PAPERS: {"linewidth": 5, "alpha": 0.25},
    _SELECTED: {"linestyle": "--", "linewidth": 0.9},
}


def selected_layers(study: Sequence[StudyRows]) -> list[Value]:
    """The layers of panel (a), scaled where the encoder has another depth."""
    depth = max(int(layer) for rows in study for layer in rows.points)
    return sorted({max(1, round(layer * depth / DEPTH)) for layer in LAYERS})


def marked_betas(stored: Stored, rows: StudyRows) -> dict[str, float]:
    """The paper's β and the one that `corrected` selected, which means something for the same noise alone."""
    found = {}
    paper = stored.cells.get(("described", rows.dataset, "iba"), {}).get("settings", {}).get("method", {})
    if isinstance(paper.get("beta"), int | float):
        found[_PAPERS] = float(paper["beta"])
    corrected = stored.cells.get(("corrected", rows.dataset, "iba"), {})
    beta = corrected.get("provenance", {}).get("learned", {}).get("beta")
    noise = corrected.get("settings", {}).get("method", {}).get("noise")
    if beta is not None and noise == rows.settings.get("noise"):
        found[_SELECTED] = float(np.ravel(beta)[0])
    return found


def draw_betas(stored: Stored, study: Sequence[StudyRows]) -> Figure:
    """Columns are data sets and protocols; every row has one scale, so that they can be compared."""
    width = PAGE_WIDTH if len(study) > 1 else 4.4
    figure = Figure(figsize=(width, 7.4), layout="constrained")
    grid = figure.subplots(
        1 + len(_QUANTITIES),
        len(study),
        sharey="row",
        squeeze=False,
        height_ratios=[1.9, *[1] * len(_QUANTITIES)],
    )
    colour = colours(sorted({beta for rows in study for beta in rows.points}))
    for column, rows in zip(grid.T, study, strict=True):
        column[0].set_title(title(stored, rows))
        draw_curves(column[0], rows, colour)
        column[0].set_xlabel(REMOVED)
        for axes, quantity in zip(column[1:], _QUANTITIES, strict=True):
            _draw_quantity(axes, stored, rows, quantity, colour)
            _beta_axis(axes, list(colour))
            for label, beta in marked_betas(stored, rows).items():
                axes.axvline(beta, color="#b2182b", label=label, zorder=0, **_LINES[label])
        for axes in column[1:-1]:
            axes.tick_params(axis="x", labelbottom=False)
        column[-1].set_xlabel("β")
    for axes, label in zip(
        grid[:, 0], ["normalised drop $\\bar{d}$", *(name for name, _ in _QUANTITIES.values())], strict=True
    ):
        axes.set_ylabel(label)
    colour_bar(figure, list(grid[0]), colour, [power(float(beta)) for beta in colour], "β")
    legend(figure)
    return figure


def _draw_quantity(
    axes: Axes, stored: Stored, rows: StudyRows, quantity: str, colour: dict[Value, tuple[float, ...]]
) -> None:
    found, start = track(rows, quantity, stored.how), _QUANTITIES[quantity][1]
    if found is None:
        axes.text(0.5, 0.5, "not stored", transform=axes.transAxes, ha="center", va="center", color="0.5")
    else:
        draw_track(axes, found, colour)
    if start is None:
        draw_levels(axes, rows, quantity, stored.how)
    elif not math.isnan(level := level_of_points(rows, start)):
        axes.axhline(level, color="black", linestyle="-.", linewidth=0.8, label=_WITHOUT, zorder=0)
    if quantity == BITS and found is not None and (found.estimate > 0).any():
        axes.set_yscale("log", nonpositive="mask")


def _beta_axis(axes: Axes, betas: Sequence[Value]) -> None:
    axes.set_xscale("log")
    numbers = [float(beta) for beta in betas]
    axes.set_xlim(min(numbers) / 2, max(numbers) * 2)
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


def caption(stored: Stored, part: str) -> str:
    """What panel (a) or (b) shows, and of how many instances."""
    study = load(stored, figure4.STUDY if part == "a" else STUDY)
    samples = "; ".join(sorted({sample(rows) for rows in study}))
    confidence = stored.how.percent
    what = (
        "The bottleneck after selected layers: normalised drop while tokens are removed, most important "
        "first, and mean drop of the target's probability at 11 % for every layer (selected ones filled)"
        if part == "a"
        else "β over many decades: normalised drop while tokens are removed, most important first (one "
        "colour per β) and, against β, mean drop at 11 %, area over the curve, the target's probability "
        "with the bottleneck (dash-dotted: of the whole text), and the bits per token that it lets through "
        "(dash-dotted: before the optimisation); corrected selects its β on training rows, not cut as here"
        + "".join(f"; for “X alone” stands the {name}" for name in _stand_ins(stored, study))
    )
    bare = " (bars and bands); the curves are means without intervals, which would cover one another"
    betas = "".join(figure4.chosen_betas(stored, rows) for rows in study) if part == "a" else ""
    return f"Figure 2{part}. {what}, with {confidence} bootstrap intervals{bare}; {samples}.{betas}"


def _stand_ins(stored: Stored, study: Sequence[StudyRows]) -> list[str]:
    """What stands for the paper's "X alone", and under which protocols."""
    protocols: dict[str, list[str]] = {}
    for rows in study:
        if X_ALONE in rows.references:
            protocols.setdefault(rows.x_alone(), []).append(stored.names.protocols[rows.protocol])
    return [f"{name} ({', '.join(dict.fromkeys(where))})" for name, where in protocols.items()]


def write(stored: Stored) -> list[Path]:
    """Store `figures/figure2a` and `figures/figure2b`, each where its study was run."""
    paths, folder = [], stored.folder / "figures"
    with look():
        if layers := load(stored, figure4.STUDY):
            chosen = selected_layers(layers)
            paths += save(
                figure4.draw(stored, layers, chosen, (DROP,)), folder / "figure2a", stored.made_with
            )
        if betas := load(stored, STUDY):
            paths += save(draw_betas(stored, betas), folder / "figure2b", stored.made_with)
    return paths
