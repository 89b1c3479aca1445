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

from typing import Any

import torch
from captum.attr import IntegratedGradients
from jaxtyping import Float, Int
from torch import Tensor

from baselines.integrated_gradients import rows_of_a_pass, steps_of_a_pass
from iba.attributor import Attribution, Unfitted
from iba.data.tokens import Inputs, TokenBatch
from iba.models.classifier import Classifier
from iba.models.runner import Hidden, Maps
from iba.settings import Count


class AttentionAttribution(Unfitted):
    """Integrated gradients of the target's probability over every layer's attention maps, by source."""

    needs = "set_attention"

    def __init__(self, n_steps: Count = 10) -> None:
        self.n_steps = n_steps
        self.copies = n_steps

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Signed scores; per_instance: `completeness_gap`, the largest over the layers in absolute value."""
        scores = torch.zeros(batch.input_ids.shape, device=classifier.device)
        gap = torch.zeros(len(batch), device=classifier.device)
        layers = classifier.runner.attentions(batch.inputs)
        for number, (hidden, maps) in enumerate(layers, start=1):
            attributed, layer_gap = self.layer_attribution(classifier, batch, target, number, hidden, maps)
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
        hidden: Hidden,
        maps: Maps,
    ) -> tuple[Maps, Float[Tensor, " batch"]]:
        """Attr of layer `number`'s `maps` (padded queries get 0), entered by `hidden`; completeness gap."""

        def probabilities(maps: Tensor, hidden: Tensor, *inputs: Any) -> Tensor:
            logits = classifier.logits_given_maps(maps, hidden, Inputs(*inputs), number)
            return logits.softmax(-1)

        attributed, gap = IntegratedGradients(probabilities).attribute(
            maps,
            target=target,
            additional_forward_args=(hidden, *batch.inputs),
            n_steps=self.n_steps,
            internal_batch_size=rows_of_a_pass(classifier, batch, self.n_steps),
            return_convergence_delta=True,
        )
        return attributed.float(), gap.float()

    def held(self, classifier: Classifier, tokens: int) -> int:
        """As many passes with gradients as steps go together, each with a layer's maps and their gradient."""
        shapes, steps = classifier.shapes(tokens), steps_of_a_pass(self.n_steps)
        return steps * (shapes.backward() + 3 * shapes.maps) + 3 * shapes.maps
