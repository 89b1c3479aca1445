"""Figure 1: normalised drop d̄ = (p̄ − m)/(o − m) against the share of removed tokens, a panel per data set.

o = p̄ at 0 %, m = the minimum over the panel's methods of p̄ at 100 %. The shaded intervals resample the
instances of all methods together and compute o and m anew in every resample, so d̄ is exactly 1 at 0 %.
Where the emptied text is nearly as probable as the whole one, o − m is small and d̄ means little: where
resampling could halve it (the lower end of its interval is not above (o − m)/2), the data set's panels show p̄
itself and say so. The companion `figure1_probability` shows p̄ everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iba.evaluation.ranking import FIRST_STEP
from iba.evaluation.stats import Resampling, percentiles, resampled_means
from iba.report.drawing import PAGE_WIDTH, Mark, legend, look, marks, save
from iba.report.rows import DELETE, Stored
from iba.report.text import number

Scale = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Panel:
    """The curves of one data set and protocol with their intervals, methods × steps.

    `lost`: o − m, and `lost_low` the lower end of its interval. `remark`: printed in the panel.
    """

    methods: list[str]
    fractions: Float[np.ndarray, " steps"]
    curve: Float[np.ndarray, "methods steps"]
    low: Float[np.ndarray, "methods steps"]
    high: Float[np.ndarray, "methods steps"]
    n: int
    lost: float = 1.0
    lost_low: float = 1.0
    remark: str = ""

    @property
    def too_small(self) -> bool:
        """Whether o − m is too small for d̄."""
        return self.lost_low <= self.lost / 2


def unscaled(means: Float[np.ndarray, "*draws methods steps"]) -> Float[np.ndarray, "*draws methods steps"]:
    """The mean probabilities as they are."""
    return means


def normalised(means: Float[np.ndarray, "*draws methods steps"]) -> Float[np.ndarray, "*draws methods steps"]:
    """d̄ of mean probabilities, o and m shared by the methods; NaN where o = m (nothing was lost)."""
    start, lowest = _ends(means)
    span = np.where(np.abs(start - lowest) < 1e-12, np.nan, start - lowest)
    return (means - lowest) / span


def _ends(means: Float[np.ndarray, "*draws methods steps"]) -> tuple[np.ndarray, np.ndarray]:
    """o and m, of shape draws × 1 × 1."""
    return means[..., :1, :1], means[..., -1:].min(axis=-2, keepdims=True)


def panel_of(
    fractions: Float[np.ndarray, " steps"],
    curves: Float[np.ndarray, "n methods steps"],
    methods: list[str],
    how: Resampling,
    scale: Scale,
) -> Panel:
    """Scaled mean curves of several methods on the same instances, with intervals."""
    n, n_methods, n_steps = curves.shape
    means = curves.mean(0)
    draws = resampled_means(curves.reshape(n, -1), how).reshape(-1, n_methods, n_steps)
    low, high = percentiles(scale(draws), how)
    lost, lost_draws = (start - lowest for start, lowest in map(_ends, (means, draws)))
    lost_low, _ = percentiles(lost_draws, how)
    return Panel(methods, fractions, scale(means), low, high, n, lost.item(), lost_low.item())


def panel(stored: Stored, protocol: str, dataset: str, scale: Scale) -> Panel | None:
    """The panel of one data set and protocol from the most-first deletion rows; None without rows."""
    rows = stored.curves
    rows = rows[(rows["protocol"] == protocol) & (rows["dataset"] == dataset)]
    rows = rows[(rows["grid"] == "curve") & (rows["order"] == "most") & (rows["operator"] == DELETE)]
    if rows.empty:
        return None
    wide = rows.pivot(index="instance_id", columns=["method", "step"], values="prob_target")
    methods = [m for m in stored.methods if m in wide.columns.get_level_values(0)]
    curves = np.stack([wide[m].sort_index(axis=1).to_numpy(float) for m in methods], axis=1)
    fractions = rows.groupby("step")["fraction"].first().to_numpy(float)
    return panel_of(fractions, curves, methods, stored.how, scale)


def draw_panel(axes: Axes, found: Panel, style: dict[str, Mark], labels: dict[str, str]) -> None:
    """The curves of one panel."""
    for row, method in enumerate(found.methods):
        mark = style[method]
        axes.fill_between(
            found.fractions, found.low[row], found.high[row], color=mark.color, alpha=0.18, linewidth=0
        )
        axes.plot(
            found.fractions,
            found.curve[row],
            color=mark.color,
            linestyle=mark.linestyle,
            marker=mark.marker,
            label=labels[method],
        )
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 1 / 3, 2 / 3, 1], ["0", "33", "67", "100"])
    axes.axhline(0, color="0.7", linewidth=0.5, zorder=0)
    axes.axvline(FIRST_STEP, color="0.7", linewidth=0.5, linestyle=":", zorder=0)
    axes.text(0.5, 0.98, found.remark, transform=axes.transAxes, ha="center", va="top", fontsize=6)


def limits(column: Sequence[Panel]) -> tuple[float, float]:
    """The heights that a figure's column of panels shows: its curves, and as much again for intervals.

    Where hardly anything can be lost, an interval of d̄ is many times the curve; it is cut at the frame.
    """
    curves = [p for p in column if np.isfinite(p.curve).all()]  # NaN where nothing at all is lost
    if not curves:
        return 0.0, 1.0
    low, high = min(p.curve.min() for p in curves), max(p.curve.max() for p in curves)
    lowest = max(min(np.fmin(p.low, low).min() for p in curves), 2 * low - high)  # fmin passes NaN over
    highest = min(max(np.fmax(p.high, high).max() for p in curves), 2 * high - low)
    pad = 0.04 * (highest - lowest)
    remark = 0.4 * (highest - lowest) if any(p.remark for p in column) else 0  # room for it
    return float(lowest - pad), float(highest + pad + remark)


def draw(
    stored: Stored, protocols: Sequence[str], panels: dict[tuple[str, str], Panel], quantity: str
) -> Figure:
    """Protocols as rows, data sets as columns, one legend above."""
    columns = stored.datasets
    width = max(PAGE_WIDTH, 1.38 * len(columns)) if len(columns) > 2 else 0.6 + 2.3 * len(columns)
    figure = Figure(figsize=(width, 0.8 + 1.5 * len(protocols)), layout="constrained")
    grid = figure.subplots(len(protocols), len(columns), sharex=True, sharey="col", squeeze=False)
    style = marks(stored.names.colours)
    for i, protocol in enumerate(protocols):
        for j, dataset in enumerate(columns):
            axes: Axes = grid[i, j]
            if (protocol, dataset) in panels:
                draw_panel(axes, panels[protocol, dataset], style, stored.names.methods)
            else:
                axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", color="0.5")
            if i == 0:
                name = stored.names.datasets[dataset].replace(", ", ",\n")
                axes.set_title(f"{name}\n{_sizes(dataset, panels)}")
        grid[i, 0].set_ylabel(f"{stored.names.protocols[protocol]}\n{quantity}")
    for j, dataset in enumerate(columns):
        shown = [panels[protocol, dataset] for protocol in protocols if (protocol, dataset) in panels]
        grid[0, j].set_ylim(*limits(shown))
    figure.supxlabel("tokens removed (%), most important first", fontsize=7)
    legend(figure, list(stored.names.methods.values()))
    return figure


def _sizes(dataset: str, panels: dict[tuple[str, str], Panel]) -> str:
    sizes = sorted({found.n for (_, name), found in panels.items() if name == dataset})
    return f"n = {' or '.join(map(str, sizes))}"


@cache
def _panels(stored: Stored, scale: Scale) -> dict[tuple[str, str], Panel]:
    keys = [(protocol, dataset) for protocol in stored.protocols for dataset in stored.datasets]
    found = {key: panel(stored, *key, scale) for key in keys}
    return {key: value for key, value in found.items() if value is not None}


def _too_small(stored: Stored) -> set[str]:
    """The data sets under one of whose protocols o − m is too small for d̄."""
    return {dataset for (_, dataset), found in _panels(stored, normalised).items() if found.too_small}


def _readable(stored: Stored) -> dict[tuple[str, str], Panel]:
    """d̄, or p̄ for all the panels of a data set, which share an axis, where o − m is too small for d̄."""
    small, probabilities = _too_small(stored), _panels(stored, unscaled)
    return {
        key: _remarked(probabilities[key]) if key[1] in small else found
        for key, found in _panels(stored, normalised).items()
    }


def _remarked(found: Panel) -> Panel:
    what = f"probability $\\bar{{p}}$:\no − m = {number(found.lost, 2)} is\ntoo small for $\\bar{{d}}$"
    return replace(found, remark=what)


def caption(stored: Stored) -> str:
    """What the figure shows, and of how many instances."""
    small = [stored.names.datasets[name] for name in stored.datasets if name in _too_small(stored)]
    instead = f" ({', '.join(small)}: the probability itself, as emptying loses too little)" if small else ""
    return (
        "Figure 1. Normalised drop of the target's probability (1 with the whole text, 0 at the lowest mean "
        f"of an emptied one) while tokens are removed, most important first{instead}; {_shading(stored)}."
    )


def caption_unscaled(stored: Stored) -> str:
    """The same of the companion."""
    return (
        "Figure 1, unscaled: mean probability of the target while tokens are removed, most important first; "
        f"{_shading(stored)}."
    )


def _shading(stored: Stored) -> str:
    sizes = stored.scores.groupby("dataset")["instance_id"].nunique()
    each = ", ".join(f"{stored.names.datasets[d]} {sizes[d]}" for d in stored.datasets)
    return (
        f"dotted: the first step, 11 % (Table 1); shaded: {stored.how.percent} bootstrap intervals, "
        f"wide ones cut at the frame; n: {each}"
    )


def write(stored: Stored) -> list[Path]:
    """Store `figures/figure1` (all protocols), one file per protocol, and the unscaled companion."""
    panels, folder = _readable(stored), stored.folder / "figures"
    quantity = "$\\bar{d}$ (or $\\bar{p}$ where said)" if _too_small(stored) else "normalised drop $\\bar{d}$"
    with look():
        paths = save(draw(stored, stored.protocols, panels, quantity), folder / "figure1", stored.made_with)
        for protocol in stored.protocols:
            alone = draw(stored, [protocol], panels, quantity)
            paths += save(alone, folder / f"figure1_{protocol}", stored.made_with)
        companion = draw(stored, stored.protocols, _panels(stored, unscaled), "probability $\\bar{p}$")
        return paths + save(companion, folder / "figure1_probability", stored.made_with)
