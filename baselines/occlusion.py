"""Occlusion, or leave one out (Zeiler & Fergus 2014; Li et al. 2016b for text), by Captum.

A token's score is the fall of the target's probability when that token alone is deleted.
Cost: n + 1 forward passes for n removable tokens.
"""

from __future__ import annotations

from functools import partial

import torch
from captum.attr import Occlusion as CaptumOcclusion
from jaxtyping import Int
from torch import Tensor

from baselines.presence import explain_each, removable_positions, spread, target_probability
from iba.attributor import Attribution, Unfitted
from iba.data.tokens import Instance, TokenBatch
from iba.encoder import Classifier
from iba.frozen import exact_forward


class Occlusion(Unfitted):
    """p(all tokens) − p(all but one), for each token."""

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Signed scores; special tokens get 0."""
        with exact_forward():  # one token seldom moves the answer by more than bf16 rounds it
            return explain_each(partial(self._explain, classifier), batch, target)

    def _explain(self, classifier: Classifier, instance: Instance, target: int) -> Tensor:
        n = len(removable_positions(instance))
        if n == 0:
            return torch.zeros(len(instance))
        falls = CaptumOcclusion(target_probability(classifier, instance, target)).attribute(
            torch.ones(1, n), sliding_window_shapes=(1,), perturbations_per_eval=n
        )
        return spread(falls[0].float(), instance)
