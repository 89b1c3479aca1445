"""Attention flow (Abnar & Zuidema 2020, section 3).

The layers are a network: token i of layer l has an edge of capacity ½ A_ij + ½ [i = j] (A averaged over
heads) to token j of layer l − 1. A token's score is the maximum flow from the token of the last
layer that the head reads ([CLS], or a decoder's last) to that token among the embeddings.
Cost: one forward pass, then one maximum-flow problem per removable token on (L + 1) n nodes and L n² edges
(scipy's Dinic): O(n) problems of super-quadratic cost each, on the CPU. The paper solves them for all n
tokens of the last layer; only the first is solved here. Still by far the slowest way to read attention, so
long texts need a small sample.
It cannot explain a class: all classes get the same scores.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import block_array, csr_array
from scipy.sparse.csgraph import maximum_flow
from torch import Tensor

from baselines.attention_maps import head_means, held_by_maps, with_residual
from iba.attributor import Attribution, Unfitted, pad_scores
from iba.data.tokens import TokenBatch
from iba.errors import UserError
from iba.models.classifier import Classifier
from iba.settings import Count


class AttentionFlow(Unfitted):
    """Maximum flow from the token that is read to every input token.

    scipy's solver takes integers: capacities are rounded to multiples of 1/`resolution`, and edges that
    round to 0 vanish, so a score is exact to within (edges of its minimum cut) / (2 · `resolution`).
    """

    needs = "attention"

    def __init__(self, resolution: Count = 100_000) -> None:
        self.resolution = resolution

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Scores in [0, 1], blind to the target; special tokens, which cannot be removed, get 0."""
        # Fetched at the end, all at once.
        stacked = torch.stack([with_residual(mean) for mean in head_means(classifier, batch)], 1).cpu()
        reads = classifier.runner.reads(batch.inputs).cpu()
        if (reads.sum(1) > 1).any():
            raise UserError("attention flow needs a head that reads one token; this one reads several.")
        sources = reads.int().argmax(1).tolist()
        rows = []
        for row, instance in enumerate(batch.instances):
            n = len(instance)
            sinks = [i for i, special in enumerate(instance.special) if not special]
            scores = torch.zeros(n)
            scores[sinks] = torch.from_numpy(
                flows_from(sources[row], stacked[row, :, :n, :n].numpy(), sinks, self.resolution)
            )
            rows.append(scores)
        return Attribution(pad_scores(rows, batch))

    def held(self, classifier: Classifier, tokens: int) -> int:
        """A pass without gradients, and maps."""
        return held_by_maps(classifier, tokens)


def flows_from(
    token: int, capacities: Float[np.ndarray, "layers tokens tokens"], sinks: list[int], resolution: Count
) -> Float[np.ndarray, " sinks"]:
    """Maximum flow from `token` above the last layer to each of `sinks` below the first."""
    n_layers, n, _ = capacities.shape
    graph = layered_graph(capacities, resolution)
    source = n_layers * n + token
    flows = [maximum_flow(graph, source, sink).flow_value / resolution for sink in sinks]
    return np.array(flows, dtype=np.float32)


def layered_graph(capacities: Float[np.ndarray, "layers tokens tokens"], resolution: Count) -> csr_array:
    """Integer capacities among (layers + 1) · tokens nodes: node l · tokens + i is token i of layer l."""
    n_layers, n, _ = capacities.shape
    integers = np.rint(capacities * resolution).astype(np.int32)
    empty = csr_array((n, n), dtype=np.int32)
    blocks = [[empty] * (n_layers + 1) for _ in range(n_layers + 1)]
    for layer, weights in enumerate(integers):
        blocks[layer + 1][layer] = csr_array(weights)
    return csr_array(block_array(blocks, format="csr"), dtype=np.int32)
