"""What the figures of a study draw: curves of its points, and one number against what varies.

Points have the colours of one sequential map, dark to light as the varied value grows, which a grey print
and colour-blind eyes keep in order; references are grey or black and have a line style of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from iba.evaluation.stats import Resampling, mean_interval, percentiles, resampled_means
from iba.pipeline.views import Value
from iba.report.curves import Curves, mean_curves, readable
from iba.report.drawing import Look, lacking, remark, share_axis
from iba.report.stored import Stored
from iba.report.studies import X_ALONE, StudyRows

#: How references are drawn, by what the legend calls them.
_MARKS: dict[str, Look] = {
    "random": {"color": "0.5", "linestyle": ":", "marker": "x"},
    "norm of the standardised X": {"color": "black", "linestyle": (0, (4, 1.5)), "marker": "D"},
    "norm of the layer's update": {"color": "0.3", "linestyle": (0, (8, 2)), "marker": "s"},
}
_OTHER_MARK: Look = {"color": "0.35", "linestyle": "-.", "marker": "+"}
_BITS = "bits_per_token"
#: What numbers are called on an axis.
AXIS = {
    "drop_11": "drop at 11 %",
    "area_over": "area over curve",
    "prob_bottleneck": "target probability\nwith bottleneck",
    _BITS: "bits per token",
}
#: Numbers that references do not have → the same without any optimisation.
_START = {"prob_bottleneck": "prob_start", _BITS: "bits_per_token_start"}
#: The axis under the curves, which are too many for bands; and in a caption.
REMOVED = "tokens removed (%), most important first\n(means, without intervals)"
BARE = "the curves are means without intervals, which would cover one another"
#: The lightest end of the map is too faint on white.
_MAP, _LIGHTEST = "viridis", 0.9

Colours = dict[Value, tuple[float, ...]]


def curves(study: Sequence[StudyRows], how: Resampling) -> list[Curves]:
    """The mean curves of the points and then of the references of each, as drops where these can be read."""
    return list(readable({(rows.protocol, rows.dataset): _curves(rows, how) for rows in study}).values())


def _curves(rows: StudyRows, how: Resampling) -> Curves:
    values, points = rows.points.stacked("value")
    methods, references = rows.references.stacked("method")
    both = np.concatenate([points, references], axis=1) if methods else points
    return mean_curves([*values, *methods], rows.points.fractions, both, how)


def track(rows: StudyRows, measure: str, how: Resampling) -> pd.DataFrame:
    """Columns estimate, low and high: the mean of a number by the points that have it, resampled together."""
    table, names = _numbers(rows, measure).dropna(axis=1), ("estimate", "low", "high")
    if table.empty:
        return pd.DataFrame(columns=names)
    values = table.to_numpy(float)
    ends = percentiles(resampled_means(values, how), how)
    return pd.DataFrame(dict(zip(names, (values.mean(0), *ends), strict=True)), table.columns)


def level_of_points(rows: StudyRows, measure: str) -> float:
    """The mean of what is the same at every point; NaN where it is not stored."""
    table = _numbers(rows, measure)
    return math.nan if table.empty else float(table.iloc[:, 0].mean())


def _numbers(rows: StudyRows, measure: str) -> pd.DataFrame:
    return rows.matrix(measure) if measure in rows.points.rows else pd.DataFrame()


def colours(values: Iterable[Value]) -> Colours:
    """A colour per varied value, in ascending order."""
    values = sorted(values)
    places = np.linspace(0, _LIGHTEST, max(len(values), 2))
    return {value: matplotlib.colormaps[_MAP](place) for value, place in zip(values, places, strict=False)}


def draw_line(
    line: Sequence[Axes],
    stored: Stored,
    rows: StudyRows,
    found: Curves,
    measures: Sequence[str],
    colour: Colours,
) -> None:
    """One data set and protocol: its curves, and each measure against what varies."""
    _draw_curves(line[0], rows, found, colour)
    names = stored.names
    line[0].set_title(f"{names.datasets[rows.dataset]}, {names.protocols[rows.protocol]}\n{sample(rows)}")
    for axes, measure in zip(line[1:], measures, strict=True):
        _draw_measure(axes, rows, measure, colour, stored.how)


def _draw_curves(axes: Axes, rows: StudyRows, found: Curves, colour: Colours) -> None:
    """The curves of the points in `colour`, and of all references."""
    means = dict(zip(found.names, found.mean, strict=True))
    for method, label, mark in _references(rows):
        axes.plot(found.fractions, means[method], label=label, zorder=3, **mark)
    for value in rows.values:
        if value in colour:
            axes.plot(found.fractions, means[value], color=colour[value], marker="o", markersize=2)
    share_axis(axes)
    remark(axes, found.remark)


def _references(rows: StudyRows) -> Iterator[tuple[str, str, Look]]:
    """The references of the study, with their titles and how they are drawn."""
    for method in sorted(rows.reference_records):
        label = rows.x_alone() if method == X_ALONE else method
        yield method, label, _MARKS.get(label, _OTHER_MARK)


def _draw_measure(axes: Axes, rows: StudyRows, measure: str, colour: Colours, how: Resampling) -> None:
    found = track(rows, measure, how)
    if found.empty:
        lacking(axes, "not stored", va="center")
    else:
        _draw_track(axes, found, colour)
    if measure == _BITS and (found["estimate"] > 0).any():
        axes.set_yscale("log", nonpositive="mask")
    if measure not in _START:
        _draw_levels(axes, rows, measure, how)
    elif not math.isnan(level := level_of_points(rows, _START[measure])):
        label = "whole text, or before optimisation"
        axes.axhline(level, color="black", linestyle="-.", linewidth=0.8, label=label, zorder=0)


def _draw_track(axes: Axes, found: pd.DataFrame, colour: Colours) -> None:
    """The mean at every point with its interval; points that are not in `colour` are hollow."""
    axes.plot(found.index, found["estimate"], color="0.75", linewidth=0.8, zorder=1)
    for value, estimate, low, high in found.itertuples():
        drawn = colour.get(value)
        line: Look = {"color": drawn or "0.6", "markerfacecolor": drawn or "white"}
        axes.plot([value, value], [low, high], linewidth=1.1, zorder=2, **line)
        axes.plot([value], [estimate], marker="o", markersize=3.6, zorder=3, **line)


def _draw_levels(axes: Axes, rows: StudyRows, measure: str, how: Resampling) -> None:
    """The mean of a score of every reference as a line across, with its interval as a band."""
    for method, label, mark in _references(rows):
        mean = mean_interval(rows.level(method, measure).to_numpy(float), how)
        line = {name: mark[name] for name in ("color", "linestyle")}
        axes.axhspan(mean.low, mean.high, color=mark["color"], alpha=0.13, linewidth=0, zorder=0)
        axes.axhline(mean.estimate, linewidth=1.0, label=label, zorder=1, **line)


def make_room(axes: Axes, found: Iterable[Curves]) -> None:
    """Room above the curves for a remark, if there is one."""
    low, high = axes.get_ylim()
    if any(curves.remark for curves in found):
        axes.set_ylim(low, high + 0.4 * (high - low))


def colour_bar(
    figure: Figure, beside: Sequence[Axes], colour: Colours, names: Sequence[str], title: str
) -> None:
    """A bar of boxes, one per varied value, each with its name."""
    n = len(colour)
    boxes = BoundaryNorm(np.arange(n + 1), n), ListedColormap(list(colour.values()))
    mappable = matplotlib.cm.ScalarMappable(*boxes)
    bar = figure.colorbar(mappable, ax=list(beside), aspect=40, fraction=0.06, pad=0.02)
    bar.minorticks_off()
    bar.set_ticks([place + 0.5 for place in range(n)], labels=list(names))
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.ax.set_title(title, fontsize="medium")


def sample(rows: StudyRows) -> str:
    """How many instances, and where their texts were cut."""
    return f"n = {rows.n}" + (f", texts cut at {rows.cut} tokens" if rows.cut else "")


def samples(study: Iterable[StudyRows]) -> str:
    """The same of several, for a caption."""
    return "; ".join(sorted({sample(rows) for rows in study}))
