"""What the figures of a study draw: curves of its points, and one number against what varies.

Points have the colours of one sequential map, dark to light as the varied value grows, which a grey print
and colour-blind eyes keep in order; references are grey or black and have a line style of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure

from iba.evaluation.stats import Resampling
from iba.pipeline.views import Value
from iba.report.curves import Curves, mean_curves, quantity, readable
from iba.report.drawing import Look, lacking, legend, share_axis
from iba.report.frame import Frame, summarise
from iba.report.stored import Stored
from iba.report.studies import X_ALONE, StudyRows

#: How references are drawn, by what the legend calls them.
_MARKS: dict[str, Look] = {
    "random": {"color": "0.5", "linestyle": ":", "marker": "x"},
    "norm of the standardised X": {"color": "black", "linestyle": (0, (4, 1.5)), "marker": "D"},
    "norm of the layer's update": {"color": "0.3", "linestyle": (0, (8, 2)), "marker": "s"},
}
_OTHER_MARK: Look = {"color": "0.35", "linestyle": "-.", "marker": "+"}
#: What numbers are called on an axis.
AXIS = {
    "drop_11": "drop at 11 %",
    "area_over": "area over curve",
    "prob_bottleneck": "target probability\nwith bottleneck",
    "bits_per_token": "bits per token",
}
#: Numbers that references do not have → the same without any optimisation.
_START = {"prob_bottleneck": "prob_start", "bits_per_token": "bits_per_token_start"}
#: The lightest end of the map is too faint on white.
_MAP, _LIGHTEST = "viridis", 0.9

Colours = dict[Value, str]


def draw(
    figure: Figure,
    grid: np.ndarray,
    stored: Stored,
    study: Sequence[StudyRows],
    measures: Sequence[str],
    chosen: Sequence[Value],
    varied: tuple[str, str, Callable[[Value], str]],
) -> None:
    """On a grid of panels (rows of the study × parts): the curves of the `chosen` points, and each of
    `measures` at all points, the chosen ones filled.

    `varied`: what varies, for the axis and for the colour bar, and the names of its values.
    """
    axis, title, name = varied
    colour = colours(chosen)
    found = curves(study, stored.how)
    for line, rows, shown in zip(grid, study, found, strict=True):
        of = f"{stored.names.datasets[rows.dataset]}, {stored.names.protocols[rows.protocol]}"
        cut = f", texts cut at {rows.cut} tokens" if rows.cut else ""
        line[0].set(title=f"{of}\nn = {rows.n}{cut}", ylabel=quantity(found))
        line[0].set_xlabel("tokens removed (%), most important first\n(means, without intervals)")
        _draw_curves(line[0], rows, shown, colour)
        for axes, measure in zip(line[1:], measures, strict=True):
            axes.set(xlabel=axis, ylabel=AXIS[measure])
            _draw_measure(axes, rows, measure, colour, stored.how)
    if any(shown.remark for shown in found):
        low, high = grid[0, 0].get_ylim()
        grid[0, 0].set_ylim(low, high + 0.4 * (high - low))
    _colour_bar(figure, list(grid[:, 0]), {name(value): shade for value, shade in colour.items()}, title)
    legend(figure)


def curves(study: Sequence[StudyRows], how: Resampling) -> list[Curves]:
    """The mean curves of the points and then of the references of each, as drops where these can be read."""
    return list(readable({(rows.protocol, rows.dataset): _curves(rows, how) for rows in study}).values())


def _curves(rows: StudyRows, how: Resampling) -> Curves:
    values, points = rows.points.stacked("value")
    methods, references = rows.references.stacked("method")
    both = np.concatenate([points, references], axis=1) if methods else points
    return mean_curves([*values, *methods], rows.points.fractions, both, how)


def colours(values: Sequence[Value]) -> Colours:
    """A colour per varied value, in ascending order."""
    shades = matplotlib.colormaps[_MAP](np.linspace(0, _LIGHTEST, max(len(values), 2)))
    return dict(zip(sorted(values), map(to_hex, shades), strict=False))


def track(frame: Frame, by: str, measure: str, how: Resampling) -> pd.DataFrame:
    """The mean of a number with its interval, by the values of `by` that have it."""
    known = measure in frame.rows and frame.rows[measure].notna().any()
    found = summarise(frame, [by], [measure], how) if known else pd.DataFrame(columns=[by, "estimate"])
    return found.set_index(by)


def _draw_curves(axes: Axes, rows: StudyRows, found: Curves, colour: Colours) -> None:
    """The curves of the points in `colour`, and of all references."""
    means = dict(zip(found.names, found.shown[0], strict=True))
    for method, look in _references(rows):
        axes.plot(found.fractions, means[method], zorder=3, **look)
    for value, shade in colour.items():
        if value in means:
            axes.plot(found.fractions, means[value], color=shade, marker="o", markersize=2)
    share_axis(axes, found.remark)


def _references(rows: StudyRows) -> Iterator[tuple[str, Look]]:
    """The references of the study, and how they are drawn."""
    for method in sorted(rows.reference_records):
        label = rows.x_alone() if method == X_ALONE else method
        yield method, {"label": label} | _MARKS.get(label, _OTHER_MARK)


def _draw_measure(axes: Axes, rows: StudyRows, measure: str, colour: Colours, how: Resampling) -> None:
    """The mean at every point with its interval, hollow without a `colour`, and what it is compared with."""
    found = track(rows.points, "value", measure, how)
    if found.empty:
        return lacking(axes, "not stored")
    lines = [colour.get(value, "0.6") for value in found.index]
    faces = [colour.get(value, "white") for value in found.index]
    axes.plot(found.index, found["estimate"], color="0.75", linewidth=0.8, zorder=1)
    axes.vlines(found.index, found["ci_low"], found["ci_high"], lines, linewidth=1.1)
    axes.scatter(found.index, found["estimate"], 13, faces, edgecolors=lines, zorder=3)
    if measure == "bits_per_token" and (found["estimate"] > 0).any():
        axes.set_yscale("log", nonpositive="mask")
    if measure in _START:
        for level in track(rows.points, "value", _START[measure], how)["estimate"].head(1):
            label = "whole text, or before optimisation"  # the same at every point
            axes.axhline(level, color="black", linestyle="-.", linewidth=0.8, label=label, zorder=0)
    else:
        _draw_levels(axes, rows, measure, how)


def _draw_levels(axes: Axes, rows: StudyRows, measure: str, how: Resampling) -> None:
    """The mean of a score of every reference as a line across, with its interval as a band."""
    means = track(rows.references, "method", measure, how)
    for method, look in _references(rows):
        mean, line = means.loc[method], {name: look[name] for name in ("color", "linestyle", "label")}
        axes.axhspan(mean["ci_low"], mean["ci_high"], color=look["color"], alpha=0.13, linewidth=0, zorder=0)
        axes.axhline(mean["estimate"], linewidth=1.0, zorder=1, **line)


def _colour_bar(figure: Figure, beside: Sequence[Axes], colour: dict[str, str], title: str) -> None:
    """A bar of boxes, one per name of a varied value."""
    n = len(colour)
    mappable = matplotlib.cm.ScalarMappable(BoundaryNorm(range(n + 1), n), ListedColormap([*colour.values()]))
    bar = figure.colorbar(mappable, ax=beside, aspect=40, fraction=0.06, pad=0.02)
    bar.minorticks_off()
    bar.set_ticks([place + 0.5 for place in range(n)], labels=[*colour])
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.ax.set_title(title, fontsize="medium")
