"""Every layer's attention as the methods on it need it: probabilities, and what each edge writes.

An edge i ← j of a head carries A_ij · (x_j W_V + b_V) W_O into the residual stream of token i. Summed over
heads and sources, with the output projection's bias, the edges are the attention's whole output: rows of
A sum to 1, so the value bias is shared out exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from iba.data.tokens import TokenBatch
from iba.models.block import Block
from iba.models.classifier import Classifier
from iba.models.runner import Hidden

Edges = Float[Tensor, "batch tokens tokens"]


@dataclass(frozen=True)
class LayerAttention:
    """One layer on one batch, float32: what entered it and whom every token attends to.

    `probabilities`: (batch, heads, queries, keys), rows sum to 1, exactly 0 on padded keys.
    """

    block: Block
    hidden: Hidden
    probabilities: Float[Tensor, "batch heads tokens tokens"]

    def projected_values(self) -> Float[Tensor, "batch heads tokens hidden"]:
        """Every head's value of every token, mapped to the residual stream by the head's part of W_O."""
        block = self.block
        values = block.heads(block.value(self.hidden)).float()
        weight = block.attention_output.weight.unflatten(1, (block.n_heads, -1))
        return torch.einsum("bhtd,ohd->bhto", values, weight)


def layer_attentions(classifier: Classifier, batch: TokenBatch) -> Iterator[LayerAttention]:
    """The layers from the first to the last, without gradients; one forward pass in all."""
    found = classifier.runner.attentions(batch.inputs)
    for block, (hidden, probabilities) in zip(classifier.blocks, found, strict=True):
        yield LayerAttention(block, hidden, probabilities)


def head_means(classifier: Classifier, batch: TokenBatch) -> list[Edges]:
    """Every layer's attention, averaged over heads."""
    return [probabilities.mean(1) for _, probabilities in classifier.runner.attentions(batch.inputs)]


def held_by_maps(classifier: Classifier, tokens: int) -> int:
    """`Attributor.held` of methods that read `head_means`: a pass, every layer's, and one by heads."""
    shapes = classifier.shapes(tokens)
    return shapes.forward + 3 * shapes.maps + (classifier.n_layers + 2) * tokens


def held_by_edges(classifier: Classifier, tokens: int) -> int:
    """`Attributor.held` of methods on edges: a pass, every layer's result, one's maps and values."""
    shapes = classifier.shapes(tokens)
    values = (shapes.heads + 3) * shapes.hidden
    return shapes.forward + shapes.maps + values + classifier.n_layers * tokens


def with_residual(weights: Edges) -> Edges:
    """½ A + ½ I: the residual connection as attention's equal (Abnar & Zuidema 2020, section 3)."""
    identity = torch.eye(weights.shape[-1], device=weights.device)
    return 0.5 * weights + 0.5 * identity


def rollout(layers: Sequence[Edges]) -> Edges:
    """Product of the layers' row-stochastic maps, last on the left: row i is where token i came from."""
    joint = layers[0]
    for weights in layers[1:]:
        joint = weights @ joint
    return joint


def read_row(joint: Edges, classifier: Classifier, batch: TokenBatch) -> Float[Tensor, "batch tokens"]:
    """What the positions that the head reads (their mean, where there are several) drew from every token."""
    reads = classifier.runner.reads(batch.inputs).to(joint.dtype)
    read = (reads / reads.sum(1, keepdim=True))[:, None] @ joint
    return read.squeeze(1).masked_fill(~batch.attention_mask, 0.0)
