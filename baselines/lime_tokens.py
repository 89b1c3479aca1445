"""LIME (Ribeiro et al. 2016) with the lime package's kernel and regression, one feature per word piece.

Which samples are drawn, and how far from the text they lie, is restated here line by line from the package's
`LimeTextExplainer`, so that the samples of many texts can be answered together; a test asks both for equal
weights. Perturbation happens in token ids: pieces never change, pairs stay pairs, separators and segments are
untouched, and repeated words are separate features.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from lime.lime_text import LimeTextExplainer
from sklearn.metrics.pairwise import cosine_distances
from torch import Tensor

from baselines.presence import Presence, explain_together
from iba.attributor import Attribution, Unfitted, instance_seed
from iba.data.tokens import Instance, TokenBatch
from iba.models.classifier import Classifier
from iba.settings import Count, Seed


class LimeTokens(Unfitted):
    """Weights of a local ridge regression on `n_samples` random deletions (the first is the whole text).

    Deletions are drawn anew for every instance from (seed, instance id), so results depend on no other.
    Cost: `n_samples` forward passes.
    """

    def __init__(self, n_samples: Count = 100, seed: Seed = 0) -> None:
        self.n_samples, self.seed = n_samples, seed

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Signed weights for the target class; special tokens get 0."""
        return explain_together(classifier, batch, target, self._samples, local_weights)

    def _samples(self, instance: Instance, n: int) -> Presence:
        return samples(n, self.n_samples, instance_seed(self.seed, instance.id))


def samples(n: int, n_samples: int, seed: int) -> Presence:
    """lime's samples of `n` words: the whole text, then texts without 1 to `n` words drawn at random."""
    random = np.random.RandomState(seed)  # lime's generator; its draws must come in lime's order
    presence = np.ones((n_samples, n), dtype=bool)
    for row, n_absent in enumerate(random.randint(1, n + 1, n_samples - 1), start=1):
        presence[row, random.choice(n, n_absent, replace=False)] = False
    return presence


def local_weights(
    presence: Presence, probabilities: Float[np.ndarray, " rows"]
) -> Float[np.ndarray, " features"]:
    """lime's ridge regression of `probabilities`, in which samples near the whole text (row 0) count more."""
    data = presence.astype(float)
    _, weights, *_ = LimeTextExplainer().base.explain_instance_with_data(
        data,
        probabilities[:, None],
        100 * cosine_distances(data, data[:1]).ravel(),
        label=0,
        num_features=data.shape[1],
        feature_selection="none",  # all features are asked for: lime need not fit twice to choose them
    )
    found = np.zeros(data.shape[1])
    for feature, weight in weights:
        found[feature] = weight
    return found
