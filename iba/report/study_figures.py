"""Figures 2 and 4: IBA while one thing varies: β (2b), or the layer of the bottleneck (2a, 4).

A column per data set and protocol: curves above, and below one number after the other against what varies.
Points have the colours of one sequential map, dark to light as the varied value grows, which a grey print
and colour-blind eyes keep in order; references are grey or black and have a line style of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator

from iba.evaluation.stats import Resampling
from iba.pipeline.views import Value
from iba.report.drawing import PAGE_WIDTH, Look, Picture, legend
from iba.report.figure1 import Curves, draw_panel, mean_curves, quantity, readable
from iba.report.frame import Frame, summarise
from iba.report.stored import Stored
from iba.report.studies import METHOD, X_ALONE, StudyRows, load

BETAS, LAYERS = "betas", "layers"
#: What varies, as an axis says it and as a legend says it.
_VARIED = {BETAS: ("β", "β"), LAYERS: ("bottleneck after layer", "layer")}
#: The layers of Figure 2a, of 12.
_SELECTED, _DEPTH = (1, 4, 8, 9, 12), 12
#: How references are drawn, by what the legend calls them.
_MARKS: dict[str, Look] = {
    "random": {"color": "0.5", "linestyle": ":", "marker": "x"},
    "norm of the standardised X": {"color": "black", "linestyle": (0, (4, 1.5)), "marker": "D"},
    "norm of the layer's update": {"color": "0.3", "linestyle": (0, (8, 2)), "marker": "s"},
}
_OTHER_MARK: Look = {"color": "0.35", "linestyle": "-.", "marker": "+"}
#: Marked β, by the protocol that has it; the paper's is one of the points, so that a pale band is behind it.
_MARKED: dict[str, Look] = {
    "described": {"label": "the paper's β", "linewidth": 5, "alpha": 0.25},
    "corrected": {"label": "selected β (corrected, uncut texts)", "linestyle": "--", "linewidth": 0.9},
}
#: What numbers are called on an axis.
_AXIS = {
    "drop_11": "drop at 11 %",
    "area_over": "area over curve",
    "prob_bottleneck": "target probability\nwith bottleneck",
    "bits_per_token": "bits per token",
}
#: Numbers that references do not have → the same without any optimisation.
_START = {"prob_bottleneck": "prob_start", "bits_per_token": "bits_per_token_start"}


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure2b`, `figure2a` and `figure4`, as far as their studies were run."""
    bars = f"Bars and bands: {stored.how.percent} bootstrap intervals."
    if study := load(stored, BETAS):
        caption = (
            "Figure 2b. β over many decades: degradation curves, one per β, and against β two scores of "
            "the curve, the target's probability with the bottleneck, and the bits per token that it "
            f"keeps. {bars}"
        )
        yield Picture("figure2b", draw(stored, BETAS, study, _values(study), [*_AXIS]), caption)
    if study := load(stored, LAYERS):
        every = _values(study)
        some = [layer for layer in selected_layers(int(every[-1])) if layer in every]
        bars += "".join(chosen_betas(rows) for rows in study)
        what = "Degradation curves with IBA's bottleneck after"
        caption = f"Figure 2a. {what} selected layers, and the drop at 11 % after every layer. {bars}"
        yield Picture("figure2a", draw(stored, LAYERS, study, some, ["drop_11"]), caption)
        caption = f"Figure 4. {what} every layer, the drop at 11 % and the area over the curve. {bars}"
        yield Picture("figure4", draw(stored, LAYERS, study, every, ["drop_11", "area_over"]), caption)


def _values(study: Sequence[StudyRows]) -> list[Value]:
    return sorted({value for rows in study for value in rows.values})


def selected_layers(depth: int) -> list[int]:
    """The layers of Figure 2a, scaled where the encoder has another depth."""
    return sorted({max(1, round(layer * depth / _DEPTH)) for layer in _SELECTED})


def chosen_betas(rows: StudyRows) -> str:
    """A sentence on the β of every layer where it was chosen on training rows; else nothing."""
    if rows.n_calibration is None:
        return ""
    betas = ", ".join(f"{record['settings']['method']['beta']:g}" for record in rows.records.values())
    where = f"{rows.n_calibration} held-out training rows"
    return f" {rows.title}: each layer's β was chosen on {where}: {betas}."


def draw(
    stored: Stored, name: str, study: Sequence[StudyRows], chosen: Sequence[Value], measures: Sequence[str]
) -> Figure:
    """Curves of the `chosen` points and `measures` of every one, which is hollow if not chosen; every row has
    one scale, so that columns can be compared."""
    heights = [1.9, *[1.0] * len(measures)]
    size = max(PAGE_WIDTH, 2.3 * len(study)), 0.9 + 1.1 * sum(heights)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(heights), len(study), sharey="row", squeeze=False, height_ratios=heights)
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(chosen)))  # 1 is too faint on white
    colours = dict(zip(chosen, map(to_hex, shades), strict=True))
    how, axis, title = stored.how, *_VARIED[name]
    every = {(r.protocol, r.dataset): mean_curves(*r.curves, r.points.fractions, how) for r in study}
    found = readable(every).values()
    for column, rows, shown in zip(grid.T, study, found, strict=True):
        _draw_curves(column[0], rows, shown, colours)
        for axes, measure in zip(column[1:], measures, strict=True):
            _draw_measure(axes, rows, measure, colours, how)
            if name == BETAS:
                _beta_axis(axes, marked_betas(stored, rows))
            else:
                axes.xaxis.set_major_locator(MaxNLocator(7, integer=True))
                axes.xaxis.set_minor_locator(MultipleLocator(1))
            axes.tick_params(axis="x", labelbottom=axes is column[-1])
        column[-1].set_xlabel(axis)
    for axes, label in zip(grid[:, 0], [quantity(found), *(_AXIS[m] for m in measures)], strict=True):
        axes.set_ylabel(label)
    marks = {power(value): Line2D([], [], color=colours[value], linewidth=4) for value in reversed(chosen)}
    figure.legend(marks.values(), marks.keys(), title=title, loc="outside right upper", frameon=False)
    legend(figure)
    return figure


def means(frame: Frame, by: str, measure: str, how: Resampling) -> pd.DataFrame:
    """The mean of a number with its interval, by the values of `by` that have it."""
    return summarise(frame, [by], [measure], how).set_index(by)


def references(rows: StudyRows) -> dict[str, Look]:
    """How the references of the study are drawn."""
    labels = {m: rows.x_alone() if m == X_ALONE else m for m in sorted(rows.reference_records)}
    return {m: {"label": label, "zorder": 3} | _MARKS.get(label, _OTHER_MARK) for m, label in labels.items()}


def marked_betas(stored: Stored, rows: StudyRows) -> dict[str, float]:
    """By protocol the paper's β, and the selected one, which means something for the same noise alone."""
    found = {}
    for protocol in _MARKED:
        record = stored.record(protocol, rows.dataset, METHOD)
        method = record["settings"]["method"] if record else {}
        same = method.get("noise") == rows.record["settings"]["method"]["noise"]
        wanted = protocol == "described" or ("tuning" in record and same)
        if wanted and isinstance(method.get("beta"), int | float):
            found[protocol] = float(method["beta"])
    return found


def _beta_axis(axes: Axes, marked: Mapping[str, float]) -> None:
    for protocol, beta in marked.items():
        axes.axvline(beta, color="#b2182b", zorder=0, **_MARKED[protocol])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=20))
    axes.xaxis.set_major_formatter(lambda beta, _: power(beta))
    axes.xaxis.minorticks_off()


def power(value: Value) -> str:
    """A β as a power of ten where it is one; a layer."""
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    of_ten = float(mantissa) == 1 and abs(int(exponent)) > 1
    return f"$10^{{{int(exponent)}}}$" if of_ten else f"{value:g}"


def _draw_curves(axes: Axes, rows: StudyRows, shown: Curves, colours: Mapping[Value, str]) -> None:
    looks = references(rows) | {v: {"color": c, "marker": "o", "markersize": 2} for v, c in colours.items()}
    draw_panel(axes, shown, looks, intervals=False)
    axes.set_title(f"{rows.title}\nn = {shown.n}, texts cut at {rows.cut} tokens")
    axes.set_xlabel("tokens removed (%), most important\nfirst (means, without intervals)")


def _draw_measure(
    axes: Axes, rows: StudyRows, measure: str, colours: Mapping[Value, str], how: Resampling
) -> None:
    """The mean at every point with its interval, hollow without a colour, and what it is compared with."""
    found = means(rows.points, "value", measure, how)
    lines = [colours.get(value, "0.6") for value in found.index]
    faces = [colours.get(value, "white") for value in found.index]
    axes.plot(found.index, found["estimate"], color="0.75", linewidth=0.8, zorder=1)
    axes.vlines(found.index, found["ci_low"], found["ci_high"], lines, linewidth=1.1)
    axes.scatter(found.index, found["estimate"], 13, faces, edgecolors=lines, zorder=3)
    if measure == "bits_per_token":
        axes.set_yscale("log", nonpositive="mask")
    if measure in _START:
        start = means(rows.points, "value", _START[measure], how).iloc[0]  # the same at every point
        label = "whole text, or before optimisation"
        axes.axhline(start["estimate"], color="black", linestyle="-.", linewidth=0.8, label=label, zorder=0)
        return
    levels = means(rows.references, "method", measure, how)
    for method, look in references(rows).items():
        mean, line = levels.loc[method], {name: look[name] for name in ("color", "linestyle", "label")}
        axes.axhspan(mean["ci_low"], mean["ci_high"], color=look["color"], alpha=0.13, linewidth=0, zorder=0)
        axes.axhline(mean["estimate"], linewidth=1.0, zorder=1, **line)
