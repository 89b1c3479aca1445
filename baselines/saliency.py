"""Saliency (Simonyan et al. 2014; Li et al. 2016 for text), by Captum.

A token's score is the L1 or L2 norm of the gradient of the target's probability with respect to its word
embedding: how sensitive the answer is to the token, without a sign.
Cost: one forward and one backward pass.
"""

from __future__ import annotations

from typing import Literal

from captum.attr import Saliency as CaptumSaliency
from jaxtyping import Int
from torch import Tensor

from baselines.embedding_forward import probabilities_from_words
from iba.attributor import Attribution, Unfitted
from iba.data.tokens import TokenBatch
from iba.models.classifier import Classifier


class Saliency(Unfitted):
    """‖∇p‖ over the features of the word embedding; `norm` is 1 or 2."""

    needs = "embeddings"

    def __init__(self, norm: Literal[1, 2] = 2) -> None:
        self.norm = norm

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Non-negative scores."""
        words = classifier.word_embeddings(batch.input_ids).requires_grad_()
        gradient = CaptumSaliency(probabilities_from_words(classifier)).attribute(
            words, target=target, additional_forward_args=tuple(batch.inputs)
        )
        return Attribution(gradient.norm(p=self.norm, dim=-1).float().masked_fill(~batch.attention_mask, 0.0))

    def held(self, classifier: Classifier, tokens: int) -> int:
        """A pass with gradients."""
        return classifier.shapes(tokens).backward()
