"""All methods on all data sets as dots with intervals: the drop at 11 %, methods grouped by family."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iba.report.drawing import PAGE_WIDTH, Look, Picture, legend
from iba.report.tables.methods import FAMILIES, Compared

#: Marker of a family, so that a grey print can still be read; the row itself names the method.
_MARKERS = dict(zip(FAMILIES, "osD^v", strict=True))
_RANDOM: Look = {"color": "0.45", "linestyle": ":", "linewidth": 0.8, "label": "random scores"}


def pictures(found: Compared) -> Iterator[Picture]:
    """`methods` if there is a method to draw; sets with known evidence alone have none."""
    if not found.mean_drops().empty:
        caption = (
            "All methods: mean drop of the target's probability after the top 11 % of tokens, with "
            f"{found.stored.how.percent} bootstrap intervals, on the rows that all methods of a set have. "
            "In a family the method with the largest mean over the data sets comes first."
        )
        yield Picture("methods", draw(found), caption)


def order(found: Compared) -> dict[str, list[str]]:
    """Family → its methods, those with the largest mean drop over the data sets first."""
    ranked = {str(method): found.stored.known[str(method)].family for method in found.mean_drops().index}
    families = [*FAMILIES, *sorted({*ranked.values()} - {*FAMILIES})]
    grouped = {family: [method for method, own in ranked.items() if own == family] for family in families}
    return {family: methods for family, methods in grouped.items() if methods}


def draw(found: Compared) -> Figure:
    """Methods as rows below their family, data sets as panels on one scale."""
    families, n = order(found), len(found.datasets)
    rows = [name for family, methods in families.items() for name in (family, *methods)]
    figure = Figure(figsize=(max(PAGE_WIDTH, 1.3 + n), 0.75 + 0.155 * len(rows)), layout="constrained")
    grid = figure.subplots(1, n, sharex=True, sharey=True, squeeze=False)[0]
    for axes, dataset in zip(grid, found.datasets, strict=True):
        _draw_panel(axes, found, dataset, rows)
    labels = [name if name in families else found.label(name) for name in rows]
    grid[0].set(yticks=range(len(rows)), yticklabels=labels, ylim=(len(rows) - 0.3, -0.7))
    for text, name in zip(grid[0].get_yticklabels(), rows, strict=True):
        text.set_fontweight("bold" if name in families else "normal")
    what = "drop of the target's probability after the top 11 % of tokens"
    figure.supxlabel(f"{what}, with {found.stored.how.percent} bootstrap intervals", fontsize=7)
    legend(figure)
    return figure


def _draw_panel(axes: Axes, found: Compared, dataset: str, rows: list[str]) -> None:
    cells = found.cells(dataset, "drop_11")
    for name, cell in cells.iterrows():
        method, y = found.stored.known[str(name)], rows.index(str(name))
        face = method.colour if method.explains_class else "white"
        look: Look = {"color": method.colour, "marker": _MARKERS.get(method.family, "P"), "markersize": 4.2}
        axes.axhline(y, color="0.93", linewidth=0.6, zorder=0)
        axes.hlines(y, cell["ci_low"], cell["ci_high"], color=method.colour, linewidth=1.4, zorder=2)
        axes.plot(cell["estimate"], y, markerfacecolor=face, zorder=3, **look)
    for label, face in {"explains a class": "0.3", "† explains none": "white"}.items():
        axes.plot([], [], "o", color="0.3", markersize=4.2, markerfacecolor=face, label=label)
    if "random" in cells.index:
        axes.axvline(cells.loc["random", "estimate"], zorder=1, **_RANDOM)
    axes.axvline(0, color="0.7", linewidth=0.6, zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    title = f"{found.stored.say('dataset', dataset)}\nn = {cells['n'].iloc[0]}"
    axes.set_title(title.replace(", ", ",\n"))
