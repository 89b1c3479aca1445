"""Figure 4: the bottleneck after every layer — curves, drop at 11 %, area over the curve.

A row per data set and protocol; o and m of d̄ are shared by the curves of a row. Intervals resample instances.
Figure 2a is the same with a few layers singled out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from iba.pipeline.views import Value
from iba.report import study_panels
from iba.report.drawing import PAGE_WIDTH, Picture
from iba.report.stored import Stored
from iba.report.studies import StudyRows, load

STUDY = "layers"
#: The layers of Figure 2a, of 12.
SELECTED, DEPTH = (1, 4, 8, 9, 12), 12


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure2a` and `figure4`; nothing where the study was not run."""
    if study := load(stored, STUDY):
        every = sorted({layer for rows in study for layer in rows.values})
        some = [layer for layer in selected_layers(int(every[-1])) if layer in every]
        bars = f"Bars and bands: {stored.how.percent} bootstrap intervals."
        bars += "".join(chosen_betas(stored, rows) for rows in study)
        what = "Degradation curves with IBA's bottleneck after"
        yield Picture(
            "figure2a",
            draw(stored, study, every, some, ["drop_11"]),
            f"Figure 2a. {what} selected layers, and the drop at 11 % after every layer. {bars}",
        )
        yield Picture(
            "figure4",
            draw(stored, study, every, every, ["drop_11", "area_over"]),
            f"Figure 4. {what} every layer, the drop at 11 % and the area over the curve. {bars}",
        )


def selected_layers(depth: int) -> list[int]:
    """The layers of Figure 2a, scaled where the encoder has another depth."""
    return sorted({max(1, round(layer * depth / DEPTH)) for layer in SELECTED})


def draw(
    stored: Stored,
    study: Sequence[StudyRows],
    every: Sequence[Value],
    chosen: Sequence[Value],
    measures: Sequence[str],
) -> Figure:
    """Curves of the `chosen` layers and `measures` of `every` one; every column has one scale."""
    figure = Figure(figsize=(PAGE_WIDTH, 0.5 + 1.75 * len(study)), layout="constrained")
    widths = [2, *[1.15] * len(measures)]
    grid = figure.subplots(
        len(study), len(widths), sharex="col", sharey="col", squeeze=False, width_ratios=widths
    )
    varied = "bottleneck after layer", "layer", str
    study_panels.draw(figure, grid, stored, study, measures, chosen, varied)
    for axes in grid[0, 1:]:
        axes.xaxis.set_major_locator(MultipleLocator(2 if len(every) <= 12 else 4))
        axes.xaxis.set_minor_locator(MultipleLocator(1))
    for axes in grid[:-1].flat:
        axes.set_xlabel("")
    return figure


def chosen_betas(stored: Stored, rows: StudyRows) -> str:
    """A sentence on the β of every layer where it was chosen on training rows; else nothing."""
    if rows.n_calibration is None:
        return ""
    betas = ", ".join(f"{rows.records[layer]['settings']['method']['beta']:g}" for layer in rows.values)
    where = f"{stored.names.datasets[rows.dataset]}, {stored.names.protocols[rows.protocol]}"
    return f" {where}: each layer's β was chosen on {rows.n_calibration} held-out training rows: {betas}."
