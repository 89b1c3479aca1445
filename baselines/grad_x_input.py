"""Gradient times input (Shrikumar et al. 2016; Denil et al. 2014 for text), by Captum.

A token's score is the inner product of its word embedding with the gradient of the target's probability:
integrated gradients with one step and the zero embedding as baseline, to first order.
Cost: one forward and one backward pass.
"""

from __future__ import annotations

from captum.attr import InputXGradient
from jaxtyping import Int
from torch import Tensor

from baselines.embedding_forward import probabilities_from_words
from iba.attributor import Attribution, Unfitted
from iba.data.tokens import TokenBatch
from iba.models.classifier import Classifier


class GradientTimesInput(Unfitted):
    """∇p · e, summed over the features of the word embedding e."""

    needs = "embeddings"

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Signed scores."""
        words = classifier.word_embeddings(batch.input_ids).requires_grad_()
        products = InputXGradient(probabilities_from_words(classifier)).attribute(
            words, target=target, additional_forward_args=tuple(batch.inputs)
        )
        return Attribution(products.detach().sum(-1).float().masked_fill(~batch.attention_mask, 0.0))

    def held(self, classifier: Classifier, tokens: int) -> int:
        """A pass with gradients."""
        return classifier.shapes(tokens).backward()
