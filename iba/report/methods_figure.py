"""All methods on all data sets as dots with intervals: the drop at 11 %, methods grouped by family."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iba.report.drawing import PAGE_WIDTH, Look, Picture
from iba.report.tables.methods import FAMILIES, Compared

#: Marker of a family, so that a grey print can still be read; the row itself names the method.
_MARKERS = dict(zip(FAMILIES, "osD^v", strict=True))
_OTHER_MARKER = "P"
_RANDOM: Look = {"color": "0.45", "linestyle": ":"}


def pictures(found: Compared) -> Iterator[Picture]:
    """`methods` if there is a method to draw; sets with known evidence alone have none."""
    if not found.mean_drops().empty:
        caption = (
            "All methods: mean drop of the target's probability after the top 11 % of tokens, by data set, "
            f"on the rows that all methods have; bars: {found.stored.how.percent} bootstrap intervals. "
            "Within a family the method with the largest mean over the data sets comes first."
        )
        yield Picture("methods", draw(found), caption)


def order(found: Compared) -> dict[str, list[str]]:
    """Family → its methods, those with the largest mean drop over the data sets first."""
    ranked = {str(method): found.stored.known[str(method)].family for method in found.mean_drops().index}
    families = sorted(set(ranked.values()), key=lambda f: (f not in FAMILIES, [*FAMILIES, f].index(f), f))
    return {family: [m for m, own in ranked.items() if own == family] for family in families}


def positions(families: dict[str, list[str]]) -> tuple[dict[str, float], dict[str, float]]:
    """Heights of the family heads and of the methods, counted downwards from 0."""
    heads: dict[str, float] = {}
    rows: dict[str, float] = {}
    y = 0.0
    for family, methods in families.items():
        heads[family] = y
        rows |= {method: y - place for place, method in enumerate(methods, start=1)}
        y -= len(methods) + 1.3
    return heads, rows


def draw(found: Compared) -> Figure:
    """Methods as rows, data sets as panels on one scale."""
    heads, rows = positions(order(found))
    lowest, n = min(rows.values()), len(found.datasets)
    figure = Figure(figsize=(max(PAGE_WIDTH, 1.3 + n), 0.75 - 0.155 * lowest), layout="constrained")
    grid = figure.subplots(1, n, sharex=True, sharey=True, squeeze=False)[0]
    for axes, dataset in zip(grid, found.datasets, strict=True):
        _draw_panel(axes, found, dataset, rows)
        axes.set_ylim(lowest - 0.7, 0.7)
    grid[0].set_yticks([*heads.values(), *rows.values()], [*heads, *(found.label(method) for method in rows)])
    for text in grid[0].get_yticklabels()[: len(heads)]:
        text.set_fontweight("bold")
    what = "drop of the target's probability after the top 11 % of tokens"
    figure.supxlabel(f"{what}, with {found.stored.how.percent} bootstrap intervals", fontsize=7)
    _legend(figure, found)
    return figure


def _draw_panel(axes: Axes, found: Compared, dataset: str, rows: dict[str, float]) -> None:
    cells = found.cells(dataset, "drop_11")
    for name, cell in cells.iterrows():
        method, y = found.stored.known[str(name)], rows[str(name)]
        face: Look = {
            "markerfacecolor": method.colour if method.explains_class else "white",
            "markersize": 4.2,
        }
        marker = _MARKERS.get(method.family, _OTHER_MARKER)
        axes.plot([cell["ci_low"], cell["ci_high"]], [y, y], color=method.colour, linewidth=1.4, zorder=2)
        axes.plot(cell["estimate"], y, color=method.colour, marker=marker, zorder=3, **face)
    if "random" in cells.index:
        axes.axvline(cells.loc["random", "estimate"], linewidth=0.6, zorder=1, **_RANDOM)
    axes.axvline(0, color="0.7", linewidth=0.6, zorder=0)
    for y in rows.values():
        axes.axhline(y, color="0.93", linewidth=0.6, zorder=0)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    name = found.stored.say("dataset", dataset).replace(", ", ",\n")
    axes.set_title(f"{name}\nn = {cells['n'].iloc[0]}")


def _legend(figure: Figure, found: Compared) -> None:
    """What a filled and an open mark and the dotted line mean."""
    shown = {str(method) for method in found.rows["method"]}
    handles = [_dot("0.3", "explains a class")]
    if any(not found.stored.known[method].explains_class for method in shown):
        handles.append(_dot("white", "† explains none"))
    if "random" in shown:
        handles.append(Line2D([], [], linewidth=0.8, label="random scores", **_RANDOM))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)


def _dot(face: str, label: str) -> Line2D:
    look: Look = {"marker": "o", "linestyle": "none", "color": "0.3", "markersize": 4.2}
    return Line2D([], [], markerfacecolor=face, label=label, **look)
