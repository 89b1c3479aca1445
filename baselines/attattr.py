"""Self-attention attribution (Hao et al. 2021, their Attr_h(A)): integrated gradients over attention maps.

For every layer by itself, with A = (A^1 … A^h) its attention maps and F(A) the target's probability when
that layer attends so,

    Attr(A^h) = A^h ⊙ ∫₀¹ ∂F(aA)/∂A^h da.

A token's score is the sum of Attr over layers, heads and attending tokens: its worth as a source. (The
paper builds a tree from the same maps; it defines no token score.) Over heads and both tokens, a layer's
Attr sums to F(A) − F(0). So where the model can do without any one layer's attention, all scores are near 0
and rank little: the method sees one layer at a time.
Cost: per layer, `n_steps` forward and backward passes through the layers above it: L/2 times that of
integrated gradients with the same steps. The paper's sum has 20 equal steps; Captum's Gauss–Legendre nodes
usually need fewer for the same gap; the gap is reported.
"""

from __future__ import annotations

import torch
from captum.attr import IntegratedGradients
from jaxtyping import Float, Int
from torch import Tensor

from baselines.attention_maps import LayerAttention, layer_attentions
from iba.attributor import Attribution, Unfitted
from iba.data.tokens import TokenBatch
from iba.encoder import Classifier
from iba.settings import Count


class AttentionAttribution(Unfitted):
    """Integrated gradients of the target's probability over every layer's attention maps, by source."""

    def __init__(self, n_steps: Count = 10) -> None:
        self.n_steps = n_steps
        self.copies = n_steps

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Signed scores; per_instance: `completeness_gap`, the largest over the layers in absolute value."""
        scores = torch.zeros(batch.input_ids.shape, device=classifier.device)
        gap = torch.zeros(len(batch), device=classifier.device)
        for number, layer in enumerate(layer_attentions(classifier, batch), start=1):
            attributed, layer_gap = self.layer_attribution(classifier, batch, target, number, layer)
            scores += attributed.sum((1, 2))
            gap = torch.maximum(gap, layer_gap.abs())
        return Attribution(
            scores.masked_fill(~batch.attention_mask, 0.0), per_instance={"completeness_gap": gap}
        )

    def layer_attribution(
        self,
        classifier: Classifier,
        batch: TokenBatch,
        target: Int[Tensor, " batch"],
        number: int,
        layer: LayerAttention,
    ) -> tuple[Float[Tensor, "batch heads tokens tokens"], Float[Tensor, " batch"]]:
        """Attr of layer `number`'s maps (their padded queries get 0), and its completeness gap."""
        attributed, gap = IntegratedGradients(
            lambda maps, hidden, mask: probabilities_given_maps(classifier, number, maps, hidden, mask)
        ).attribute(
            layer.probabilities,
            target=target,
            additional_forward_args=(layer.hidden, batch.key_mask),
            n_steps=self.n_steps,
            internal_batch_size=max(len(batch), classifier.token_budget // batch.input_ids.shape[1]),
            return_convergence_delta=True,
        )
        return attributed.float(), gap.float()


def probabilities_given_maps(
    classifier: Classifier,
    number: int,
    maps: Float[Tensor, "rows heads tokens tokens"],
    hidden: Float[Tensor, "rows tokens hidden"],
    mask: Tensor | None,
) -> Float[Tensor, "rows classes"]:
    """Class probabilities when layer `number`, entered by `hidden`, attends as `maps` say."""
    block = classifier.blocks[number - 1]
    context = maps @ block.heads(block.value(hidden)).to(maps.dtype)
    after = block.after_attention(context.transpose(1, 2).flatten(2), hidden)
    return classifier.logits_from(after, mask, number).softmax(-1)
