"""GlobEnc (Modarressi et al. 2022): norms of token-to-token contributions of whole blocks, rolled out.

Inside a block, token i is a sum over source tokens j, x_j's share being

    z_ij = Σ_h A^h_ij (x_j W_V^h + b_V^h) W_O^h + [i = j] x_i.

A layer norm subtracts a mean, which is linear, and divides by a standard deviation, which is the same for
all shares of token i; so z̃_ij = γ ⊙ (z_ij − mean(z_ij)) / std(z_i) splits it exactly (Kobayashi et al.
2021). The second norm is split in the same way, with the standard deviation of z̃_i + FFN(z̃_i); the
non-linear feed-forward part itself has no split and is left out of the shares (section 3 of GlobEnc, N_ENC).
Biases belong to no token. Rows of ‖·‖₂ are scaled to sum to 1 and multiplied over the layers.
Cost: one forward pass and, per layer, n² vectors of the hidden size.
It cannot explain a class: all classes get the same scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from baselines.attention_maps import (
    LayerAttention,
    held_by_edges,
    layer_attentions,
    read_row,
    rollout,
    with_residual,
)
from iba.attributor import Attribution, Unfitted
from iba.data.tokens import TokenBatch
from iba.models.classifier import Classifier


class GlobEnc(Unfitted):
    """Rollout of contribution norms; `parts` says how much of the block they contain (the paper's ablations).

    "attention": N_FixedRes, the norm of attention's effect, mixed with ½ I; "residual": N_Res, the real
    residual added; "norm": N_ResLN, after the first layer norm; "encoder": N_Enc, after the second.
    """

    needs = "blocks"

    def __init__(self, parts: Literal["attention", "residual", "norm", "encoder"] = "encoder") -> None:
        self.parts = parts

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Scores that are non-negative and sum to 1 per instance, blind to the target."""
        maps = []
        for layer in layer_attentions(classifier, batch):
            chunk = max(1, classifier.token_budget // (len(batch) * layer.hidden.shape[1]))
            norms = torch.cat([c.norm(dim=-1) for c in contributions(layer, self.parts, chunk)], 1)
            weights = norms / norms.sum(-1, keepdim=True).clamp_min(1e-12)
            maps.append(with_residual(weights) if self.parts == "attention" else weights)
        return Attribution(read_row(rollout(maps), classifier, batch))

    def held(self, classifier: Classifier, tokens: int) -> int:
        """A pass without gradients, maps and values; vectors of as many edges as the budget has tokens."""
        return held_by_edges(classifier, tokens)


@torch.no_grad()
def contributions(
    layer: LayerAttention, parts: str, chunk: int
) -> Iterator[Float[Tensor, "batch queries tokens hidden"]]:
    """The share of every source token in every token of the block's output, `chunk` queries at a time."""
    block, hidden = layer.block, layer.hidden
    values = layer.projected_values()
    context = torch.einsum("bhij,bhjo->bio", layer.probabilities, values)
    summed = context + block.attention_output.bias + hidden
    attended = block.attention_norm(summed)
    updated = attended + block.output(block.intermediate(attended))
    for start in range(0, hidden.shape[1], chunk):
        queries = slice(start, start + chunk)
        shares = torch.einsum("bhij,bhjo->bijo", layer.probabilities[:, :, queries], values)
        if parts != "attention":
            rows = torch.arange(shares.shape[1], device=shares.device)
            shares[:, rows, rows + start] += hidden[:, queries]
        if parts in ("norm", "encoder"):
            shares = normed_shares(shares, summed[:, queries], block.attention_norm)
        if parts == "encoder":
            shares = normed_shares(shares, updated[:, queries], block.output_norm)
        yield shares


def normed_shares(
    shares: Float[Tensor, "batch queries tokens hidden"],
    whole: Float[Tensor, "batch queries hidden"],
    norm: nn.LayerNorm,
) -> Float[Tensor, "batch queries tokens hidden"]:
    """What a layer norm of `whole` makes of each of its shares; its bias belongs to none of them."""
    std = (whole.var(-1, unbiased=False, keepdim=True) + norm.eps).sqrt()
    return norm.weight * (shares - shares.mean(-1, keepdim=True)) / std[:, :, None]
