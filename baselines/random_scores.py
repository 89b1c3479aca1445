"""Random scores: what any method must beat."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from iba.attributor import Attribution, Unfitted, instance_seed, pad_scores
from iba.data.tokens import TokenBatch
from iba.models.classifier import Classifier
from iba.settings import Seed


class RandomScores(Unfitted):
    """Uniform scores, drawn per instance from (seed, instance id). Cost: none."""

    def __init__(self, seed: Seed = 0) -> None:
        self.seed = seed

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Scores in [0, 1), blind to the target."""
        draws = [
            np.random.default_rng(instance_seed(self.seed, i.id)).random(len(i)) for i in batch.instances
        ]
        return Attribution(pad_scores([torch.from_numpy(d) for d in draws], batch))
