"""All methods on all data sets as dots with intervals: the drop at 11 %, methods grouped by family."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iba.report.drawing import PAGE_WIDTH, look, save
from iba.report.methods import FAMILIES, Compared
from iba.report.rows import Stored

#: Marker of a family, so that a grey print can still be read; the row itself names the method.
_MARKERS = dict(zip(FAMILIES, "osD^v", strict=True))
_OTHER_MARKER = "P"


def order(found: Compared) -> dict[str, list[str]]:
    """Family → its methods, those with the largest mean drop over the data sets first."""
    ranked = [str(method) for method in found.mean_drops().index]
    used = {found.traits[method].family for method in ranked}
    families = [*(f for f in FAMILIES if f in used), *sorted(used - set(FAMILIES))]
    return {f: [m for m in ranked if found.traits[m].family == f] for f in families}


def positions(families: dict[str, list[str]]) -> tuple[dict[str, float], dict[str, float]]:
    """Heights of the family heads and of the methods, counted downwards from 0."""
    heads, rows, y = {}, {}, 0.0
    for family, methods in families.items():
        heads[family], y = y, y - 1
        for method in methods:
            rows[method], y = y, y - 1
        y -= 0.3
    return heads, rows


def draw(found: Compared) -> Figure:
    """Methods as rows, data sets as panels on one scale."""
    heads, rows = positions(order(found))
    lowest = min(rows.values())
    n = len(found.datasets)
    figure = Figure(figsize=(max(PAGE_WIDTH, 1.3 + n), 0.75 - 0.155 * lowest), layout="constrained")
    grid = figure.subplots(1, n, sharex=True, sharey=True, squeeze=False)[0]
    for axes, dataset in zip(grid, found.datasets, strict=True):
        _draw_panel(axes, found, dataset, rows)
        axes.set_ylim(lowest - 0.7, 0.7)
    first: Axes = grid[0]
    ticks = {**{y: family for family, y in heads.items()}, **{y: found.label(m) for m, y in rows.items()}}
    first.set_yticks(list(ticks), list(ticks.values()))
    for y, text in zip(ticks, first.get_yticklabels(), strict=True):
        if y in heads.values():
            text.set_fontweight("bold")
    figure.supxlabel(
        "drop of the target's probability after the top 11 % of tokens, with "
        f"{found.stored.how.percent} bootstrap intervals",
        fontsize=7,
    )
    _legend(figure, found)
    return figure


def _draw_panel(axes: Axes, found: Compared, dataset: str, rows: dict[str, float]) -> None:
    cells = found.cells(dataset, "drop_11")
    for method, cell in cells.iterrows():
        traits, colour = found.traits[str(method)], found.stored.names.colours[str(method)]
        y = rows[str(method)]
        axes.plot([cell["ci_low"], cell["ci_high"]], [y, y], color=colour, linewidth=1.4, zorder=2)
        axes.plot(
            cell["estimate"],
            y,
            color=colour,
            marker=_MARKERS.get(traits.family, _OTHER_MARKER),
            markersize=4.2,
            markerfacecolor=colour if traits.explains_class else "white",
            zorder=3,
        )
    if "random" in cells.index:
        axes.axvline(cells.loc["random", "estimate"], color="0.45", linewidth=0.6, linestyle=":", zorder=1)
    axes.axvline(0, color="0.7", linewidth=0.6, zorder=0)
    for y in rows.values():
        axes.axhline(y, color="0.93", linewidth=0.6, zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    name = found.stored.names.datasets[dataset].replace(", ", ",\n")
    axes.set_title(f"{name}\nn = {cells['n'].iloc[0]}")


def _legend(figure: Figure, found: Compared) -> None:
    """What a filled and an open mark and the dotted line mean."""
    shown = {str(method) for method in found.rows["method"]}
    handles = [_dot("0.3", "explains a class")]
    if any(not found.traits[method].explains_class for method in shown):
        handles.append(_dot("white", "† explains none"))
    if "random" in shown:
        handles.append(Line2D([], [], color="0.45", linewidth=0.8, linestyle=":", label="random scores"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)


def _dot(face: str, label: str) -> Line2D:
    return Line2D(
        [], [], marker="o", linestyle="none", color="0.3", markerfacecolor=face, markersize=4.2, label=label
    )


def caption(stored: Stored) -> str:
    """What the figure shows."""
    return (
        "All methods: mean drop of the target's probability after the top 11 % of tokens, by data set, on "
        f"the rows that all methods have; bars: {stored.how.percent} bootstrap intervals. Within a family "
        "the method with the largest mean over the data sets comes first."
    )


def write(found: Compared) -> list[Path]:
    """Store `figures/methods` if there is a method to draw; sets with known evidence alone have none."""
    if found.mean_drops().empty:
        return []
    with look():
        path = found.stored.folder / "figures" / "methods"
        return save(draw(found), path, found.stored.made_with)
