"""IBA's relatives: its limit, one gate per token, predicted gates, gates on attention's writes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import fitted

from baselines.attention_maps import layer_attentions
from baselines.attention_write_bottleneck import (
    AttentionWriteBottleneck,
    MessageNoise,
    gated_block,
    message_statistics,
    standardised_squares,
    transmit,
)
from baselines.hidden_norm import HiddenNorm
from baselines.iba_readout import ReadoutBottleneck, readout_loss
from baselines.token_gate import TokenBottleneck
from iba.attribution import InformationBottleneck
from iba.attributor import FitData
from iba.bottleneck import Bottleneck, Noise, NoiseBank, kl_nats, restrict
from iba.data.tokens import Instance, TokenBatch, buckets
from iba.models.classifier import Classifier

TARGET = torch.tensor([0, 1, 2, 0, 1])


def test_hidden_norm_is_iba_with_all_gates_equal(
    classifier: Classifier, batch: TokenBatch, data: FitData
) -> None:
    """Before any update IBA's KL is ½ λ² ‖x̂‖² plus a constant, under either noise."""
    settings = {"layer": 3, "beta": 1.0, "n_steps": 0, "n_copies": 1, "max_tokens": 64}
    keep, shut = torch.sigmoid(torch.tensor([5.0, -5.0], dtype=torch.float64))
    constant = 0.5 * classifier.hidden_size * (shut**2 - 1 - 2 * torch.log(shut))
    for of, noise, scale in (("standardised", "features", 1.0), ("update", "layer_input", 1e5)):
        iba = fitted(InformationBottleneck(noise=noise, **settings), classifier, data)  # type: ignore[arg-type]
        norm = fitted(HiddenNorm(3, of=of, n_statistics=1000), classifier, data)
        kl = iba.attribute(classifier, batch, TARGET).scores[batch.attention_mask].double()
        norms = norm.attribute(classifier, batch, TARGET).scores[batch.attention_mask].double()
        torch.testing.assert_close(kl, 0.5 * keep**2 * scale * norms**2 + constant, rtol=1e-4, atol=1e-3)


def test_plain_hidden_norm(classifier: Classifier, batch: TokenBatch) -> None:
    scores = HiddenNorm(2, of="hidden").attribute(classifier, batch, TARGET).scores
    hidden = classifier.hidden_states(batch, [2])[2]
    torch.testing.assert_close(scores[1, 1], hidden[1, 1].square().sum().sqrt())


def test_token_gate_is_a_bottleneck_with_one_parameter_per_token(
    classifier: Classifier, batch: TokenBatch
) -> None:
    """Against an optimisation written out with α of shape (batch, tokens, 1) from the start."""
    hidden = classifier.hidden_states(batch, [2])[2]
    noise = Noise(hidden[batch.attention_mask].mean(0), hidden[batch.attention_mask].std(0))
    bank = NoiseBank(0, 2, 64, classifier.hidden_size, torch.device("cpu"))
    *_, final = TokenBottleneck(beta=0.01, n_steps=5, n_copies=2).states(
        hidden,
        batch.attention_mask,
        TARGET,
        noise,
        bank,
        lambda t: classifier.logits_from(t, batch.inputs, 2),
    )
    shared = torch.full((*hidden.shape[:2], 1), 5.0, requires_grad=True)
    adam = torch.optim.Adam([shared], lr=1.0)
    for step in range(5):
        alpha = shared.expand_as(hidden)
        loss = torch.zeros(())
        for standard in bank.step(step, hidden.shape[1]):
            logits = classifier.logits_from(
                restrict(alpha, hidden, noise.mean + noise.std * standard), batch.inputs, 2
            )
            loss = loss + torch.nn.functional.cross_entropy(logits, TARGET, reduction="sum") / 2
        kl = kl_nats(alpha, hidden, noise) * batch.attention_mask[..., None]
        size = batch.attention_mask.sum(1) * classifier.hidden_size
        loss = loss + 0.01 * (kl.sum((1, 2)) / size).sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
    real = batch.attention_mask
    torch.testing.assert_close(
        final.alpha[real], shared.detach().expand_as(hidden)[real], rtol=1e-3, atol=1e-3
    )
    assert final.alpha[real].std() > 0.1


def test_token_gate_equals_iba_where_features_are_copies(classifier: Classifier) -> None:
    """With one feature per token there is nothing to share: both bottlenecks must agree."""
    hidden = torch.randn(2, 6, 1, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 6, dtype=torch.bool)
    bank = NoiseBank(0, 3, 6, 1, torch.device("cpu"))
    noise = Noise(torch.zeros(1), torch.ones(1))

    def logits_from(restricted: Tensor) -> Tensor:
        total = restricted.sum(1)
        return torch.cat([total, -total], 1)

    arguments: tuple[Any, ...] = (hidden, mask, torch.tensor([0, 1]), noise, bank, logits_from)
    *_, gate = TokenBottleneck(beta=0.1, n_copies=3).states(*arguments)
    *_, full = InformationBottleneck(1, 0.1, n_copies=3).bottleneck.states(*arguments)
    assert torch.equal(gate.alpha, full.alpha)
    assert torch.equal(gate.kl, full.kl)


def test_readout_starts_open_and_training_lowers_its_loss(classifier: Classifier, data: FitData) -> None:
    settings: dict[str, Any] = {"beta": 1.0, "batch_size": 5, "n_statistics": 5, "depths": [0.25]}
    state = ReadoutBottleneck(0.5, n_training_steps=60, learning_rate=1e-2, **settings).fit(classifier, data)
    assert state["training_loss_nats_end"] < 0.9 * state["training_loss_nats_start"]
    batch = classifier.batch(list(data.train))
    untrained = ReadoutBottleneck(0.5, n_training_steps=1, learning_rate=0.0, **settings)
    hidden = classifier.hidden_states(batch, [2])[2]
    noise = Noise(state["noise_mean"], state["noise_std"])
    expected = kl_nats(torch.full_like(hidden, 5.0), hidden, noise).sum(-1) * batch.attention_mask
    found = fitted(untrained, classifier, data).attribute(classifier, batch, TARGET)
    torch.testing.assert_close(found.scores, expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found.per_token["bits"] * np.log(2), found.scores)


def test_readout_state_survives_a_restart(classifier: Classifier, batch: TokenBatch, data: FitData) -> None:
    first, second = (ReadoutBottleneck(0.5, beta=1.0, depths=[0.25], n_training_steps=3) for _ in range(2))
    state = first.fit(classifier, data)
    assert all(t.is_contiguous() and not t.requires_grad for t in state.values())
    first.restore(state)
    second.restore({name: tensor.clone() for name, tensor in state.items()})
    assert torch.equal(
        first.attribute(classifier, batch, TARGET).scores, second.attribute(classifier, batch, TARGET).scores
    )


def test_the_readout_learns_the_same_in_groups_of_any_size(
    classifier: Classifier, data: FitData, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = []
    for budget in (8192, 16):
        monkeypatch.setattr(classifier, "token_budget", budget)
        method = ReadoutBottleneck(0.5, beta=1.0, n_training_steps=5, learning_rate=1e-2, n_statistics=5)
        learned.append(method.fit(classifier, replace(data, shared={})))
    assert len(list(buckets([len(row) for row in data.train], 16))) > 1
    for name, value in learned[0].items():
        torch.testing.assert_close(value, learned[1][name], rtol=1e-3, atol=1e-4)


def write_noise(classifier: Classifier, data: FitData) -> MessageNoise:
    state = message_statistics(classifier, data, 100)
    return MessageNoise(state["message_mean"], state["message_std"])


def test_message_statistics_are_those_of_all_edges(classifier: Classifier, data: FitData) -> None:
    found = write_noise(classifier, data)
    messages: list[list[Tensor]] = [[] for _ in classifier.blocks]
    for row in data.train:
        for number, layer in enumerate(layer_attentions(classifier, classifier.batch([row]))):
            values = layer.block.heads(layer.block.value(layer.hidden))[0]
            edges = layer.probabilities[0, ..., None] * values[:, None]
            messages[number].append(edges.permute(1, 2, 0, 3).flatten(2).flatten(0, 1))
    for number, rows in enumerate(messages):
        together = torch.cat(rows).double()
        torch.testing.assert_close(found.mean[number], together.mean(0).float(), rtol=1e-4, atol=1e-6)
        expected = together.std(0, correction=0).float()
        torch.testing.assert_close(found.std[number], expected, rtol=1e-4, atol=1e-6)


def test_standardised_squares_are_the_squares_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 4, 4, generator=generator)
    values = torch.randn(2, 3, 4, 5, generator=generator)
    mean, std = (
        torch.randn(1, 3, 1, 5, generator=generator),
        torch.rand(1, 3, 1, 5, generator=generator) + 0.1,
    )
    messages = maps[..., None] * values[:, :, None]
    expected = ((messages - mean[:, :, None]) / std[:, :, None]).square().sum((1, 4))
    torch.testing.assert_close(standardised_squares(maps, values, mean, std), expected, rtol=1e-4, atol=1e-3)


def test_open_gates_change_nothing_and_shut_gates_transmit_nothing(
    classifier: Classifier, instances: list[Instance], data: FitData
) -> None:
    noise = write_noise(classifier, data)
    single = classifier.batch([instances[1]])
    n = single.input_ids.shape[1]
    embedded = classifier.hidden_states(single, [0])[0]
    drawn = torch.randn(classifier.n_layers, 2, n, classifier.hidden_size)
    clean = classifier.probabilities(single)[0, 1]

    def state(alpha: float) -> Any:
        gates = torch.full((classifier.n_layers, n, n), alpha)
        return transmit(classifier, single.inputs, embedded, gates, torch.tensor([1]), noise, drawn)

    open_, half, shut = state(60.0), state(0.0), state(-60.0)
    torch.testing.assert_close(open_.probability, clean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(open_.cross_entropy, -clean.log(), rtol=1e-5, atol=1e-6)
    assert (half.edge_nats > 0).all()
    assert (shut.edge_nats.abs() < 1e-3).all()


def test_one_edge_transmits_the_kl_of_iba(
    classifier: Classifier, instances: list[Instance], data: FitData
) -> None:
    """The first layer's input is free of noise, so its KL must be IBA's, message by message."""
    noise = write_noise(classifier, data)
    single = classifier.batch([instances[1]])
    n = single.input_ids.shape[1]
    gates = torch.randn(classifier.n_layers, n, n, generator=torch.Generator().manual_seed(1))
    drawn = torch.zeros(classifier.n_layers, 1, n, classifier.hidden_size)
    embedded = classifier.hidden_states(single, [0])[0]
    found = transmit(classifier, single.inputs, embedded, gates, torch.tensor([1]), noise, drawn).edge_nats[0]
    layer = next(layer_attentions(classifier, single))
    values = layer.block.heads(layer.block.value(layer.hidden))[0]
    messages = (layer.probabilities[0, ..., None] * values[:, None]).permute(1, 2, 0, 3).flatten(2)
    alpha = gates[0][..., None].expand_as(messages)
    expected = kl_nats(alpha, messages, Noise(noise.mean[0], noise.std[0])).sum(-1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_noise_of_shut_gates_has_the_variance_of_the_sum(classifier: Classifier) -> None:
    """Half-open gates on silent messages: a token hears Σ (1 − μ) ε, here of variance n / 4."""
    block = classifier.blocks[0]
    heard: list[Tensor] = []
    hidden = torch.zeros(4000, 6, classifier.hidden_size)
    width = (classifier.hidden_size,)
    drawn = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(block.value.bias)
    with block.attention_output.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0])):
        gated_block(block, hidden, None, torch.zeros(6, 6), torch.full(width, 0.1), torch.ones(width), drawn)
    assert heard[0].mean().item() == pytest.approx(6 * 0.5 * 0.1, abs=0.01)
    assert heard[0].var().item() == pytest.approx(6 * 0.25, rel=0.02)


def test_write_bits_are_never_negative_and_narrow_with_beta(
    classifier: Classifier, batch: TokenBatch, data: FitData
) -> None:
    bits = []
    for beta in (1e-6, 1e3):
        method = fitted(
            AttentionWriteBottleneck(beta=beta, n_steps=6, n_copies=1, max_tokens=64), classifier, data
        )
        found = method.attribute(classifier, batch, TARGET)
        assert (found.per_token["bits"] >= 0).all()
        torch.testing.assert_close(
            found.per_instance["bits_per_token"],
            found.per_token["bits"].sum(1) / batch.attention_mask.sum(1),
        )
        bits.append(found.per_instance["bits_per_token"].mean())
    assert bits[1] < 0.5 * bits[0]


def test_the_readouts_loss_is_the_bottlenecks(classifier: Classifier, batch: TokenBatch) -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full((*x.shape[:2], classifier.hidden_size), 0.7)

    states = classifier.hidden_states(batch, [2, 4])
    labels = torch.tensor([one.example.label for one in batch.instances])
    width = classifier.hidden_size
    noise = Noise(torch.full((width,), 0.3), torch.full((width,), 0.8))
    bank = NoiseBank(0, 1, 64, width, torch.device("cpu"))
    expected, _ = Bottleneck(beta=0.3, n_copies=1)._evaluate(
        torch.full_like(states[2], 0.7), states[2], batch.attention_mask, labels, noise, bank,
        lambda restricted: classifier.logits_from(restricted, batch.inputs, 2), 0)  # fmt: skip
    standard = bank.step(0, batch.input_ids.shape[1]).expand(len(batch), -1, -1)
    found = readout_loss(Constant(), classifier, batch, states, 2, noise, standard, 0.3)
    torch.testing.assert_close(found, expected)
