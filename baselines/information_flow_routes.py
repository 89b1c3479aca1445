"""Information flow routes (Ferrando & Voita 2024), as contribution scores.

Into token i's residual stream flow y_i = x_i + Σ_{j,h} m_ijh + b_O, where head h carries from token j
m_ijh = A^h_ij (x_j W_V^h + b_V^h) W_O^h. A part z counts by its proximity to the whole (section 2, after
ALTI, Ferrando et al. 2022),

    proximity(z, y) = max(‖y‖₁ − ‖z − y‖₁, 0),

scaled so that all parts of y_i sum to 1. The feed-forward part moves nothing between tokens. The paper
follows the edges above a threshold down from the prediction; here all edges are followed and multiplied over
the layers, so every input token gets the total weight of its routes to the first token. The paper's models
normalise before attention, the project's after it: y_i is the sum that enters the first layer norm.
Cost: one forward pass and, per layer, n² · heads vectors of the hidden size.
It cannot explain a class: all classes get the same scores.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baselines.attention_maps import LayerAttention, held_by_edges, layer_attentions, read_row, rollout
from iba.attributor import Attribution, Unfitted
from iba.data.tokens import TokenBatch
from iba.models.classifier import Classifier


class InformationFlowRoutes(Unfitted):
    """Total weight of the routes from every input token to the first token of the last layer."""

    needs = "blocks"

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Scores that are non-negative and sum to 1 per instance, blind to the target."""
        maps = []
        for layer in layer_attentions(classifier, batch):
            chunk = max(1, classifier.token_budget // (len(batch) * layer.hidden.shape[1]))
            maps.append(edge_importance(layer, chunk))
        return Attribution(read_row(rollout(maps), classifier, batch))

    def held(self, classifier: Classifier, tokens: int) -> int:
        """A pass without gradients, maps and values; vectors of as many edges as the budget has tokens."""
        return held_by_edges(classifier, tokens)


@torch.no_grad()
def edge_importance(layer: LayerAttention, chunk: int) -> Float[Tensor, "batch tokens tokens"]:
    """Share of every source token (heads added, residual on the diagonal) in every token; rows sum to 1."""
    values = layer.projected_values()
    context = torch.einsum("bhij,bhjo->bio", layer.probabilities, values)
    whole = layer.hidden + context + layer.block.attention_output.bias
    rows = []
    for start in range(0, whole.shape[1], chunk):
        queries = slice(start, start + chunk)
        # One head at a time: all heads' messages at once would not fit.
        edges = [
            proximity(
                layer.probabilities[:, head, queries, :, None] * values[:, head, None],
                whole[:, queries, None],
            )
            for head in range(values.shape[1])
        ]
        rows.append(torch.stack(edges).sum(0))
    importance = torch.cat(rows, 1) + torch.diag_embed(proximity(layer.hidden, whole))
    return importance / importance.sum(-1, keepdim=True).clamp_min(1e-12)


def proximity(part: Float[Tensor, "*#shape hidden"], whole: Float[Tensor, "*#shape hidden"]) -> Tensor:
    """max(‖whole‖₁ − ‖part − whole‖₁, 0); a part equal to the whole gets ‖whole‖₁, one of no use 0."""
    return (whole.abs().sum(-1) - (part - whole).abs_().sum(-1)).clamp_min(0)
