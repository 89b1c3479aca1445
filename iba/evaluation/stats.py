"""Statistics over instances: intervals, paired tests, effect sizes.

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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise

import numpy as np
from jaxtyping import Float
from omegaconf import DictConfig
from scipy import stats
from statsmodels.stats.multitest import multipletests

#: Fewer fine-tuning seeds say too little of their own spread for an interval.
MIN_SEEDS = 3
#: The smallest p-value that is printed as a number; below it stands "p < 0.001".
SMALLEST_P = 0.001
#: Numbers that one batch of resamples may hold at once (32 MB).
_BATCH_NUMBERS = 4_000_000


@dataclass(frozen=True)
class Resampling:
    """How intervals and tests are drawn; the same seed gives the same numbers.

    `n_permutations`: at least so many are drawn where all methods are compared.
    """

    confidence: float = 0.95
    n_resamples: int = 5000
    seed: int = 3
    n_permutations: int = 0

    @property
    def percent(self) -> str:
        """The confidence in words, such as "95 %"."""
        return f"{100 * self.confidence:g} %"

    def rng(self) -> np.random.Generator:
        """A fresh generator of this seed."""
        return np.random.default_rng(self.seed)

    def batches(self, n: int) -> list[int]:
        """How many resamples of n instances to draw at once; even numbers but for the last."""
        size = 2 * max(1, _BATCH_NUMBERS // (2 * n))
        return [min(size, self.n_resamples - start) for start in range(0, self.n_resamples, size)]

    def resolving(self, n_comparisons: int, p_value: float = SMALLEST_P) -> Resampling:
        """As many permutations as let a family's smallest corrected p-value fall below `p_value`.

        The smallest p-value is 2/(resamples + 1), and Holm multiplies it by the number of comparisons.
        """
        return replace(self, n_resamples=max(self.n_resamples, math.ceil(2 * n_comparisons / p_value)))

    @property
    def of_all(self) -> Resampling:
        """For tests of all methods."""
        return replace(self, n_resamples=max(self.n_resamples, self.n_permutations))


def resampling(cfg: DictConfig) -> Resampling:
    """As `cfg.stats` says."""
    return Resampling(**{str(name): value for name, value in cfg.stats.items()})


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
    return mean_intervals([values], how)[0]


def mean_intervals(samples: Sequence[np.ndarray], how: Resampling) -> list[Interval]:
    """The same of several samples; those of one size share their resamples, which cost most of the time."""
    found: dict[int, Interval] = {}
    sizes = [len(sample) for sample in samples]
    for n in set(sizes):
        places = [place for place, size in enumerate(sizes) if size == n]
        values = np.stack([samples[place] for place in places], axis=1)
        means = values.mean(0) if n else np.full(len(places), np.nan)
        ends = percentiles(_means_of_draws(values, how), how) if n > 1 else np.full((2, len(places)), np.nan)
        for place, mean, low, high in zip(places, means, *ends, strict=True):
            found[place] = Interval(float(mean), float(low), float(high), n)
    return [found[place] for place in range(len(samples))]


def ratio_interval(
    numerator: Float[np.ndarray, " n"], denominator: Float[np.ndarray, " n"], how: Resampling
) -> Interval:
    """Ratio of two means over the same instances, which are resampled together."""
    values = np.stack([numerator, denominator], axis=1)
    estimate = float(numerator.mean() / denominator.mean())
    if len(values) < 2:
        return Interval(estimate, math.nan, math.nan, len(values))
    draws = _means_of_draws(values, how)
    low, high = percentiles(draws[:, 0] / draws[:, 1], how)
    return Interval(estimate, float(low), float(high), len(values))


def _means_of_draws(values: Float[np.ndarray, "n k"], how: Resampling) -> Float[np.ndarray, "resamples k"]:
    """Bootstrap means of k columns, by how often each instance is drawn (what scipy's bootstrap draws)."""
    n, rng = len(values), how.rng()
    return np.concatenate([_times_drawn(rng, rows, n) @ values / n for rows in how.batches(n)])


def _times_drawn(rng: np.random.Generator, rows: int, n: int) -> Float[np.ndarray, "rows n"]:
    drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(float)


def resampled_means(values: Float[np.ndarray, "n k"], how: Resampling) -> Float[np.ndarray, "resamples k"]:
    """Bootstrap means of k columns that share their resamples, so that functions of them can be resampled."""
    counts, n = _counts(len(values), how), len(values)
    ends = np.cumsum([0, *how.batches(n)])
    return np.concatenate([counts[i:j].astype(float) @ values / n for i, j in pairwise(ends)])


@lru_cache(
    maxsize=8
)  # the draws cost more than all that is made of them, and every table of a data set needs them
def _counts(n: int, how: Resampling) -> np.ndarray:
    rng, share = how.rng(), np.full(n, 1 / n)
    return np.concatenate([rng.multinomial(n, share, rows).astype(np.uint8) for rows in how.batches(n)])


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

    The numbers of scipy's `permutation_test` (permutation_type="samples"), many times faster: all signs where
    they are few, else as many random ones as `how` says. NaN below two instances.
    """
    n_comparisons, n = differences.shape if len(differences) else (0, 0)
    if n < 2:
        return np.full(n_comparisons, np.nan)
    exact = 2**n <= how.n_resamples
    observed = np.ones(n) @ differences.T / n
    slack = 100 * np.finfo(float).eps * np.abs(observed)  # equal but for rounding
    below = above = np.zeros(n_comparisons, int)
    for signs in [_all_signs(n)] if exact else _random_signs(n, how):
        means = signs @ differences.T / n
        below = below + (means <= observed + slack).sum(0)
        above = above + (means >= observed - slack).sum(0)
    observed_itself = 0 if exact else 1
    drawn = (2**n if exact else how.n_resamples) + observed_itself
    return np.minimum(1.0, 2 * (np.minimum(below, above) + observed_itself) / drawn)


def _all_signs(n: int) -> Float[np.ndarray, "patterns n"]:
    return 2.0 * (np.arange(2**n)[:, None] >> np.arange(n) & 1) - 1


def _random_signs(n: int, how: Resampling) -> Iterator[Float[np.ndarray, "rows n"]]:
    """By the lowest bits of the generator's 32-bit numbers, two to a word; batches end with a word."""
    bits = how.rng().bit_generator
    for rows in how.batches(n):
        words = bits.random_raw(-(-rows * n // 2))
        yield 2.0 * (words.view(np.uint32)[: rows * n] & 1).reshape(rows, n) - 1


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
