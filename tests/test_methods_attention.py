"""Methods that read attention maps: by hand, by networkx, by identities of their maps."""

from __future__ import annotations

import itertools

import networkx
import numpy as np
import pytest
import torch
from torch import Tensor

from baselines.attention_flow import AttentionFlow, flows_from
from baselines.attention_maps import layer_attentions, rollout, with_residual
from baselines.attention_rollout import AttentionRollout
from baselines.globenc import GlobEnc, contributions
from baselines.information_flow_routes import InformationFlowRoutes, edge_importance, proximity
from iba.attributor import Attributor
from iba.data.tokens import Instance, TokenBatch
from iba.models.classifier import Classifier

TARGET = torch.tensor([0, 1, 2, 0, 1])


def test_maps_are_those_of_the_plain_model(classifier: Classifier, batch: TokenBatch) -> None:
    classifier.model.set_attn_implementation("eager")
    with torch.no_grad():
        plain = classifier.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask.long(),
            token_type_ids=batch.token_type_ids,
            output_attentions=True,
            output_hidden_states=True,
        )
    for layer, maps, hidden in zip(
        layer_attentions(classifier, batch), plain.attentions, plain.hidden_states[:-1], strict=True
    ):
        torch.testing.assert_close(layer.probabilities, maps, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(layer.hidden[batch.attention_mask], hidden[batch.attention_mask])


def test_rollout_by_hand() -> None:
    first = with_residual(torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]))  # rows (1, 0), (¼, ¾)
    last = with_residual(torch.tensor([[[0.0, 1.0], [0.5, 0.5]]]))  # rows (½, ½), (¼, ¾)
    expected = torch.tensor([[[0.625, 0.375], [0.4375, 0.5625]]])
    torch.testing.assert_close(rollout([first, last]), expected)


@pytest.mark.parametrize("method", [AttentionRollout(), GlobEnc(), InformationFlowRoutes()])
def test_rolled_out_shares_sum_to_one(method: Attributor, classifier: Classifier, batch: TokenBatch) -> None:
    scores = method.attribute(classifier, batch, TARGET).scores
    assert (scores >= 0).all()
    torch.testing.assert_close(scores.sum(1), torch.ones(len(batch)))


def test_flow_is_networkx_maximum_flow() -> None:
    rng = np.random.default_rng(0)
    maps = rng.dirichlet(np.full(5, 0.3), size=(3, 5)).astype(np.float32)
    graph = networkx.DiGraph()
    for layer, i, j in itertools.product(range(3), range(5), range(5)):
        graph.add_edge((layer + 1, i), (layer, j), capacity=float(maps[layer, i, j]))
    expected = [networkx.maximum_flow_value(graph, (3, 0), (0, j)) for j in range(5)]
    found = flows_from(0, maps, list(range(5)), resolution=1_000_000)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    assert np.ptp(expected) > 0.05


def test_flow_by_hand() -> None:
    # 0 → {0: .5, 1: .5} above; below, 0 → {0: 1}, 1 → {0: .2, 1: .8}: flow to 0 is .5 + .2, to 1 is .5.
    maps = np.array([[[1.0, 0.0], [0.2, 0.8]], [[0.5, 0.5], [0.0, 1.0]]], dtype=np.float32)
    np.testing.assert_allclose(flows_from(0, maps, [0, 1], 1000), [0.7, 0.5])


def test_contributions_without_norms_sum_to_what_enters_the_first_norm(
    classifier: Classifier, batch: TokenBatch
) -> None:
    seen: list[Tensor] = []
    for layer in layer_attentions(classifier, batch):
        with layer.block.attention_norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])):
            layer.block(
                layer.hidden, classifier.post_norm.attends(batch.attention_mask, layer.hidden.shape[1])
            )
        shares = torch.cat(list(contributions(layer, "residual", 3)), 1)
        whole = shares.sum(2) + layer.block.attention_output.bias
        torch.testing.assert_close(whole, seen[-1], rtol=1e-4, atol=1e-4)


def test_contributions_with_both_norms_sum_to_the_block_less_what_belongs_to_no_token(
    classifier: Classifier, batch: TokenBatch
) -> None:
    """Biases and the feed-forward part, sent through the same linear maps, are all that is missing."""
    attends = classifier.post_norm.attends(batch.attention_mask, batch.input_ids.shape[1])
    for layer in layer_attentions(classifier, batch):
        block = layer.block
        context = (layer.probabilities @ block.heads(block.value(layer.hidden))).transpose(1, 2).flatten(2)
        summed = block.attention_output(context) + layer.hidden
        attended = block.attention_norm(summed)
        feed = block.output(block.intermediate(attended))
        first_std = (summed.var(-1, unbiased=False, keepdim=True) + block.attention_norm.eps).sqrt()
        second_std = ((attended + feed).var(-1, unbiased=False, keepdim=True) + block.output_norm.eps).sqrt()
        bias = block.attention_output.bias
        tokenless = block.attention_norm.weight * (bias - bias.mean()) / first_std + block.attention_norm.bias
        tokenless = tokenless + feed
        centred = tokenless - tokenless.mean(-1, keepdim=True)
        rest = block.output_norm.weight * centred / second_std + block.output_norm.bias
        shares = torch.cat(list(contributions(layer, "encoder", 4)), 1)
        expected = block(layer.hidden, attends)
        torch.testing.assert_close(shares.sum(2) + rest, expected, rtol=1e-4, atol=1e-4)


def test_globenc_ablations_differ(classifier: Classifier, batch: TokenBatch) -> None:
    parts = ("attention", "residual", "norm", "encoder")
    scores = [GlobEnc(p).attribute(classifier, batch, TARGET).scores for p in parts]
    for first, second in itertools.combinations(scores, 2):
        assert not torch.allclose(first, second)


def test_proximity_by_hand() -> None:
    whole = torch.tensor([2.0, -1.0])
    parts = torch.tensor([[2.0, -1.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    # ‖whole‖₁ = 3; distances 0, 2, 4, 3.
    torch.testing.assert_close(proximity(parts, whole.expand(4, 2)), torch.tensor([3.0, 1.0, 0.0, 0.0]))


def test_edge_importance_follows_the_definition_edge_by_edge(
    classifier: Classifier, instances: list[Instance]
) -> None:
    layer = next(layer_attentions(classifier, classifier.batch([instances[-1]])))
    block, hidden, maps = layer.block, layer.hidden[0], layer.probabilities[0]
    size = classifier.hidden_size // block.n_heads
    n = len(hidden)
    found = edge_importance(layer, chunk=2)[0]
    for i in range(n):
        messages = {
            (j, h): maps[h, i, j]
            * block.value(hidden[j])[h * size : (h + 1) * size]
            @ block.attention_output.weight[:, h * size : (h + 1) * size].T
            for j in range(n)
            for h in range(block.n_heads)
        }
        whole = hidden[i] + torch.stack(list(messages.values())).sum(0) + block.attention_output.bias
        raw = torch.zeros(n)
        for (j, _), message in messages.items():
            raw[j] += max(float(whole.abs().sum() - (message - whole).abs().sum()), 0.0)
        raw[i] += max(float(whole.abs().sum() - (hidden[i] - whole).abs().sum()), 0.0)
        torch.testing.assert_close(found[i], raw / raw.sum(), rtol=1e-4, atol=1e-6)


def test_rollout_and_flow_mix_in_the_residual(classifier: Classifier, instances: list[Instance]) -> None:
    one = instances[1]
    single = classifier.batch([one])
    raw = [layer.probabilities.mean(1)[0] for layer in layer_attentions(classifier, single)]
    maps = [0.5 * attention + 0.5 * torch.eye(len(one)) for attention in raw]
    found = AttentionRollout().attribute(classifier, single, TARGET[:1]).scores[0]
    torch.testing.assert_close(found, (maps[3] @ maps[2] @ maps[1] @ maps[0])[0])
    free = [i for i, special in enumerate(one.special) if not special]
    flow = AttentionFlow().attribute(classifier, single, TARGET[:1]).scores[0]
    expected = flows_from(0, torch.stack(maps).numpy(), free, 100_000)
    np.testing.assert_allclose(flow[free], expected, atol=1e-6)
