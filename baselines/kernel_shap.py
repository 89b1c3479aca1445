"""Kernel SHAP (Lundberg & Lee 2017, Theorem 2), by Captum.

Shapley values of the game "which tokens are present, the rest deleted", estimated by a weighted linear
regression on `n_samples` coalitions drawn from the Shapley kernel. The full and the empty text are always
among them, with a weight that binds: scores sum to p(all tokens) − p(none).
Cost: `n_samples` forward passes. With fewer samples than tokens the regression has many solutions and the
one of least norm is taken, so scores of long texts are coarse; LIME at the same price has the same trouble.
"""

from __future__ import annotations

import torch
from captum.attr import KernelShap as CaptumKernelShap
from jaxtyping import Float, Int
from torch import Tensor

from baselines.presence import Predict, removable_positions, spread, target_probability
from iba.attributor import Attribution, Unfitted, instance_seed, pad_scores
from iba.data.tokens import Instance, TokenBatch
from iba.models.classifier import Classifier
from iba.settings import Count, Seed


class KernelShap(Unfitted):
    """Estimated Shapley values of the tokens; coalitions are drawn per instance from (seed, instance id)."""

    def __init__(self, n_samples: Count = 100, seed: Seed = 0) -> None:
        self.n_samples, self.seed = n_samples, seed

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Signed scores; special tokens get 0."""
        pairs = zip(batch.instances, target.tolist(), strict=True)
        return Attribution(pad_scores([self._explain(classifier, i, of) for i, of in pairs], batch))

    def _explain(self, classifier: Classifier, instance: Instance, target: int) -> Tensor:
        predict = target_probability(classifier, instance, target)
        n = len(removable_positions(instance))
        seed = instance_seed(self.seed, instance.id)
        return spread(shapley_values(predict, n, self.n_samples, seed), instance)


def shapley_values(
    predict: Predict, n_features: int, n_samples: int, seed: int
) -> Float[Tensor, " features"]:
    """Estimated Shapley values of `predict`'s features, 1 present and 0 absent."""
    if n_features < 2:
        # The kernel is over proper, non-empty coalitions, of which there are none: the value is exact.
        return (predict(torch.ones(1, n_features)) - predict(torch.zeros(1, n_features)))[:n_features]
    # Captum draws from torch's global CPU generator, which is left as it was.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        values: Tensor = CaptumKernelShap(predict).attribute(
            torch.ones(1, n_features), n_samples=n_samples, perturbations_per_eval=n_samples
        )
    return values[0].float()
