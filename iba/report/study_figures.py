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
from matplotlib.colors import BoundaryNorm, ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator

from iba.evaluation.stats import Resampling
from iba.pipeline.views import Value
from iba.report import curves
from iba.report.curves import Curves, mean_curves, quantity, readable
from iba.report.drawing import PAGE_WIDTH, Look, Picture, legend
from iba.report.frame import Frame, summarise
from iba.report.stored import Stored
from iba.report.studies import METHOD, X_ALONE, StudyRows, load

BETAS, LAYERS = "betas", "layers"
#: What varies, as an axis says it and as a colour bar says it.
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
_PAPERS, _CHOSEN = "the paper's β", "selected β (corrected, uncut texts)"
#: The paper's β is one of the points: a pale band behind it, so that its interval can be seen.
_LINES: dict[str, Look] = {
    _PAPERS: {"linewidth": 5, "alpha": 0.25},
    _CHOSEN: {"linestyle": "--", "linewidth": 0.9},
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
#: The lightest end of the map is too faint on white.
_MAP, _LIGHTEST = "viridis", 0.9


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
        bars += "".join(chosen_betas(stored, rows) for rows in study)
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


def chosen_betas(stored: Stored, rows: StudyRows) -> str:
    """A sentence on the β of every layer where it was chosen on training rows; else nothing."""
    if rows.n_calibration is None:
        return ""
    betas = ", ".join(f"{record['settings']['method']['beta']:g}" for record in rows.records.values())
    chosen = f"each layer's β was chosen on {rows.n_calibration} held-out training rows: {betas}"
    return f" {_where(stored, rows)}: {chosen}."


def _where(stored: Stored, rows: StudyRows) -> str:
    return f"{stored.names.datasets[rows.dataset]}, {stored.names.protocols[rows.protocol]}"


def draw(
    stored: Stored, name: str, study: Sequence[StudyRows], chosen: Sequence[Value], measures: Sequence[str]
) -> Figure:
    """Curves of the `chosen` points and `measures` of every one, which is hollow if not chosen; every row has
    one scale, so that columns can be compared."""
    heights = [1.9, *[1.0] * len(measures)]
    size = max(PAGE_WIDTH, 2.3 * len(study)), 0.9 + 1.1 * sum(heights)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(heights), len(study), sharey="row", squeeze=False, height_ratios=heights)
    colours, found = colours_of(chosen), study_curves(study, stored.how)
    for column, rows, shown in zip(grid.T, study, found, strict=True):
        column[0].set_title(f"{_where(stored, rows)}\nn = {shown.n}, texts cut at {rows.cut} tokens")
        column[0].set_xlabel("tokens removed (%), most important\nfirst (means, without intervals)")
        column[0].margins(y=0.3 if any(one.remark for one in found) else 0.05)  # room for the remark
        points = {
            value: {"color": colour, "marker": "o", "markersize": 2} for value, colour in colours.items()
        }
        curves.draw(column[0], shown, references(rows) | points, intervals=False)
        for axes, measure in zip(column[1:], measures, strict=True):
            _draw_measure(axes, rows, measure, colours, stored.how)
            if name == BETAS:
                _beta_axis(axes, marked_betas(stored, rows))
            else:
                axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
                axes.xaxis.set_minor_locator(MultipleLocator(1))
            axes.tick_params(axis="x", labelbottom=axes is column[-1])
        column[-1].set_xlabel(_VARIED[name][0])
    for axes, label in zip(grid[:, 0], [quantity(found), *(_AXIS[m] for m in measures)], strict=True):
        axes.set_ylabel(label)
    _colour_bar(figure, list(grid[0]), colours, _VARIED[name][1])
    legend(figure)
    return figure


def study_curves(study: Sequence[StudyRows], how: Resampling) -> list[Curves]:
    """The mean curves of the points and the references of each, as drops where these can be read."""
    found = {(r.protocol, r.dataset): mean_curves(*r.curves, r.points.fractions, how) for r in study}
    return list(readable(found).values())


def colours_of(values: Sequence[Value]) -> dict[Value, str]:
    """A colour per varied value, which ascend."""
    shades = matplotlib.colormaps[_MAP](np.linspace(0, _LIGHTEST, len(values)))
    return dict(zip(values, map(to_hex, shades), strict=True))


def means(frame: Frame, by: str, measure: str, how: Resampling) -> pd.DataFrame:
    """The mean of a number with its interval, by the values of `by` that have it."""
    return summarise(frame, [by], [measure], how).set_index(by)


def references(rows: StudyRows) -> dict[str, Look]:
    """How the references of the study are drawn."""
    labels = {m: rows.x_alone() if m == X_ALONE else m for m in sorted(rows.reference_records)}
    return {m: {"label": label, "zorder": 3} | _MARKS.get(label, _OTHER_MARK) for m, label in labels.items()}


def marked_betas(stored: Stored, rows: StudyRows) -> dict[str, float]:
    """The paper's β and the one that `corrected` selected, which means something for the same noise alone."""
    found = {}
    for label, protocol in ((_PAPERS, "described"), (_CHOSEN, "corrected")):
        record = stored.record(protocol, rows.dataset, METHOD)
        method = record["settings"]["method"] if record else {}
        same = "tuning" in record and method["noise"] == rows.record["settings"]["method"]["noise"]
        if isinstance(method.get("beta"), int | float) and (same or label == _PAPERS):
            found[label] = float(method["beta"])
    return found


def _beta_axis(axes: Axes, marked: Mapping[str, float]) -> None:
    for label, beta in marked.items():
        axes.axvline(beta, color="#b2182b", label=label, zorder=0, **_LINES[label])
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(numticks=20))


def power(value: Value) -> str:
    """A β as a power of ten where it is one; a layer."""
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    of_ten = float(mantissa) == 1 and abs(int(exponent)) > 1
    return f"$10^{{{int(exponent)}}}$" if of_ten else f"{value:g}"


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
        level = means(rows.points, "value", _START[measure], how)["estimate"].iloc[
            0
        ]  # the same at every point
        label = "whole text, or before optimisation"
        axes.axhline(level, color="black", linestyle="-.", linewidth=0.8, label=label, zorder=0)
        return
    levels = means(rows.references, "method", measure, how)
    for method, look in references(rows).items():
        mean, line = levels.loc[method], {name: look[name] for name in ("color", "linestyle", "label")}
        axes.axhspan(mean["ci_low"], mean["ci_high"], color=look["color"], alpha=0.13, linewidth=0, zorder=0)
        axes.axhline(mean["estimate"], linewidth=1.0, zorder=1, **line)


def _colour_bar(figure: Figure, beside: Sequence[Axes], colours: Mapping[Value, str], title: str) -> None:
    """A bar of boxes, one per varied value."""
    n = len(colours)
    shades = ListedColormap([*colours.values()])
    bar = figure.colorbar(
        matplotlib.cm.ScalarMappable(BoundaryNorm(range(n + 1), n), shades),
        ax=beside,
        aspect=40,
        fraction=0.06,
        pad=0.02,
    )
    bar.minorticks_off()
    bar.set_ticks([place + 0.5 for place in range(n)], labels=[*map(power, colours)])
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.ax.set_title(title, fontsize="medium")
