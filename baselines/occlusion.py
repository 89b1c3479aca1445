"""Occlusion, or leave one out (Zeiler & Fergus 2014; Li et al. 2016b for text).

A token's score is the fall of the target's probability when that token alone is deleted.
Cost: n + 1 forward passes for n removable tokens.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from baselines.presence import Presence, explain_together
from iba.attributor import Attribution, Unfitted
from iba.data.tokens import Instance, TokenBatch
from iba.models.classifier import Classifier
from iba.models.frozen import exact_forward


class Occlusion(Unfitted):
    """p(all tokens) − p(all but one), for each token."""

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Signed scores; special tokens get 0."""
        with exact_forward():  # one token seldom moves the answer by more than bf16 rounds it
            return explain_together(classifier, batch, target, all_and_all_but_one, falls)


def all_and_all_but_one(instance: Instance, n: int) -> Presence:
    """All `n` tokens, then all but the first, all but the second, …"""
    return np.vstack([np.ones(n, dtype=bool), ~np.eye(n, dtype=bool)])


def falls(presence: Presence, probabilities: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " features"]:
    """How much is lost in every row from the second on."""
    lost: np.ndarray = probabilities[0] - probabilities[1:]
    return lost
