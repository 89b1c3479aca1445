"""Attention rollout (Abnar & Zuidema 2020, section 3, Eq. 1).

Every layer's attention, averaged over heads, is mixed with the residual connection, ½ A + ½ I, and the
layers' maps are multiplied; a token's score is its share in the row of the token that the head reads
([CLS], or a decoder's last).
Cost: one forward pass and L matrix products (n × n).
It cannot explain a class: neither the head nor a gradient enters, so all classes get the same scores.
"""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from baselines.attention_maps import head_means, held_by_maps, read_row, rollout, with_residual
from iba.attributor import Attribution, Unfitted
from iba.data.tokens import TokenBatch
from iba.models.classifier import Classifier


class AttentionRollout(Unfitted):
    """Shares of the input tokens in the token that is read, by multiplying attention maps."""

    needs = "attention"

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Scores that are non-negative and sum to 1 per instance, blind to the target."""
        maps = [with_residual(mean) for mean in head_means(classifier, batch)]
        return Attribution(read_row(rollout(maps), classifier, batch))

    def held(self, classifier: Classifier, tokens: int) -> int:
        """A pass without gradients, and maps."""
        return held_by_maps(classifier, tokens)
