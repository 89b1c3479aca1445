"""What the figures of a study draw: curves of its points, and one number against what varies.

Points have the colours of one sequential map, dark to light as the varied value grows, which a grey print
and colour-blind eyes keep in order; references are grey or black and have a line style of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from iba.evaluation.stats import Resampling, mean_interval, percentiles, resampled_means
from iba.pipeline.views import Value
from iba.report.curves import Curves, mean_curves, readable
from iba.report.drawing import remark, share_axis
from iba.report.stored import Stored
from iba.report.studies import X_ALONE, StudyRows

#: How references are drawn, by what the legend calls them.
_MARKS = {
    "random": {"color": "0.5", "linestyle": ":", "marker": "x"},
    "norm of the standardised X": {"color": "black", "linestyle": (0, (4, 1.5)), "marker": "D"},
    "norm of the layer's update": {"color": "0.3", "linestyle": (0, (8, 2)), "marker": "s"},
}
_OTHER_MARK = {"color": "0.35", "linestyle": "-.", "marker": "+"}
#: What the scores are called on an axis.
AXIS = {"drop_11": "drop at 11 %", "area_over": "area over curve"}
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
    table = _numbers(rows, measure).dropna(axis=1)
    values = table.to_numpy(float)
    ends = percentiles(resampled_means(values, how), how) if len(table.columns) else ((), ())
    return pd.DataFrame(
        dict(zip(("estimate", "low", "high"), (values.mean(0), *ends), strict=True)), table.columns
    )


def level_of_points(rows: StudyRows, measure: str) -> float:
    """The mean of what is the same at every point; NaN where it is not stored."""
    table = _numbers(rows, measure)
    return math.nan if table.empty else float(table.iloc[:, 0].mean())


def _numbers(rows: StudyRows, measure: str) -> pd.DataFrame:
    return rows.matrix(measure) if measure in rows.points.rows else pd.DataFrame()


def reference(rows: StudyRows, method: str) -> tuple[str, dict[str, Any]]:
    """Title of a reference of the study, and how it is drawn."""
    title = rows.x_alone() if method == X_ALONE else method
    return title, _MARKS.get(title, _OTHER_MARK)


def colours(values: Iterable[Value]) -> Colours:
    """A colour per varied value, in ascending order."""
    values = sorted(values)
    places = np.linspace(0, _LIGHTEST, max(len(values), 2))
    return {value: matplotlib.colormaps[_MAP](place) for value, place in zip(values, places, strict=False)}


def draw_curves(axes: Axes, rows: StudyRows, found: Curves, colour: Colours) -> None:
    """The curves of the points in `colour`, and of all references."""
    means = dict(zip(found.names, found.mean, strict=True))
    for method in sorted(rows.reference_records):
        title, mark = reference(rows, method)
        axes.plot(found.fractions, means[method], label=title, zorder=3, **mark)
    for value in rows.values:
        if value in colour:
            axes.plot(found.fractions, means[value], color=colour[value], marker="o", markersize=2)
    share_axis(axes)
    remark(axes, found.remark)


def draw_track(axes: Axes, found: pd.DataFrame, colour: Colours) -> None:
    """The mean at every point with its interval; points that are not in `colour` are hollow."""
    axes.plot(found.index, found["estimate"], color="0.75", linewidth=0.8, zorder=1)
    for value, point in found.iterrows():
        drawn = colour.get(value)
        axes.plot(
            [value, value], [point["low"], point["high"]], color=drawn or "0.6", linewidth=1.1, zorder=2
        )
        faces = {"color": drawn or "0.6", "markerfacecolor": drawn or "white"}
        axes.plot([value], [point["estimate"]], marker="o", markersize=3.6, zorder=3, **faces)


def draw_levels(axes: Axes, rows: StudyRows, measure: str, how: Resampling) -> None:
    """The mean of a score of every reference as a line across, with its interval as a band."""
    for method in sorted(rows.reference_records):
        title, mark = reference(rows, method)
        line = {name: mark[name] for name in ("color", "linestyle")}
        mean = mean_interval(rows.level(method, measure).to_numpy(float), how)
        axes.axhspan(mean.low, mean.high, color=mark["color"], alpha=0.13, linewidth=0, zorder=0)
        axes.axhline(mean.estimate, linewidth=1.0, label=title, zorder=1, **line)


def colour_bar(
    figure: Figure, beside: Sequence[Axes], colour: Colours, names: Sequence[str], title: str
) -> None:
    """A bar of boxes, one per varied value, each with its name."""
    edges = np.arange(len(colour) + 1)
    mappable = matplotlib.cm.ScalarMappable(
        BoundaryNorm(edges, len(colour)), ListedColormap(list(colour.values()))
    )
    bar = figure.colorbar(mappable, ax=list(beside), aspect=40, fraction=0.06, pad=0.02)
    bar.minorticks_off()
    bar.set_ticks([float(edge) + 0.5 for edge in edges[:-1]], labels=list(names))
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.ax.set_title(title, fontsize="medium")


def title(stored: Stored, rows: StudyRows) -> str:
    """Data set, protocol, number of instances and cut."""
    return f"{stored.names.datasets[rows.dataset]}, {stored.names.protocols[rows.protocol]}\n{sample(rows)}"


def sample(rows: StudyRows) -> str:
    """How many instances, and where their texts were cut."""
    return f"n = {rows.n}" + (f", texts cut at {rows.cut} tokens" if rows.cut else "")


def samples(study: Iterable[StudyRows]) -> str:
    """The same of several, for a caption."""
    return "; ".join(sorted({sample(rows) for rows in study}))
