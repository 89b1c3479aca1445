"""The information bottleneck (Section 3): noise in place of hidden states, and what gets past it.

X is a layer's output, μ = σ(α) one gate per token and feature, T = μ ⊙ X + (1 − μ) ⊙ ε the restricted
state with ε ~ N(μ_X, σ_X²). For every instance α is optimised to minimise

    L = CE(logits(T), y) + β · mean KL[P(T|X) ‖ Q(T)],   Q(T) = N(μ_X, σ_X²).

Eq. 5 of the paper writes β on the cross entropy; its own text ("the larger β, the narrower the
bottleneck"), Appendix D and the released code all mean the form above, which is used here.

Adam's ε is torch's default, 1e-8, as in the released code. One gate's gradient is often smaller than that
(the KL's is about β/(tokens · features), the cross entropy's vanishes where the classifier is sure), so a
first step may be far shorter than the learning rate of 1: the longer the text and the smaller β, the shorter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iba.devices import sent

Hidden = Float[Tensor, "batch tokens hidden"]
LogitsFrom = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Noise:
    """Mean and standard deviation of ε, broadcastable to (batch, tokens, hidden); `std` is positive."""

    mean: Tensor
    std: Tensor


def kl_nats(alpha: Hidden, hidden: Hidden, noise: Noise) -> Hidden:
    """KL[P(T|X) ‖ Q(T)] of every element, in nats (Eq. 4b).

    With x̂ = (X − μ_X)/σ_X and λ = σ(α): −½ (1 + log (1−λ)² − (λx̂)² − (1−λ)²). log(1−λ) is taken as
    logsigmoid(−α), so the value is finite for every α.
    """
    normed = (hidden - noise.mean) / noise.std
    keep, noisy = torch.sigmoid(alpha), torch.sigmoid(-alpha)
    return -0.5 * (1 + 2 * F.logsigmoid(-alpha) - (keep * normed) ** 2 - noisy**2)


def restrict(alpha: Hidden, hidden: Hidden, epsilon: Tensor) -> Tensor:
    """T = μ ⊙ X + (1 − μ) ⊙ ε; a leading dimension of `epsilon` (noise copies) is kept."""
    return torch.lerp(epsilon, hidden, torch.sigmoid(alpha))


class NoiseBank:
    """Seeded standard-normal noise that depends on neither batching nor length.

    One tensor (copies, tokens, hidden) per optimisation step, shared by all instances and sliced to their
    length. An instance thus sees the same noise alone, in any batch, in any shard and after resuming. The
    positions are drawn `max_tokens` at a time, more of them where a text is longer.
    """

    def __init__(
        self, seed: int, n_copies: int, max_tokens: int, hidden_size: int, device: torch.device
    ) -> None:
        self.hidden_size = hidden_size
        self._shape = (n_copies, max_tokens, hidden_size)
        self._seed = seed
        self._device = device
        self._steps: dict[int, Tensor] = {}

    def step(self, number: int, tokens: int) -> Float[Tensor, "copies tokens hidden"]:
        """The noise of optimisation step `number` at the first `tokens` positions."""
        if number not in self._steps or self._steps[number].shape[1] < tokens:
            # Drawn on the CPU, so that every device sees the same numbers.
            generator = torch.Generator().manual_seed(self._seed * 10_007 + number)
            blocks = range(math.ceil(tokens / self._shape[1]))
            drawn = torch.cat([torch.randn(self._shape, generator=generator) for _ in blocks], dim=1)
            self._steps[number] = sent(drawn, self._device)
        return self._steps[number][:, :tokens]


#: A bank is large and depends on its arguments alone: methods that differ in layer or β share the last one.
noise_bank = lru_cache(maxsize=1)(NoiseBank)


@dataclass(frozen=True)
class Restriction:
    """A state of the bottleneck: all tensors have dimension 0 = instances.

    `kl` in nats per element (0 on padding), `cross_entropy` in nats and `probability` of the target
    under T, averaged over noise copies, `mean_kl` over the instance's tokens and features.
    """

    alpha: Hidden
    kl: Hidden
    cross_entropy: Float[Tensor, " batch"]
    probability: Float[Tensor, " batch"]
    mean_kl: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Bottleneck:
    """The optimisation of α for a batch of instances (Appendix D gives the defaults).

    Instances do not interact: the loss is a sum of theirs and Adam works elementwise, so a batch gives
    each the result that it would have alone.
    """

    beta: float | Float[Tensor, " batch"]
    n_steps: int = 10
    n_copies: int = 10
    learning_rate: float = 1.0
    alpha_init: float = 5.0

    def states(
        self,
        hidden: Hidden,
        attention_mask: Bool[Tensor, "batch tokens"],
        target: Int[Tensor, " batch"],
        noise: Noise,
        bank: NoiseBank,
        logits_from: LogitsFrom,
    ) -> Iterator[Restriction]:
        """The state before each Adam update and, last, after the final one: `n_steps` + 1 in all.

        `logits_from(T)` runs the layers above the bottleneck on (copies · batch) rows, the whole batch after
        the whole batch; what else they read (masks, positions) is its own to know. The state at the start has
        α = `alpha_init` everywhere.
        """
        alpha = torch.full_like(hidden, self.alpha_init, requires_grad=True)
        optimiser = torch.optim.Adam([alpha], lr=self.learning_rate)
        for step in range(self.n_steps + 1):
            last = step == self.n_steps
            with torch.set_grad_enabled(not last):
                loss, state = self._evaluate(
                    alpha, hidden, attention_mask, target, noise, bank, logits_from, step
                )
            if not last:
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
            yield state

    def _evaluate(
        self,
        alpha: Hidden,
        hidden: Hidden,
        attention_mask: Bool[Tensor, "batch tokens"],
        target: Int[Tensor, " batch"],
        noise: Noise,
        bank: NoiseBank,
        logits_from: LogitsFrom,
        step: int,
    ) -> tuple[Tensor, Restriction]:
        batch, tokens, features = hidden.shape
        standard = bank.step(step, tokens)[:, None]
        restricted = restrict(alpha, hidden, torch.addcmul(noise.mean, noise.std, standard))
        copies = restricted.shape[0]
        logits = logits_from(restricted.flatten(0, 1))
        log_p = logits.log_softmax(-1).unflatten(0, (copies, batch))
        target_log_p = log_p.gather(-1, target.expand(copies, -1)[..., None]).squeeze(-1)
        cross_entropy = -target_log_p.mean(0)
        real = attention_mask[..., None]
        kl = kl_nats(alpha, hidden, noise).masked_fill(~real, 0.0)
        mean_kl = kl.sum((1, 2)) / (attention_mask.sum(1) * features)
        loss = (cross_entropy + self.beta * mean_kl).sum()
        state = Restriction(
            alpha=alpha.detach().clone(),
            kl=kl.detach(),
            cross_entropy=cross_entropy.detach(),
            probability=target_log_p.detach().exp().mean(0),
            mean_kl=mean_kl.detach(),
        )
        return loss, state
