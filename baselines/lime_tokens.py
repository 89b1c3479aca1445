"""LIME (Ribeiro et al. 2016) with the lime package's kernel and regression, one feature per word piece.

Which samples are drawn, how far from the text they lie, and the regression are restated here from the
package's `LimeTextExplainer`, so that the samples of many texts can be answered together and little time
goes by in between; a test asks both for equal weights. Perturbation happens in token ids: pieces never
change, pairs stay pairs, separators and segments are untouched, and repeated words are separate features.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from baselines.presence import Presence, explain_together
from iba.attributor import Attribution, Unfitted, instance_seed
from iba.data.tokens import Instance, TokenBatch
from iba.models.classifier import Classifier
from iba.models.parallel import single_blas
from iba.settings import Count, Positive, Seed

#: lime's own, in hundredths of the cosine distance.
KERNEL_WIDTH = 25.0


class LimeTokens(Unfitted):
    """Weights of a local ridge regression on `n_samples` random deletions (the first is the whole text).

    Deletions are drawn anew for every instance from (seed, instance id), so results depend on no other.
    Cost: `n_samples` forward passes.
    """

    def __init__(self, n_samples: Count = 100, seed: Seed = 0, kernel_width: Positive = KERNEL_WIDTH) -> None:
        self.n_samples, self.seed, self.kernel_width = n_samples, seed, kernel_width

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Signed weights for the target class; special tokens get 0."""
        return explain_together(classifier, batch, target, self._samples, self._weights)

    def _weights(
        self, presence: Presence, probabilities: Float[np.ndarray, " rows"]
    ) -> Float[np.ndarray, " features"]:
        return local_weights(presence, probabilities, self.kernel_width)

    def _samples(self, instance: Instance, n: int) -> Presence:
        return samples(n, self.n_samples, instance_seed(self.seed, instance.id))


def samples(n: int, n_samples: int, seed: int) -> Presence:
    """lime's samples of `n` words: the whole text, then texts without 1 to `n` words drawn at random."""
    random = np.random.RandomState(seed)  # lime's generator; its draws must come in lime's order
    presence = np.ones((n_samples, n), dtype=bool)
    for row, n_absent in zip(presence[1:], random.randint(1, n + 1, n_samples - 1), strict=True):
        row[random.permutation(n)[:n_absent]] = False  # what lime's choice without replacement draws
    return presence


def kernel_weights(presence: Presence, width: float = KERNEL_WIDTH) -> Float[np.ndarray, " rows"]:
    """How much lime counts a sample: less, the larger its cosine distance from the whole text (row 0)."""
    distance = 100 * (1 - np.sqrt(presence.mean(1)))  # of 0s and 1s from 1s only
    return np.exp(-((distance / width) ** 2) / 2)


def local_weights(
    presence: Presence, probabilities: Float[np.ndarray, " rows"], kernel_width: float = KERNEL_WIDTH
) -> Float[np.ndarray, " features"]:
    """lime's regression of `probabilities`, in which samples near the whole text count more."""
    return ridge(presence, probabilities, kernel_weights(presence, kernel_width))


def ridge(
    presence: Presence, probabilities: Float[np.ndarray, " rows"], weights: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, " features"]:
    """Coefficients of a weighted ridge regression with an intercept and a penalty of 1, as lime's.

    Solved for the samples or the features, whichever are fewer. scikit-learn's, which lime calls, does the
    same, but checks its input for longer than it solves.
    """
    scale = np.sqrt(weights)
    data = scale[:, None] * (presence - np.average(presence, axis=0, weights=weights))
    target = scale * (probabilities - np.average(probabilities, weights=weights))
    n, features = data.shape
    with single_blas():
        if n < features:
            return data.T @ np.linalg.solve(data @ data.T + np.eye(n), target)
        return np.linalg.solve(data.T @ data + np.eye(features), data.T @ target)
