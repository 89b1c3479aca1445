"""Mean degradation curves with intervals, as the probability p̄ and as normalised drop d̄ = (p̄ − m)/(o − m).

o = p̄ at 0 %, m = the minimum over the curves of p̄ at 100 %. The intervals resample the instances of all
curves together and compute o and m anew in every resample, so d̄ is exactly 1 at 0 %. Where the emptied text
is nearly as probable as the whole one, o − m is small and d̄ means little: where resampling could halve it
(the lower end of its interval is not above (o − m)/2), figures show p̄ itself and say so (`readable`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from iba.evaluation.stats import Resampling, percentiles, resampled_means
from iba.report.text import number

#: What an axis is called.
DROP, PROBABILITY = "normalised drop $\\bar{d}$", "probability $\\bar{p}$"
Means = Float[np.ndarray, "*draws curves steps"]
#: The mean, and the low and the high end of its interval.
Band = Float[np.ndarray, "3 curves steps"]


@dataclass(frozen=True)
class Curves:
    """The mean curves of several methods, or points of a study, on the same n instances.

    `shown`: what is drawn, d̄ unless `remark`, which is printed in the panel, says otherwise; `probability`:
    p̄. `lost`: o − m, and `lost_low` the lower end of its interval.
    """

    names: Sequence[Any]
    fractions: Float[np.ndarray, " steps"]
    n: int
    shown: Band
    probability: Band
    lost: float = 1.0
    lost_low: float = 1.0
    remark: str = ""

    @property
    def too_small(self) -> bool:
        """Whether o − m is too small for d̄."""
        return self.lost_low <= self.lost / 2

    def unscaled(self, remark: str = "") -> Curves:
        """The same as probabilities."""
        return replace(self, shown=self.probability, remark=remark)


def mean_curves(
    names: Sequence[Any],
    fractions: Float[np.ndarray, " steps"],
    curves: Float[np.ndarray, "n curves steps"],
    how: Resampling,
) -> Curves:
    """The means of curves as normalised drops."""
    n, *shape = curves.shape
    means = curves.mean(0)
    draws = resampled_means(curves.reshape(n, -1), how).reshape(-1, *shape)

    def band(of: Callable[[Means], np.ndarray]) -> np.ndarray:
        return np.stack([of(means), *percentiles(of(draws), how)])

    lost, lost_low, _ = band(_lost).ravel().tolist()
    return Curves(names, fractions, n, band(normalised), band(np.asarray), lost, lost_low)


def normalised(means: Means) -> Means:
    """d̄ of mean probabilities, o and m shared by the curves; NaN where o = m (nothing was lost)."""
    lost = _lost(means)
    return (means - _lowest(means)) / np.where(np.abs(lost) < 1e-12, np.nan, lost)


def _lowest(means: Means) -> np.ndarray:
    """m, of shape draws × 1 × 1."""
    return means[..., -1:].min(axis=-2, keepdims=True)


def _lost(means: Means) -> np.ndarray:
    """o − m, of the same shape."""
    return means[..., :1, :1] - _lowest(means)


def readable(found: dict[tuple[str, str], Curves]) -> dict[tuple[str, str], Curves]:
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
    """What the common axis of readable curves is called."""
    shown = {PROBABILITY if curves.remark else DROP for curves in found}
    return shown.pop() if len(shown) == 1 else "$\\bar{d}$ (or $\\bar{p}$ where said)"
