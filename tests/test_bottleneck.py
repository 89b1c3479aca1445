"""The heart against closed forms: KL, its gradient, and what the limits of μ and β must do."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck
from torch.distributions import Normal, kl_divergence

from iba.bottleneck import Bottleneck, Noise, NoiseBank, Restriction, kl_nats, restrict
from iba.data.tokens import Instance, TokenBatch
from iba.models.classifier import Classifier

TARGET = torch.tensor([0, 1, 2, 0, 1])


def bank(classifier: Classifier, n_copies: int = 10) -> NoiseBank:
    return NoiseBank(0, n_copies, 64, classifier.hidden_size, torch.device("cpu"))


def final_state(
    classifier: Classifier, batch: TokenBatch, bottleneck: Bottleneck, layer: int = 2
) -> Restriction:
    hidden = classifier.hidden_states(batch, [layer])[layer]
    noise = Noise(hidden[batch.attention_mask].mean(0), hidden[batch.attention_mask].std(0))

    def logits_from(restricted: Tensor) -> Tensor:
        return classifier.logits_from(restricted, batch.inputs, layer)

    *_, final = bottleneck.states(
        hidden, batch.attention_mask, TARGET, noise, bank(classifier, bottleneck.n_copies), logits_from
    )
    return final


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_is_that_of_torch_distributions(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (3, 5, 7)
    alpha, hidden = 4 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    mean = torch.randn(7, generator=generator, dtype=torch.float64)
    std = torch.rand(7, generator=generator, dtype=torch.float64) + 0.1
    keep = torch.sigmoid(alpha)
    restricted = Normal(keep * hidden + (1 - keep) * mean, (1 - keep) * std)
    expected = kl_divergence(restricted, Normal(mean, std).expand(shape))
    ours = kl_nats(alpha.to(dtype), hidden.to(dtype), Noise(mean.to(dtype), std.to(dtype)))
    torch.testing.assert_close(ours, expected.to(dtype), rtol=1e-5, atol=1e-5)


def test_kl_of_a_half_open_gate_by_hand() -> None:
    # λ = ½, x̂ = 2: T ~ N(1, ¼) against N(0, 1) has KL ln 2 + (¼ + 1)/2 − ½.
    kl = kl_nats(torch.zeros(1, 1, 1), torch.full((1, 1, 1), 2.0), Noise(torch.zeros(1), torch.ones(1)))
    assert kl.item() == pytest.approx(math.log(2) + 0.125)


@pytest.mark.parametrize("alpha", [-1e4, -200.0, -90.0, 17.0, 90.0, 200.0, 1e4])
def test_kl_and_its_gradient_are_finite_for_every_alpha(alpha: float) -> None:
    a = torch.full((1, 1, 3), alpha, requires_grad=True)
    kl = kl_nats(a, torch.tensor([[[-3.0, 0.0, 3.0]]]), Noise(torch.zeros(3), torch.ones(3)))
    (gradient,) = torch.autograd.grad(kl.sum(), a)
    assert torch.isfinite(kl).all()
    assert torch.isfinite(gradient).all()
    assert (kl >= 0).all()
    if alpha > 0:  # −log(1−λ) → α: the price of certainty grows linearly, it does not saturate.
        torch.testing.assert_close(kl[0, 0, 1].detach(), torch.tensor(alpha - 0.5), rtol=1e-4, atol=1e-4)


def test_restricted_state_has_the_mean_and_variance_that_the_kl_assumes() -> None:
    alpha, hidden = torch.tensor([[[0.7]]]), torch.tensor([[[2.0]]])
    noise = Noise(torch.tensor([-1.0]), torch.tensor([0.5]))
    standard = torch.randn(200_000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    samples = restrict(alpha, hidden, noise.mean + noise.std * standard)
    keep = torch.sigmoid(alpha).item()
    assert samples.mean().item() == pytest.approx(keep * 2 - (1 - keep), abs=0.003)
    assert samples.std().item() == pytest.approx((1 - keep) * 0.5, abs=0.003)


def double_precision_loss(
    classifier: Classifier, batch: TokenBatch, beta: float, layer: int = 2
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """α in float64 and the loss as a function of it, through a real transformer in float64."""
    classifier.model.double()
    generator = torch.Generator().manual_seed(1)
    shape = (*batch.input_ids.shape, classifier.hidden_size)
    hidden = torch.randn(shape, generator=generator, dtype=torch.float64)
    noise = Noise(torch.zeros(shape[-1], dtype=torch.float64), torch.ones(shape[-1], dtype=torch.float64))

    def logits_from(restricted: Tensor) -> Tensor:
        mask = batch.attention_mask.repeat(len(restricted) // len(batch), 1)
        attends = classifier.post_norm.attends(mask, restricted.shape[1])
        for block in classifier.blocks[layer:]:
            restricted = block(restricted, attends)
        logits: Tensor = classifier.model.classifier(classifier.model.base_model.pooler(restricted))
        return logits

    noise_bank = bank(classifier, 2)
    bottleneck = Bottleneck(beta=beta, n_copies=2)
    target = TARGET[: len(batch)]

    def loss(alpha: Tensor) -> Tensor:
        args = (alpha, hidden, batch.attention_mask, target, noise, noise_bank, logits_from, 0)
        return bottleneck._evaluate(*args)[0]

    return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True), loss


@pytest.mark.parametrize("beta", [0.0, 1e-2, 10.0])
def test_loss_gradient_is_that_of_finite_differences(
    classifier: Classifier, instances: list[Instance], beta: float
) -> None:
    batch = classifier.batch([instances[1], instances[4]])  # padded: lengths differ
    alpha, loss = double_precision_loss(classifier, batch, beta)
    assert gradcheck(loss, (alpha,), eps=1e-6, atol=1e-7, rtol=1e-5, fast_mode=True)


def test_loss_is_cross_entropy_plus_beta_times_the_mean_kl_of_real_tokens(
    classifier: Classifier, instances: list[Instance]
) -> None:
    batch = classifier.batch(instances)
    hidden = classifier.hidden_states(batch, [2])[2]
    noise = Noise(torch.full((32,), 0.3), torch.full((32,), 0.8))
    alpha = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(0))
    noise_bank = bank(classifier, 3)
    loss, state = Bottleneck(beta=0.7, n_copies=3)._evaluate(
        alpha, hidden, batch.attention_mask, TARGET, noise, noise_bank,
        lambda t: classifier.logits_from(t, batch.inputs, 2), 4,
    )  # fmt: skip
    expected = 0.0
    keep = torch.sigmoid(alpha)
    for row, one in enumerate(instances):
        n = len(one)
        parts = []
        for copy in range(3):
            epsilon = 0.3 + 0.8 * noise_bank.step(4, n)[copy]
            t = keep[row, :n] * hidden[row, :n] + (1 - keep[row, :n]) * epsilon
            logits = classifier.logits_from(t[None], classifier.batch([one]).inputs, 2)
            parts.append(torch.nn.functional.cross_entropy(logits, TARGET[row : row + 1]).item())
        restricted = Normal(keep * hidden + (1 - keep) * 0.3, (1 - keep) * 0.8)
        kl = kl_divergence(restricted, Normal(0.3, 0.8))[row, :n]
        expected += sum(parts) / 3 + 0.7 * kl.mean().item()
        assert state.cross_entropy[row].item() == pytest.approx(sum(parts) / 3, rel=1e-4)
        assert state.mean_kl[row].item() == pytest.approx(kl.mean().item(), rel=1e-4)
        assert (state.kl[row, n:] == 0).all()
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_an_open_gate_returns_the_original_probability(
    classifier: Classifier, instances: list[Instance]
) -> None:
    batch = classifier.batch(instances)
    open_gate = Bottleneck(beta=0.0, n_steps=0, n_copies=2, alpha_init=40.0)
    expected = classifier.probabilities(batch).gather(1, TARGET[:, None])[:, 0]
    torch.testing.assert_close(final_state(classifier, batch, open_gate).probability, expected)


def test_a_closed_gate_keeps_nothing(classifier: Classifier, instances: list[Instance]) -> None:
    state = final_state(
        classifier, classifier.batch(instances), Bottleneck(beta=0.0, n_steps=0, n_copies=2, alpha_init=-40.0)
    )
    assert state.kl.abs().max().item() == pytest.approx(0.0, abs=1e-6)


def test_beta_narrows_the_bottleneck_and_a_large_one_closes_it(
    classifier: Classifier, instances: list[Instance]
) -> None:
    batch = classifier.batch(instances)
    betas = (1e-4, 1e-2, 1.0, 1e2, 1e4)
    kept = [final_state(classifier, batch, Bottleneck(beta=b, n_copies=4)).mean_kl for b in betas]
    start = final_state(classifier, batch, Bottleneck(beta=0.0, n_steps=0)).mean_kl
    for less, more in zip(kept[1:], kept[:-1], strict=True):
        assert (less <= more * 1.01).all()
    assert (kept[-1] < 0.01 * start).all()
    long = final_state(classifier, batch, Bottleneck(beta=1e4, n_steps=60, n_copies=2))
    assert (long.mean_kl < 1e-4 * start).all()


def test_every_state_is_yielded_in_order(classifier: Classifier, instances: list[Instance]) -> None:
    batch = classifier.batch(instances)
    hidden = classifier.hidden_states(batch, [2])[2]
    states = list(
        Bottleneck(beta=1.0, n_steps=3, n_copies=2).states(
            hidden, batch.attention_mask, TARGET, Noise(torch.zeros(32), torch.ones(32)),
            bank(classifier, 2), lambda t: classifier.logits_from(t, batch.inputs, 2),
        )
    )  # fmt: skip
    assert len(states) == 4
    assert (states[0].alpha == 5.0).all()
    # Adam's first step is the learning rate times the gradient's sign, wherever there is a gradient.
    moved = (states[1].alpha - states[0].alpha)[batch.attention_mask].abs()
    assert moved.max().item() == pytest.approx(1.0, rel=1e-3)
    assert not hidden.requires_grad


def test_noise_depends_on_seed_and_step_but_not_on_length_or_order() -> None:
    one, other = (NoiseBank(3, 2, 16, 4, torch.device("cpu")) for _ in range(2))
    short, long = one.step(1, 5), one.step(1, 16)
    assert torch.equal(short, long[:, :5])
    other.step(7, 3), other.step(0, 16)
    assert torch.equal(other.step(1, 16), long)
    assert not torch.equal(one.step(2, 16), long)
    assert not torch.equal(NoiseBank(4, 2, 16, 4, torch.device("cpu")).step(1, 16), long)
    assert not torch.equal(long[0], long[1])
    longer = one.step(1, 20)  # than the bank was made for
    assert torch.equal(longer[:, :16], long)
    assert longer.shape == (2, 20, 4)
    assert not torch.equal(longer[:, 16:], long[:, :4])
    many = NoiseBank(0, 10, 512, 32, torch.device("cpu")).step(0, 512)
    assert many.mean().item() == pytest.approx(0.0, abs=0.01)
    assert many.std().item() == pytest.approx(1.0, abs=0.01)
