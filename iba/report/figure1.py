"""Figure 1: mean degradation curves with intervals, a panel per protocol and data set.

They are shown as normalised drop d̄ = (p̄ − m)/(o − m): o = p̄ at 0 %, m = the minimum over the curves of p̄ at
100 %. The intervals resample the instances of all curves together and compute o and m anew in every resample,
so d̄ is exactly 1 at 0 %. Where resampling could halve o − m (the lower end of its interval is not above
(o − m)/2), d̄ means little: all panels of the data set show the probability p̄ and say so. The companion
`figure1_probability` shows it everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, product
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from iba.evaluation.ranking import FIRST_STEP
from iba.evaluation.stats import Resampling, percentiles, resampled_means
from iba.report.drawing import PAGE_WIDTH, Look, Picture, legend
from iba.report.stored import Stored
from iba.report.text import number

#: What an axis is called.
DROP, PROBABILITY = "normalised drop $\\bar{d}$", "probability $\\bar{p}$"
#: The mean, and the low and the high end of its interval.
Band = Float[np.ndarray, "3 curves steps"]
#: Line style and marker by rank of the method, so that a grey print can still be read.
_MARKS = (("-", "o"), ("--", "s"), ("-.", "^"), (":", "x"), ((0, (5, 1)), "D"), ((0, (1, 1)), "v"))


@dataclass(frozen=True)
class Curves:
    """The mean curves of several methods, or points of a study, on the same n instances.

    `shown`: the `quantity` that is drawn; `probability`: p̄. `too_small`: where d̄ means little, why. `remark`:
    printed in the panel.
    """

    names: Sequence[Any]
    fractions: Float[np.ndarray, " steps"]
    n: int
    shown: Band
    probability: Band
    too_small: str = ""
    quantity: str = DROP
    remark: str = ""

    def unscaled(self, remark: str = "") -> Curves:
        """The same as probabilities."""
        return replace(self, shown=self.probability, quantity=PROBABILITY, remark=remark)


#: By protocol and data set.
Panels = Mapping[tuple[str, str], Curves]


def mean_curves(
    names: Sequence[Any],
    curves: Float[np.ndarray, "n curves steps"],
    fractions: Float[np.ndarray, " steps"],
    how: Resampling,
) -> Curves:
    """The means of curves as normalised drops, NaN where o = m (nothing was lost)."""
    n, *shape = curves.shape
    draws = resampled_means(curves.reshape(n, -1), how).reshape(-1, *shape)
    means = np.concatenate([curves.mean(0)[None], draws])
    lowest = means[..., -1:].min(axis=1, keepdims=True)
    lost = means[:, :1, :1] - lowest
    drops = (means - lowest) / np.where(np.abs(lost) < 1e-12, np.nan, lost)

    def band(values: np.ndarray) -> np.ndarray:
        return np.stack([values[0], *percentiles(values[1:], how)])

    whole, least, _ = band(lost).ravel().tolist()
    why = f":\no − m = {number(whole, 2)} is\ntoo small for $\\bar{{d}}$" if least <= whole / 2 else ""
    return Curves(names, fractions, n, band(drops), band(means), why)


def readable(found: Panels) -> Panels:
    """d̄, or p̄ for all of a data set where o − m is too small in one of them."""
    small = {dataset for (_, dataset), curves in found.items() if curves.too_small}
    return {
        key: curves.unscaled(PROBABILITY + curves.too_small) if key[1] in small else curves
        for key, curves in found.items()
    }


def quantity(found: Iterable[Curves]) -> str:
    """What the common axis of curves is called."""
    return "\nor ".join(sorted({curves.quantity for curves in found}))


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure1` and the unscaled companion."""
    scaled = panels(stored)
    unscaled = {key: found.unscaled() for key, found in scaled.items()}
    of = "of the target while tokens are removed, most important first. Dotted: the first step, 11 %"
    of += f" (Table 1); shaded: {stored.how.percent} bootstrap intervals."
    drop = "Normalised drop of the probability (1: whole text, 0: emptied text)"
    yield Picture("figure1", draw(stored, readable(scaled)), f"Figure 1. {drop} {of}")
    caption = f"Figure 1, unscaled. Mean probability {of}"
    yield Picture("figure1_probability", draw(stored, unscaled), caption)


def panels(stored: Stored) -> Panels:
    """The normalised drops by protocol and data set, from the most-first deletion rows."""
    return {
        (protocol, dataset): mean_curves(*rows.stacked(), rows.fractions, stored.how)
        for protocol, dataset in product(stored.protocols, stored.datasets)
        if len((rows := stored.deletion.of(protocol=protocol, dataset=dataset)).rows)
    }


def draw(stored: Stored, found: Panels) -> Figure:
    """Protocols as rows, data sets as columns, one legend above."""
    protocols, datasets, names = stored.protocols, stored.datasets, stored.names
    looks: dict[str, Look] = {
        method: {"label": label, "color": names.colours[method], "linestyle": line, "marker": marker}
        for (method, label), (line, marker) in zip(names.methods.items(), cycle(_MARKS), strict=False)
    }
    each = max(1.26, min(2.3, (PAGE_WIDTH - 0.6) / len(datasets)))
    size = 0.6 + each * len(datasets), 0.8 + 1.5 * len(protocols)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(protocols), len(datasets), sharex=True, sharey="col", squeeze=False)
    for key, axes in zip(product(protocols, datasets), grid.flat, strict=True):
        if key in found:
            draw_panel(axes, found[key], looks, intervals=True)
            axes.axvline(FIRST_STEP, color="0.7", linewidth=0.5, linestyle=":", zorder=0)
        else:
            axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", va="center", color="0.5")
    for axes, protocol in zip(grid[:, 0], protocols, strict=True):
        axes.set_ylabel(f"{names.protocols[protocol]}\n{quantity(found.values())}")
    for axes, dataset in zip(grid[0], datasets, strict=True):
        sizes = " or ".join(map(str, sorted({one.n for (_, of), one in found.items() if of == dataset})))
        axes.set_title(f"{names.datasets[dataset]}\nn = {sizes}".replace(", ", ",\n"))
    figure.supxlabel("tokens removed (%), most important first", fontsize=7)
    legend(figure, names.methods.values())
    return figure


def draw_panel(axes: Axes, found: Curves, looks: Mapping[Any, Look], intervals: bool) -> None:
    """A panel with the curves that have a look."""
    for name, mean, low, high in zip(found.names, *found.shown, strict=True):
        if name in looks:
            axes.plot(found.fractions, mean, **looks[name])
            if intervals:
                colour = looks[name]["color"]
                axes.fill_between(found.fractions, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 1 / 3, 2 / 3, 1], ["0", "33", "67", "100"])
    axes.margins(y=0.4 if found.remark else 0.04)  # room for the remark
    if found.quantity == DROP:
        axes.axhline(0, color="0.7", linewidth=0.5, zorder=0)
    axes.text(0.5, 0.98, found.remark, transform=axes.transAxes, ha="center", va="top", fontsize=6)
