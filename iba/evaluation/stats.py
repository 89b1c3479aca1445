"""Statistics over instances: intervals, paired tests, effect sizes, and the areas and scores of a curve.

Everything here works on plain arrays with one row per instance. Intervals are percentile bootstrap
intervals (they never leave the range of the data, they exist for constant data, and their cost is linear
in the number of instances); the few fine-tuning seeds have a t interval. Pairs of methods are compared by a
sign-flip permutation test of the mean difference: it tests the very number that the tables print and,
unlike Wilcoxon's test of ranks, is not disturbed by the many instances that do not change at all. It is exact
where the differences are symmetric about 0 if the methods do not differ, else an approximation for many
instances.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig
from scipy import stats
from scipy.special import logit
from statsmodels.stats.multitest import multipletests

#: Probabilities are kept this far from 0 and 1 before their log-odds are taken.
ODDS_EPSILON = 1e-6
#: Fewer fine-tuning seeds say too little of their own spread for an interval.
MIN_SEEDS = 3
#: The smallest p-value that is printed as a number; below it stands "p < 0.001".
SMALLEST_P = 0.001
#: Numbers that one batch of resamples may hold at once (80 MB).
_BATCH_NUMBERS = 10_000_000

Statistic = Callable[..., np.ndarray]


@dataclass(frozen=True)
class Resampling:
    """How intervals and tests are drawn; the same seed gives the same numbers."""

    confidence: float = 0.95
    n_resamples: int = 5000
    seed: int = 3

    @property
    def percent(self) -> str:
        """The confidence in words, such as "95 %"."""
        return f"{100 * self.confidence:g} %"

    def rng(self) -> np.random.Generator:
        """A fresh generator of this seed."""
        return np.random.default_rng(self.seed)

    def batch(self, numbers_per_resample: int) -> int:
        """Resamples to draw at once."""
        return max(1, min(self.n_resamples, _BATCH_NUMBERS // max(numbers_per_resample, 1)))

    def resolving(self, n_comparisons: int, p_value: float = SMALLEST_P) -> Resampling:
        """As many permutations as let a family's smallest corrected p-value fall below `p_value`.

        The smallest p-value is 2/(resamples + 1), and Holm multiplies it by the number of comparisons.
        """
        return replace(self, n_resamples=max(self.n_resamples, math.ceil(2 * n_comparisons / p_value)))


def resampling(cfg: DictConfig) -> Resampling:
    """As `cfg.stats` says."""
    return Resampling(float(cfg.stats.confidence), int(cfg.stats.n_resamples), int(cfg.stats.seed))


@dataclass(frozen=True)
class Interval:
    """An estimate, the ends of its interval (NaN below two instances) and the number of instances."""

    estimate: float
    low: float
    high: float
    n: int

    def contains(self, value: float) -> bool:
        """Whether `value` lies inside the interval, ends included."""
        return self.low <= value <= self.high


def mean_interval(values: Float[np.ndarray, " n"], how: Resampling) -> Interval:
    """Mean over instances with its bootstrap interval."""
    return _bootstrap((values,), _mean, how)


def ratio_interval(
    numerator: Float[np.ndarray, " n"], denominator: Float[np.ndarray, " n"], how: Resampling
) -> Interval:
    """Ratio of two means over the same instances, which are resampled together."""
    return _bootstrap((numerator, denominator), _ratio, how)


def _bootstrap(samples: tuple[np.ndarray, ...], statistic: Statistic, how: Resampling) -> Interval:
    n = len(samples[0])
    if n < 2:
        return Interval(float(statistic(*samples)) if n else math.nan, math.nan, math.nan, n)
    found = stats.bootstrap(
        samples,
        statistic,
        paired=len(samples) > 1,
        vectorized=True,
        n_resamples=how.n_resamples,
        batch=how.batch(len(samples) * n),
        confidence_level=how.confidence,
        method="percentile",
        rng=how.rng(),
    ).confidence_interval
    return Interval(float(statistic(*samples)), float(found.low), float(found.high), n)


def _mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(values.mean(axis))


def _ratio(numerator: np.ndarray, denominator: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(numerator.mean(axis) / denominator.mean(axis))


def resampled_means(values: Float[np.ndarray, "n k"], how: Resampling) -> Float[np.ndarray, "resamples k"]:
    """Bootstrap means of k columns that share their resamples, so that functions of them can be resampled."""
    n = len(values)
    rng, size = how.rng(), how.batch(n)
    parts = []
    for start in range(0, how.n_resamples, size):
        rows = min(size, how.n_resamples - start)
        parts.append(rng.multinomial(n, np.full(n, 1 / n), size=rows) @ values / n)
    return np.concatenate(parts)


def percentiles(
    draws: Float[np.ndarray, "resamples ..."], how: Resampling
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """The two ends of the percentile interval of bootstrap draws."""
    tail = (1 - how.confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def crossed_interval(values: Float[np.ndarray, "seeds n"], how: Resampling) -> Interval:
    """Mean over fine-tuning seeds and instances, both samples; a t interval, none below `MIN_SEEDS` seeds.

    The instances are the same under every seed. Their noise is therefore common to the means of the seeds,
    whose spread alone would miss it: the squared standard error is the sum of those of the mean over seeds
    and of the mean over instances, with Welch's and Satterthwaite's degrees of freedom. Both count the
    interaction of seeds and instances. Simulated with three seeds and a nominal 95 %, it covers the mean in
    92 to 98 % of experiments, whatever the share of the seeds in the variance; most where the interaction,
    which is counted twice, is most of it. (The t interval of the seed means alone covers it in 0 to 95 %.)
    A bootstrap of so few seeds is too narrow: it shrinks their variance by
    (seeds − 1)/seeds and knows no t quantile. `n` is the number of instances.
    """
    n_seeds, n = values.shape
    mean = float(values.mean())
    if n_seeds < MIN_SEEDS or n < 2:
        return Interval(mean, math.nan, math.nan, n)
    of_seeds, of_instances = (float(stats.sem(values.mean(axis))) ** 2 for axis in (1, 0))
    variance = of_seeds + of_instances
    if not variance:
        return Interval(mean, mean, mean, n)
    freedom = variance**2 / (of_seeds**2 / (n_seeds - 1) + of_instances**2 / (n - 1))
    low, high = stats.t.interval(how.confidence, freedom, mean, math.sqrt(variance))
    return Interval(mean, float(low), float(high), n)


def sign_flip_test(differences: Float[np.ndarray, "k n"], how: Resampling) -> Float[np.ndarray, " k"]:
    """Two-sided p-value of "the mean paired difference is 0" for k comparisons on the same n instances.

    NaN below two instances.
    """
    if not len(differences):
        return np.zeros(0)
    n = differences.shape[1]
    if n < 2:
        return np.full(len(differences), np.nan)
    # The test permutes the signs alone: every draw then serves all comparisons in one matrix product.
    found = stats.permutation_test(
        (np.ones(n),),
        lambda signs, axis: signs @ differences.T / n,
        permutation_type="samples",
        vectorized=True,
        axis=-1,
        n_resamples=how.n_resamples,
        batch=how.batch(4 * n),
        rng=how.rng(),
    )
    return np.asarray(found.pvalue, dtype=float)


def holm(p_values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """p-values corrected for the k comparisons of one family (Holm 1979); NaN, a test not made, stays."""
    made = ~np.isnan(p_values)
    if not made.any():
        return p_values
    corrected = np.full(len(p_values), np.nan)
    gc.freeze()  # multipletests collects garbage, which takes a second per call once torch is loaded
    try:
        corrected[made] = multipletests(p_values[made], method="holm")[1]
    finally:
        gc.unfreeze()
    return corrected


def effect_size(differences: Float[np.ndarray, " n"]) -> float:
    """Cohen's d of paired differences: their mean in units of their standard deviation; 0 if all are 0."""
    if len(differences) < 2 or not differences.any():
        return 0.0 if len(differences) else math.nan
    deviation = differences.std(ddof=1)
    return float(differences.mean() / deviation) if deviation else math.copysign(math.inf, differences[0])


class Areas(NamedTuple):
    """Area under a curve and area between the curve and its own start."""

    under: Float[np.ndarray, "..."]
    over: Float[np.ndarray, "..."]


def areas(fractions: Float[np.ndarray, " steps"], curve: Float[np.ndarray, "... steps"]) -> Areas:
    """Areas under and over degradation curves by the trapezoid rule, over the share of removed tokens.

    `fractions` must start at 0: the undamaged input is part of the curve. Over [0, 1] the area under is
    the mean probability along the curve and the area over is the mean drop, p(0) − p; over: larger means
    that the removed tokens mattered more. Negative where the probability rises.
    """
    if fractions[0] != 0 or (np.diff(fractions) <= 0).any():
        raise ValueError("the fractions of a curve must start at 0 and increase")
    return Areas(
        np.asarray(np.trapezoid(curve, fractions, axis=-1)),
        np.asarray(np.trapezoid(curve[..., :1] - curve, fractions, axis=-1)),
    )


def mean_drop(
    start: Float[np.ndarray, " n"], after: Float[np.ndarray, "n shares"]
) -> Float[np.ndarray, " n"]:
    """Mean over the shares of p(0) − p(after): ERASER's (DeYoung et al. 2020) summary of its two scores.

    With the top share removed it is comprehensiveness (larger is better), with only the top share kept
    it is sufficiency (smaller is better).
    """
    return (start[:, None] - after).mean(1)


def log_odds_drop(start: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Log-odds of the target before minus after the removal, nats."""
    low, high = ODDS_EPSILON, 1 - ODDS_EPSILON
    return np.asarray(logit(np.clip(start, low, high)) - logit(np.clip(after, low, high)))
