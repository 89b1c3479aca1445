"""What the figures of a study draw: normalised curves of its points, and one number against what varies.

Points have the colours of one sequential map, dark to light as the varied value grows, which a grey print
and colour-blind eyes keep in order; references are grey or black and have a line style of their own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from iba.evaluation.stats import Interval, Resampling, mean_interval, percentiles, resampled_means
from iba.report.drawing import Mark
from iba.report.figure1 import normalised
from iba.report.rows import Stored
from iba.report.study_rows import X_ALONE, StudyRows, Value

#: Marks of what studies draw beside their points, by what the legend calls it.
_MARKS = {
    "random": Mark("0.5", ":", "x"),
    "norm of the standardised X": Mark("black", (0, (4, 1.5)), "D"),
    "norm of the layer's update": Mark("0.3", (0, (8, 2)), "s"),
}
DROP, AREA = "drop_11", "area_over"
#: The axis under the curves, which are too many for bands.
REMOVED = "tokens removed (%), most important first\n(means, without intervals)"
#: What the scores are called on an axis.
AXIS = {DROP: "drop at 11 %", AREA: "area over curve"}
#: The lightest end of the map is too faint on white.
_MAP, _LIGHTEST = "viridis", 0.9


@dataclass(frozen=True)
class Curves:
    """Normalised drops d̄ with o and m shared by all of them."""

    fractions: Float[np.ndarray, " steps"]
    points: dict[Value, Float[np.ndarray, " steps"]]
    references: dict[str, Float[np.ndarray, " steps"]]


@dataclass(frozen=True)
class Track:
    """The mean of one number at every point, with its interval."""

    values: list[Value]
    estimate: Float[np.ndarray, " points"]
    low: Float[np.ndarray, " points"]
    high: Float[np.ndarray, " points"]


def curves(rows: StudyRows) -> Curves:
    """d̄ of every point and reference; NaN where removing everything loses nothing."""
    tables = [point.curve for point in (*rows.points.values(), *rows.references.values())]
    scaled = normalised(np.stack([table.to_numpy(float).mean(0) for table in tables]))
    n_points = len(rows.points)
    return Curves(
        tables[0].columns.to_numpy(float),
        dict(zip(rows.points, scaled[:n_points], strict=True)),
        dict(zip(rows.references, scaled[n_points:], strict=True)),
    )


def track(rows: StudyRows, column: str, how: Resampling) -> Track | None:
    """The mean of a per-instance number at the points that have it, resampled together; None without any."""
    table = rows.matrix(column).dropna(axis=1)
    if table.empty:
        return None
    values = table.to_numpy(float)
    low, high = percentiles(resampled_means(values, how), how)
    return Track(list(table.columns), values.mean(0), low, high)


def levels(rows: StudyRows, column: str, how: Resampling) -> dict[str, Interval]:
    """The mean of a score of every reference."""
    return {
        method: mean_interval(point.numbers[column].to_numpy(float), how)
        for method, point in rows.references.items()
    }


def level_of_points(rows: StudyRows, column: str) -> float:
    """The mean of what is the same at every point; NaN where it is not stored."""
    table = rows.matrix(column)
    return math.nan if table.empty else float(table.iloc[:, 0].mean())


def reference(rows: StudyRows, method: str) -> tuple[str, Mark]:
    """Title and mark of a reference of the study."""
    title = rows.x_alone() if method == X_ALONE else method
    return title, _MARKS.get(title, Mark("0.35", "-.", "+"))


def colours(values: Sequence[Value]) -> dict[Value, tuple[float, ...]]:
    """A colour per varied value, in their order."""
    places = np.linspace(0, _LIGHTEST, max(len(values), 2))
    return {value: matplotlib.colormaps[_MAP](place) for value, place in zip(values, places, strict=False)}


def draw_curves(axes: Axes, rows: StudyRows, colour: dict[Value, tuple[float, ...]]) -> None:
    """The curves d̄ of the points in `colour`, and of all references."""
    found = curves(rows)
    for method, drops in found.references.items():
        title, mark = reference(rows, method)
        axes.plot(
            found.fractions,
            drops,
            color=mark.color,
            linestyle=mark.linestyle,
            marker=mark.marker,
            label=title,
            zorder=3,
        )
    for value, drops in found.points.items():
        if value in colour:
            axes.plot(found.fractions, drops, color=colour[value], marker="o", markersize=2)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 1 / 3, 2 / 3, 1], ["0", "33", "67", "100"])
    axes.axhline(0, color="0.7", linewidth=0.5, zorder=0)


def draw_track(axes: Axes, found: Track, colour: dict[Value, tuple[float, ...]]) -> None:
    """The mean at every point with its interval; points that are not in `colour` are hollow."""
    axes.plot(found.values, found.estimate, color="0.75", linewidth=0.8, zorder=1)
    for value, estimate, low, high in zip(found.values, found.estimate, found.low, found.high, strict=True):
        drawn = colour.get(value)
        axes.plot([value, value], [low, high], color=drawn or "0.6", linewidth=1.1, zorder=2)
        axes.plot(
            [value],
            [estimate],
            marker="o",
            color=drawn or "0.6",
            markerfacecolor=drawn or "white",
            markersize=3.6,
            zorder=3,
        )


def draw_levels(axes: Axes, rows: StudyRows, column: str, how: Resampling) -> None:
    """The mean of a score of every reference as a line across, with its interval as a band."""
    for method, mean in levels(rows, column, how).items():
        title, mark = reference(rows, method)
        axes.axhspan(mean.low, mean.high, color=mark.color, alpha=0.13, linewidth=0, zorder=0)
        axes.axhline(
            mean.estimate, color=mark.color, linestyle=mark.linestyle, linewidth=1.0, label=title, zorder=1
        )


def colour_bar(
    figure: Figure,
    beside: Sequence[Axes],
    colour: dict[Value, tuple[float, ...]],
    names: Sequence[str],
    title: str,
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
