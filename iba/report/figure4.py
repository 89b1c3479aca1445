"""Figure 4: the bottleneck after every layer — normalised drop d̄, drop at 11 %, area over the curve.

A row per data set and protocol; o and m of d̄ are shared by the curves of a row. Intervals resample instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

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
    sample,
    title,
    track,
)
from iba.report.study_rows import StudyRows, Value, load

STUDY = "layers"


def draw(
    stored: Stored,
    study: Sequence[StudyRows],
    chosen: Sequence[Value] | None = None,
    scores: Sequence[str] = (DROP, AREA),
) -> Figure:
    """Curves of the `chosen` layers (all by default), and `scores` of all layers, the chosen ones filled."""
    figure = Figure(figsize=(PAGE_WIDTH, 0.5 + 1.75 * len(study)), layout="constrained")
    widths = [2, *[1.15] * len(scores)]
    grid = figure.subplots(len(study), len(widths), sharex="col", squeeze=False, width_ratios=widths)
    every = sorted({layer for rows in study for layer in rows.points})
    colour = colours([layer for layer in every if chosen is None or layer in chosen])
    for axes, rows in zip(grid, study, strict=True):
        draw_curves(axes[0], rows, colour)
        axes[0].set_title(title(stored, rows))
        axes[0].set_ylabel("normalised drop $\\bar{d}$")
        for panel, score in zip(axes[1:], scores, strict=True):
            if (found := track(rows, score, stored.how)) is not None:
                draw_track(panel, found, colour)
            draw_levels(panel, rows, score, stored.how)
            panel.set_ylabel(AXIS[score])
            panel.xaxis.set_major_locator(MultipleLocator(2 if len(every) <= 12 else 4))
            panel.xaxis.set_minor_locator(MultipleLocator(1))
    for score_axes in grid[:, 1:].T:
        _share_y(list(score_axes))
    grid[-1, 0].set_xlabel(REMOVED)
    for panel in grid[-1, 1:]:
        panel.set_xlabel("bottleneck after layer")
    colour_bar(figure, list(grid[:, 0]), colour, [str(layer) for layer in colour], "layer")
    legend(figure)
    return figure


def _share_y(column: Sequence[Axes]) -> None:
    """The same scale in all rows, so that protocols can be compared."""
    low = min(axes.get_ylim()[0] for axes in column)
    high = max(axes.get_ylim()[1] for axes in column)
    for axes in column:
        axes.set_ylim(low, high)


def caption(stored: Stored) -> str:
    """What the figure shows, and of how many instances."""
    samples = sorted({sample(rows) for rows in load(stored, STUDY)})
    return (
        "Figure 4. The bottleneck after every layer: normalised drop while tokens are removed, most "
        "important first (one colour per layer), mean drop of the target's probability at 11 % and "
        f"mean area over its curve, with {stored.how.percent} bootstrap "
        "intervals (bars and bands); the curves are means without intervals, which would cover one another; "
        f"{'; '.join(samples)}.{''.join(chosen_betas(stored, r) for r in load(stored, STUDY))}"
    )


def chosen_betas(stored: Stored, rows: StudyRows) -> str:
    """A sentence on the β of every layer where it was chosen on training rows; else nothing."""
    if rows.n_calibration is None:
        return ""
    betas = ", ".join(f"{float(rows.learned[layer]['beta']):g}" for layer in rows.points)
    where = f"{stored.names.datasets[rows.dataset]}, {stored.names.protocols[rows.protocol]}"
    return (
        f" {where}: β chosen for every layer by the largest mean drop at 11 % on "
        f"{rows.n_calibration} held-out training rows: {betas}."
    )


def write(stored: Stored) -> list[Path]:
    """Store `figures/figure4`; nothing where the study was not run."""
    if not (study := load(stored, STUDY)):
        return []
    with look():
        return save(draw(stored, study), stored.folder / "figures" / "figure4", stored.made_with)
