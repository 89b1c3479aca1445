"""Mean degradation curves with intervals, as the probability p̄ and as normalised drop d̄ = (p̄ − m)/(o − m).

o = p̄ at 0 %, m = the minimum over the curves of p̄ at 100 %. The intervals resample the instances of all
curves together and compute o and m anew in every resample, so d̄ is exactly 1 at 0 %. Where the emptied text
is nearly as probable as the whole one, o − m is small and d̄ means little: where resampling could halve it
(the lower end of its interval is not above (o − m)/2), figures show p̄ itself and say so (`readable`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from iba.evaluation.stats import Resampling, percentiles, resampled_means
from iba.report.text import number

#: What an axis is called.
DROP, PROBABILITY = "normalised drop $\\bar{d}$", "probability $\\bar{p}$"
Means = Float[np.ndarray, "*draws curves steps"]


@dataclass(frozen=True)
class Curves:
    """The mean curves of several methods, or points of a study, on the same n instances; curves × steps.

    `low`, `high`: the ends of the intervals. `probability`: mean, low and high of p̄, whatever is shown.
    `lost`: o − m, and `lost_low` the lower end of its interval. `remark`: printed in the panel.
    """

    names: Sequence[Any]
    fractions: Float[np.ndarray, " steps"]
    n: int
    mean: Float[np.ndarray, "curves steps"]
    low: Float[np.ndarray, "curves steps"]
    high: Float[np.ndarray, "curves steps"]
    probability: Sequence[Float[np.ndarray, "curves steps"]] = ()
    lost: float = 1.0
    lost_low: float = 1.0
    remark: str = ""

    @property
    def too_small(self) -> bool:
        """Whether o − m is too small for d̄."""
        return self.lost_low <= self.lost / 2

    def unscaled(self, remark: str = "") -> Curves:
        """The same as probabilities."""
        mean, low, high = self.probability
        return replace(self, mean=mean, low=low, high=high, remark=remark)


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
    drop = normalised(means), *percentiles(normalised(draws), how)
    probability = means, *percentiles(draws, how)
    lost_low, _ = percentiles(_lost(draws), how)
    return Curves(names, fractions, n, *drop, probability, _lost(means).item(), lost_low.item())


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
    return {
        key: curves.unscaled(_why(curves)) if key[1] in small else curves for key, curves in found.items()
    }


def _why(curves: Curves) -> str:
    """What is shown in place of d̄, and why where it is for these curves."""
    small = f":\no − m = {number(curves.lost, 2)} is\ntoo small for $\\bar{{d}}$"
    return PROBABILITY + small * curves.too_small


def quantity(found: Iterable[Curves]) -> str:
    """What the common axis of readable curves is called."""
    shown = {PROBABILITY if curves.remark else DROP for curves in found}
    return shown.pop() if len(shown) == 1 else "$\\bar{d}$ (or $\\bar{p}$ where said)"


def in_words(found: Iterable[Curves]) -> str:
    """What readable curves show, for a caption."""
    return "normalised drop" + " (or, where said, the probability)" * any(c.remark for c in found)
