"""LIME (Ribeiro et al. 2016) by the lime package, one feature per word piece.

The package explains the string of positions "1 2 3 …"; what it leaves of that string says which tokens
stay. Perturbation thus happens in token ids: pieces never change, pairs stay pairs, separators and
segments are untouched, and repeated words are separate features.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from jaxtyping import Int
from lime.lime_text import LimeTextExplainer
from torch import Tensor

from baselines.presence import explain_each, probabilities_keeping, removable_positions
from iba.attributor import Attribution, Unfitted, instance_seed
from iba.data.tokens import Instance, TokenBatch
from iba.encoder import Classifier


class LimeTokens(Unfitted):
    """Weights of a local ridge regression on `n_samples` random deletions (the first is the whole text).

    A new explainer is seeded for every instance, so results depend on no other instance.
    Cost: `n_samples` forward passes.
    """

    def __init__(self, n_samples: int = 100, seed: int = 0) -> None:
        self.n_samples, self.seed = n_samples, seed

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Signed weights for the target class; special tokens get 0."""
        return explain_each(partial(self._explain, classifier), batch, target)

    def _explain(self, classifier: Classifier, instance: Instance, target: int) -> Tensor:
        removable = removable_positions(instance)
        if not removable:  # a text of which the tokenizer left nothing; lime cannot sample from no words
            return torch.zeros(len(instance))

        def predict(texts: list[str]) -> np.ndarray:
            kept = np.tile(instance.special, (len(texts), 1))
            for row, text in zip(kept, texts, strict=True):
                row[list(map(int, text.split()))] = True
            return probabilities_keeping(classifier, instance, kept)

        explainer = LimeTextExplainer(
            split_expression=r"\s+",
            bow=False,
            mask_string="",
            feature_selection="none",  # all features are asked for: lime need not fit twice to choose them
            random_state=instance_seed(self.seed, instance.id),
        )
        explanation = explainer.explain_instance(
            " ".join(map(str, removable)),
            predict,
            labels=(target,),
            num_features=len(removable),
            num_samples=self.n_samples,
        )
        scores = torch.zeros(len(instance))
        for feature, weight in explanation.as_map()[target]:
            scores[removable[int(feature)]] = float(weight)
        return scores
