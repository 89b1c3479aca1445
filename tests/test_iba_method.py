"""IBA as a method: batching does not matter, settings do what they say, the model is left untouched."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iba.attribution import RELEASED_STD, InformationBottleneck, min_max
from iba.attributor import Attribution, FitData, attribute_grouped
from iba.bottleneck import Noise, NoiseBank
from iba.data.tokens import Instance
from iba.models.classifier import Classifier
from iba.models.postnorm import PostNorm

PROTOCOLS: dict[str, dict[str, Any]] = {
    "described": {"beta": 1e-5},
    "released": {"beta": 1e-5, "noise": "layer_input", "readout": "last_forward"},
    "corrected": {"beta": 1.0},
}


def made(
    protocol: str, classifier: Classifier, instances: list[Instance], **change: Any
) -> InformationBottleneck:
    method = InformationBottleneck(0.5, **(PROTOCOLS[protocol] | change))
    method.restore(method.fit(classifier, FitData(instances)))
    return method


def targets(instances: list[Instance]) -> Tensor:
    return torch.tensor([i.example.label for i in instances])


def attributed(
    method: InformationBottleneck, classifier: Classifier, instances: list[Instance]
) -> Attribution:
    return method.attribute(classifier, classifier.batch(instances), targets(instances))


def same(one: Attribution, row: int, other: Attribution, other_row: int, n: int) -> None:
    """The same explanation up to float32 rounding: scores relative to the instance's largest."""
    scale = max(one.scores[row, :n].abs().max().item(), 1e-6)
    torch.testing.assert_close(
        one.scores[row, :n] / scale, other.scores[other_row, :n] / scale, rtol=0, atol=2e-3
    )
    for name, values in one.per_instance.items():
        torch.testing.assert_close(
            values[row], other.per_instance[name][other_row], rtol=2e-3, atol=1e-5, msg=name
        )


@pytest.mark.parametrize("rows", [[0, 1, 2], [1, 1]], ids=["padded", "of one length"])
def test_no_pass_asks_the_device_for_a_number(
    rows: list[int], classifier: Classifier, instances: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU would first have to finish all that it was given, at every step."""
    chosen = [instances[i] for i in rows]
    method = made("corrected", classifier, instances)
    expected = attributed(method, classifier, chosen)
    logits_from, passes = Classifier.logits_from, []

    def refused(*_: Any) -> None:
        raise AssertionError("a number was asked for")

    def watched(*arguments: Any) -> Tensor:
        with monkeypatch.context() as patch:
            for question in ("__bool__", "__int__", "__float__", "item", "tolist", "cpu"):
                patch.setattr(Tensor, question, refused)
            logits = logits_from(*arguments)
        passes.append(arguments[2].attention_mask is None)
        return logits

    monkeypatch.setattr(Classifier, "logits_from", watched)
    assert torch.equal(attributed(method, classifier, chosen).scores, expected.scores)
    assert passes == [rows == [1, 1]] * 11


def test_copies_share_the_token_budget(
    classifier: Classifier, instances: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pass holds more tokens than the budget, noise copies counted; here twice the longest text's."""
    logits_from, passes = Classifier.logits_from, set()
    longest = max(map(len, instances))

    def watched(self: Classifier, hidden: Tensor, *others: Any) -> Tensor:
        passes.add((len(hidden), hidden.shape[1]))
        return logits_from(self, hidden, *others)

    method = made("corrected", classifier, instances, n_copies=4, n_steps=1)
    monkeypatch.setattr(Classifier, "logits_from", watched)
    classifier.token_budget = 4 * 2 * longest
    list(attribute_grouped(method, classifier, instances * 4, targets(instances * 4).tolist()))
    assert (4 * 2, longest) in passes
    assert max(rows * tokens for rows, tokens in passes) <= classifier.token_budget


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_batched_is_one_by_one(protocol: str, classifier: Classifier, instances: list[Instance]) -> None:
    method = made(protocol, classifier, instances)
    together = attributed(method, classifier, instances)
    for row, one in enumerate(instances):
        same(together, row, attributed(method, classifier, [one]), 0, len(one))
        assert (together.scores[row, len(one) :] == 0).all()
        assert (together.per_token["bits"][row, len(one) :] == 0).all()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_order_and_shards_do_not_matter(
    protocol: str, classifier: Classifier, instances: list[Instance]
) -> None:
    method = made(protocol, classifier, instances)
    together = attributed(method, classifier, instances)
    fresh = made(protocol, classifier, instances)  # another process would start with an empty noise bank
    order = [4, 2, 0]
    shard = attributed(fresh, classifier, [instances[i] for i in order])
    for row, i in enumerate(order):
        same(together, i, shard, row, len(instances[i]))


def test_the_same_batch_gives_the_same_bits(classifier: Classifier, instances: list[Instance]) -> None:
    one, other = (
        attributed(made("corrected", classifier, instances), classifier, instances) for _ in range(2)
    )
    assert torch.equal(one.scores, other.scores)
    seeded = attributed(made("corrected", classifier, instances, seed=1), classifier, instances)
    assert not torch.equal(one.scores, seeded.scores)


def test_released_noise_is_the_layers_input_with_a_constant_std(
    classifier: Classifier, instances: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Noise] = []
    method = made("released", classifier, instances)
    states = type(method.bottleneck).states

    def spied(self, hidden, mask, target, noise, *rest):  # type: ignore[no-untyped-def]
        given.append(noise)
        return states(self, hidden, mask, target, noise, *rest)

    monkeypatch.setattr(type(method.bottleneck), "states", spied)
    batch = classifier.batch(instances)
    method.attribute(classifier, batch, targets(instances))
    with torch.no_grad():
        expected = classifier.model(
            batch.input_ids, batch.attention_mask.long(), batch.token_type_ids, output_hidden_states=True
        ).hidden_states[1]  # the bottleneck is after layer 2 of 4: its input is layer 1's output
    mask = batch.attention_mask
    torch.testing.assert_close(given[0].mean[mask], expected[mask], rtol=1e-4, atol=1e-4)
    assert given[0].std.item() == pytest.approx(math.sqrt(1e-5)) == pytest.approx(RELEASED_STD)


def test_released_score_at_the_start_is_the_gated_squared_update(
    classifier: Classifier, instances: list[Instance]
) -> None:
    # One step: the last forward is the one at α₀, so the KL can be written down.
    method = made("released", classifier, instances, n_steps=1)
    found = attributed(method, classifier, instances)
    states = classifier.hidden_states(classifier.batch(instances), [1, 2])
    keep, closing = torch.sigmoid(torch.tensor(5.0)), torch.sigmoid(torch.tensor(-5.0))
    update = (keep**2 * (states[2] - states[1]) ** 2 / 1e-5).sum(-1) / 2
    constant = 32 * -(0.5 + closing.log() - closing**2 / 2)
    expected = update + constant
    for row, one in enumerate(instances):
        kl = expected[row, : len(one)]
        torch.testing.assert_close(
            found.scores[row, : len(one)], (kl - kl.min()) / (kl.max() - kl.min()), rtol=1e-3, atol=1e-4
        )


def test_last_forward_reads_before_the_last_update_and_final_after_it(
    classifier: Classifier, instances: list[Instance]
) -> None:
    batch = classifier.batch(instances)
    before = made("corrected", classifier, instances, n_steps=3, readout="last_forward")
    two_steps = made("corrected", classifier, instances, n_steps=2)
    three_steps = made("corrected", classifier, instances, n_steps=3)
    after_two = attributed(two_steps, classifier, instances).scores
    assert torch.equal(attributed(before, classifier, instances).scores, min_max(after_two, batch))
    assert not torch.allclose(after_two, attributed(three_steps, classifier, instances).scores)


def test_scores_are_the_tokens_kl_and_bits_their_unit(
    classifier: Classifier, instances: list[Instance]
) -> None:
    found = attributed(made("corrected", classifier, instances), classifier, instances)
    torch.testing.assert_close(found.per_token["bits"] * math.log(2), found.scores)
    lengths = torch.tensor([len(i) for i in instances])
    torch.testing.assert_close(
        found.per_instance["mean_kl_nats"], found.scores.sum(1) / (lengths * classifier.hidden_size)
    )
    torch.testing.assert_close(
        found.per_instance["bits_per_token"], found.scores.sum(1) / math.log(2) / lengths
    )
    assert (found.per_instance["bits_per_token"] < found.per_instance["bits_per_token_start"]).all()
    assert (found.per_instance["beta"] == 1.0).all()


def test_cross_entropy_and_probability_are_those_under_the_bottleneck(
    classifier: Classifier, instances: list[Instance]
) -> None:
    """By hand from the gates of the first and the last state: μX + (1 − μ)ε, averaged over noise copies."""
    method = made("corrected", classifier, instances, n_steps=3, n_copies=2, alpha_init=0.0)
    batch, target = classifier.batch(instances), targets(instances)
    found = method.attribute(classifier, batch, target).per_instance
    hidden = classifier.hidden_states(batch, [2])[2]
    state = method.fit(classifier, FitData(instances))
    noise = Noise(state["noise_mean"], state["noise_std"])
    bank = NoiseBank(method.seed, 2, method.max_tokens, classifier.hidden_size, classifier.device)

    def logits_from(restricted: Tensor) -> Tensor:
        return classifier.logits_from(restricted, batch.inputs, 2)

    states = list(method.bottleneck.states(hidden, batch.attention_mask, target, noise, bank, logits_from))
    for number, suffix in ((0, "_start"), (3, "")):
        gate = states[number].alpha.sigmoid()
        p = []
        for standard in bank.step(number, hidden.shape[1]):
            restricted = gate * hidden + (1 - gate) * (noise.mean + noise.std * standard)
            logits = logits_from(restricted)
            p.append(logits.softmax(-1).gather(1, target[:, None])[:, 0])
        cross_entropy = -torch.stack(p).log().mean(0)
        torch.testing.assert_close(found[f"cross_entropy_nats{suffix}"], cross_entropy, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found["prob_bottleneck"], torch.stack(p).mean(0), rtol=1e-3, atol=1e-4)
    assert (found["cross_entropy_nats"] - found["cross_entropy_nats_start"]).abs().max() > 0.01
    assert found["prob_bottleneck"].std() > 0.01


def test_min_max_ignores_padding(classifier: Classifier, instances: list[Instance]) -> None:
    batch = classifier.batch(instances)
    scores = torch.where(batch.attention_mask, 5.0 + torch.arange(batch.input_ids.shape[1]), -99.0)
    scaled = min_max(scores, batch)
    for row, one in enumerate(instances):
        torch.testing.assert_close(scaled[row, : len(one)], torch.linspace(0, 1, len(one)))
        assert (scaled[row, len(one) :] == 0).all()


def test_the_target_matters(classifier: Classifier, instances: list[Instance]) -> None:
    method = made("corrected", classifier, instances)
    batch = classifier.batch(instances)
    one, other = (method.attribute(classifier, batch, torch.full((5,), t)) for t in (0, 1))
    assert not torch.allclose(one.scores, other.scores)


def snapshot(model: nn.Module) -> dict[str, object]:
    """What a method might leave behind: weights, modes, gradients, hooks."""
    return {
        "weights": {name: value.clone() for name, value in model.state_dict().items()},
        "modules": [id(m) for m in model.modules()],
        "training": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grads": [p.grad is None for p in model.parameters()],
        "hooks": [
            len(hooks)
            for m in model.modules()
            for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks, m._backward_pre_hooks)
        ],
        "forwards": ["forward" in vars(m) for m in model.modules()],
    }


def unchanged(before: dict[str, object], after: dict[str, object]) -> None:
    weights, now = before.pop("weights"), after.pop("weights")
    assert isinstance(weights, dict)
    assert isinstance(now, dict)
    assert weights.keys() == now.keys()
    assert all(torch.equal(weights[name], now[name]) for name in weights)
    assert before == after


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_model_is_untouched_after_success(
    protocol: str, classifier: Classifier, instances: list[Instance]
) -> None:
    model, before = classifier.model, snapshot(classifier.model)
    logits = classifier.probabilities(classifier.batch(instances))
    attributed(made(protocol, classifier, instances), classifier, instances)
    assert classifier.model is model
    unchanged(before, snapshot(model))
    assert torch.equal(classifier.probabilities(classifier.batch(instances)), logits)


@pytest.mark.parametrize("passes", [1, 4])
def test_the_model_is_untouched_after_an_exception(
    classifier: Classifier, instances: list[Instance], monkeypatch: pytest.MonkeyPatch, passes: int
) -> None:
    method = made("corrected", classifier, instances)
    expected = attributed(method, classifier, instances)
    before = snapshot(classifier.model)
    logits = classifier.probabilities(classifier.batch(instances))
    head, calls = PostNorm._head, []

    def broken(self: Classifier, first: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == passes:
            raise RuntimeError("out of the blue")
        return head(self, first)

    with monkeypatch.context() as patch:
        patch.setattr(PostNorm, "_head", broken)
        with pytest.raises(RuntimeError, match="out of the blue"):
            attributed(method, classifier, instances)
    assert torch.is_grad_enabled()
    unchanged(before, snapshot(classifier.model))
    assert torch.equal(classifier.probabilities(classifier.batch(instances)), logits)
    assert torch.equal(attributed(method, classifier, instances).scores, expected.scores)
