"""The target's probability as a function of which tokens are present: what removal-based methods explain.

One feature per removable token. An absent token is deleted, as in the degradation test: pieces never
change, special tokens stay, segment ids follow their tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from iba.attributor import Attribution, pad_scores
from iba.data.tokens import Instance, TokenBatch
from iba.encoder import Classifier
from iba.variants import Variant, class_probabilities

Predict = Callable[[Tensor], Tensor]


def removable_positions(instance: Instance) -> list[int]:
    """Positions of the tokens that are not special."""
    return [i for i, special in enumerate(instance.special) if not special]


def probabilities_keeping(
    classifier: Classifier, instance: Instance, kept: Bool[np.ndarray, "rows tokens"]
) -> Float[np.ndarray, "rows classes"]:
    """Class probabilities of the instance with, row by row, only the tokens that are `kept`."""
    input_ids, token_type_ids = np.array(instance.input_ids), np.array(instance.token_type_ids)
    return class_probabilities(classifier, [Variant.keeping(input_ids, token_type_ids, row) for row in kept])


def target_probability(classifier: Classifier, instance: Instance, target: int) -> Predict:
    """f(presence, one row a variant and one column a removable token, 1 or 0) → the target's probability."""
    removable = removable_positions(instance)

    def predict(presence: Float[Tensor, "rows features"]) -> Float[Tensor, " rows"]:
        kept = np.ones((len(presence), len(instance)), dtype=bool)
        kept[:, removable] = presence.bool().numpy()
        return torch.from_numpy(probabilities_keeping(classifier, instance, kept)[:, target])

    return predict


def explain_each(
    explain: Callable[[Instance, int], Float[Tensor, " tokens"]], batch: TokenBatch, target: Tensor
) -> Attribution:
    """The scores that `explain` gives every instance for its target class, padded."""
    pairs = zip(batch.instances, target.tolist(), strict=True)
    return Attribution(pad_scores([explain(instance, t) for instance, t in pairs], batch))


def spread(values: Float[Tensor, " features"], instance: Instance) -> Float[Tensor, " tokens"]:
    """Feature values at their tokens; special tokens get 0."""
    scores = torch.zeros(len(instance))
    scores[removable_positions(instance)] = values
    return scores
