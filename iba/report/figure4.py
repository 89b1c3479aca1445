"""Figure 4: the bottleneck after every layer — curves, drop at 11 %, area over the curve.

A row per data set and protocol; o and m of d̄ are shared by the curves of a row. Intervals resample instances.
Figure 2a is the same with a few layers singled out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator

from iba.pipeline.views import Value
from iba.report.curves import Curves, in_words, quantity
from iba.report.drawing import PAGE_WIDTH, Picture, legend
from iba.report.stored import Stored
from iba.report.studies import StudyRows, load
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

STUDY = "layers"
#: The layers of Figure 2a, of 12.
SELECTED, DEPTH = (1, 4, 8, 9, 12), 12


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure2a` and `figure4`; nothing where the study was not run."""
    if not (study := load(stored, STUDY)):
        return
    found = curves(study, stored.how)
    some = "selected layers", "", "for every layer (selected ones filled)"
    yield Picture(
        "figure2a",
        draw(stored, study, found, selected_layers(study), ["drop_11"]),
        f"Figure 2a. {_caption(stored, study, found, *some)}",
    )
    each = "every layer", " (one colour per layer)", "and mean area over its curve"
    every = [layer for rows in study for layer in rows.values]
    yield Picture(
        "figure4",
        draw(stored, study, found, every, ["drop_11", "area_over"]),
        f"Figure 4. {_caption(stored, study, found, *each)}",
    )


def selected_layers(study: Sequence[StudyRows]) -> list[Value]:
    """The layers of Figure 2a, scaled where the encoder has another depth."""
    depth = max(int(layer) for rows in study for layer in rows.values)
    return sorted({max(1, round(layer * depth / DEPTH)) for layer in SELECTED})


def draw(
    stored: Stored,
    study: Sequence[StudyRows],
    found: Sequence[Curves],
    chosen: Collection[Value],
    measures: Sequence[str],
) -> Figure:
    """Curves of the `chosen` layers, and `measures` of all layers, the chosen ones filled."""
    figure = Figure(figsize=(PAGE_WIDTH, 0.5 + 1.75 * len(study)), layout="constrained")
    widths = [2, *[1.15] * len(measures)]
    grid = figure.subplots(len(study), len(widths), sharex="col", squeeze=False, width_ratios=widths)
    every = {layer for rows in study for layer in rows.values}
    colour = colours(every & set(chosen))
    for line, rows, shown in zip(grid, study, found, strict=True):
        draw_line(list(line), stored, rows, shown, measures, colour)
        make_room(line[0], [shown])
        labels = [quantity([shown]), *(AXIS[measure] for measure in measures)]
        for axes, label in zip(line, labels, strict=True):
            axes.set_ylabel(label)
    for column in grid[:, 1:].T:
        _one_scale(list(column), 2 if len(every) <= 12 else 4)
    for axes, label in zip(grid[-1], [REMOVED, *["bottleneck after layer"] * len(measures)], strict=True):
        axes.set_xlabel(label)
    colour_bar(figure, list(grid[:, 0]), colour, [str(layer) for layer in colour], "layer")
    legend(figure)
    return figure


def _one_scale(column: Sequence[Axes], every: int) -> None:
    """The same scale in all rows, so that protocols can be compared; a number at `every` so many layers."""
    low = min(axes.get_ylim()[0] for axes in column)
    high = max(axes.get_ylim()[1] for axes in column)
    for axes in column:
        axes.set_ylim(low, high)
        axes.xaxis.set_major_locator(MultipleLocator(every))
        axes.xaxis.set_minor_locator(MultipleLocator(1))


def _caption(
    stored: Stored, study: Sequence[StudyRows], found: Sequence[Curves], layers: str, colour: str, also: str
) -> str:
    return (
        f"The bottleneck after {layers}: {in_words(found)} while tokens are removed, most important "
        f"first{colour}, and mean drop of the target's probability at 11 % {also}, with "
        f"{stored.how.percent} bootstrap intervals (bars and bands); {BARE}; {samples(study)}."
        + "".join(chosen_betas(stored, rows) for rows in study)
    )


def chosen_betas(stored: Stored, rows: StudyRows) -> str:
    """A sentence on the β of every layer where it was chosen on training rows; else nothing."""
    if rows.n_calibration is None:
        return ""
    betas = ", ".join(f"{rows.records[layer]['settings']['method']['beta']:g}" for layer in rows.values)
    where = f"{stored.names.datasets[rows.dataset]}, {stored.names.protocols[rows.protocol]}"
    return (
        f" {where}: β chosen for every layer by the largest mean drop at 11 % on "
        f"{rows.n_calibration} held-out training rows: {betas}."
    )
