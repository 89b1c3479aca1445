"""Mean degradation curves with intervals: the probability p̄, and the normalised drop d̄ = (p̄ − m)/(o − m).

o = p̄ at 0 %, m = the minimum over the curves of p̄ at 100 %. The intervals resample the instances of all
curves together and compute o and m anew in every resample, so d̄ is exactly 1 at 0 %. Where resampling could
halve o − m (the lower end of its interval is not above (o − m)/2), d̄ means little: figures show p̄ and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from iba.evaluation.stats import Resampling, percentiles, resampled_means
from iba.report.drawing import Look
from iba.report.text import number

#: What an axis is called.
DROP, PROBABILITY = "normalised drop $\\bar{d}$", "probability $\\bar{p}$"
Means = Float[np.ndarray, "*draws curves steps"]
#: The mean, and the low and the high end of its interval.
Band = Float[np.ndarray, "3 curves steps"]


@dataclass(frozen=True)
class Curves:
    """The mean curves of several methods, or points of a study, on the same n instances.

    `shown`: the `quantity` that is drawn; `probability`: p̄. `lost`: o − m, and `lost_low` the lower end of
    its interval. `remark`: printed in the panel.
    """

    names: Sequence[Any]
    fractions: Float[np.ndarray, " steps"]
    n: int
    shown: Band
    probability: Band
    lost: float = 1.0
    lost_low: float = 1.0
    quantity: str = DROP
    remark: str = ""

    @property
    def too_small(self) -> bool:
        """Whether o − m is too small for d̄."""
        return self.lost_low <= self.lost / 2

    def unscaled(self, remark: str = "") -> Curves:
        """The same as probabilities."""
        return replace(self, shown=self.probability, quantity=PROBABILITY, remark=remark)


def mean_curves(
    names: Sequence[Any],
    curves: Float[np.ndarray, "n curves steps"],
    fractions: Float[np.ndarray, " steps"],
    how: Resampling,
) -> Curves:
    """The means of curves as normalised drops."""
    n, *shape = curves.shape
    means = curves.mean(0)
    draws = resampled_means(curves.reshape(n, -1), how).reshape(-1, *shape)

    def band(of: Callable[[Means], np.ndarray]) -> np.ndarray:
        return np.stack([of(means), *percentiles(of(draws), how)])

    lost, lost_low, _ = band(lambda means: _ends(means)[1]).ravel().tolist()
    return Curves(names, fractions, n, band(normalised), band(np.asarray), lost, lost_low)


def normalised(means: Means) -> Means:
    """d̄ of mean probabilities, o and m shared by the curves; NaN where o = m (nothing was lost)."""
    lowest, lost = _ends(means)
    return (means - lowest) / np.where(np.abs(lost) < 1e-12, np.nan, lost)


def _ends(means: Means) -> tuple[np.ndarray, np.ndarray]:
    """m and o − m, of shape draws × 1 × 1."""
    lowest = means[..., -1:].min(axis=-2, keepdims=True)
    return lowest, means[..., :1, :1] - lowest


def readable(found: Mapping[tuple[str, str], Curves]) -> dict[tuple[str, str], Curves]:
    """By protocol and data set d̄, or p̄ for all of a data set where o − m is too small in one of them."""
    small = {dataset for (_, dataset), curves in found.items() if curves.too_small}
    why = ":\no − m = {} is\ntoo small for $\\bar{{d}}$"
    return {
        key: curves.unscaled(PROBABILITY + curves.too_small * why.format(number(curves.lost, 2)))
        if key[1] in small
        else curves
        for key, curves in found.items()
    }


def quantity(found: Iterable[Curves]) -> str:
    """What the common axis of curves is called."""
    shown = {curves.quantity for curves in found}
    return shown.pop() if len(shown) == 1 else "$\\bar{d}$ (or $\\bar{p}$ where said)"


def draw(axes: Axes, found: Curves, looks: Mapping[Any, Look], intervals: bool) -> None:
    """A panel with the curves that have a look."""
    for name, mean, low, high in zip(found.names, *found.shown, strict=True):
        if name in looks:
            axes.plot(found.fractions, mean, **looks[name])
            if intervals:
                colour = looks[name]["color"]
                axes.fill_between(found.fractions, low, high, color=colour, alpha=0.18, linewidth=0)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xticks([0, 1 / 3, 2 / 3, 1], ["0", "33", "67", "100"])
    axes.axhline(0, color="0.7", linewidth=0.5, zorder=0)
    axes.text(0.5, 0.98, found.remark, transform=axes.transAxes, ha="center", va="top", fontsize=6)
