"""Class probabilities as a function of embeddings: what gradient methods differentiate.

The first two thirds of the layers are float32 (on a GPU TF32) also where the classifier computes in bfloat16:
rounded there, tokens of small gradient would change places; rounded later, they hardly do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from iba.data.tokens import Inputs
from iba.models.classifier import Classifier

#: The share of the layers that is float32.
_EXACT = 2 / 3


def probabilities_from_words(classifier: Classifier) -> Callable[..., Tensor]:
    """f(word embeddings, *inputs) → class probabilities, in Captum's form."""
    exact = round(_EXACT * classifier.n_layers)

    def probabilities(words: Tensor, *inputs: Any) -> Tensor:
        return classifier.logits_of_words(words, Inputs(*inputs), exact).softmax(-1)

    return probabilities


def probabilities_from_hidden(classifier: Classifier) -> Callable[..., Tensor]:
    """f(what the first layer reads, *inputs) → class probabilities, in Captum's form."""
    exact = round(_EXACT * classifier.n_layers)

    def probabilities(hidden: Tensor, *inputs: Any) -> Tensor:
        return classifier.logits_from(hidden, Inputs(*inputs), 0, exact).softmax(-1)

    return probabilities
