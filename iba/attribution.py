"""IBA as an attribution method: where the noise comes from, which β, and what is read out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from iba.attributor import Attribution, FitData, State, learned
from iba.bottleneck import Bottleneck, Noise, Restriction, noise_bank
from iba.data.tokens import TokenBatch
from iba.models.classifier import Classifier
from iba.noise import feature_statistics
from iba.settings import Count, Layer, LearningRate, NotNegative, Seed

#: The released code's constant: variance 1e-5.
RELEASED_STD = math.sqrt(1e-5)


class InformationBottleneck:
    """IBA after `layer` (1-based, or a fraction of depth, which is never the last layer).

    noise: "features" — mean and standard deviation per feature over the tokens of training instances;
        "layer_input" — the released code's: the state that entered the layer, with variance 1e-5.
    beta: a number; or "rule": Appendix D's, 10 × L_CE / L_IB at the start of the optimisation, of every
        instance by itself.
    readout: "final" — KL of the final α, nats; "last_forward" — the released code's: KL before the last
        update, min–max scaled per instance.
    """

    needs = "hidden"
    concurrent = True
    gates = Bottleneck

    def __init__(
        self,
        layer: Layer,
        beta: NotNegative | Literal["rule"],
        noise: Literal["features", "layer_input"] = "features",
        readout: Literal["final", "last_forward"] = "final",
        n_steps: Count = 10,
        n_copies: Count = 10,
        learning_rate: LearningRate = 1.0,
        alpha_init: float = 5.0,
        seed: Seed = 0,
        max_tokens: Count = 512,
        n_statistics: Count = 1000,
    ) -> None:
        self.layer, self.beta, self.noise, self.readout = layer, beta, noise, readout
        self.seed, self.max_tokens, self.n_statistics = seed, max_tokens, n_statistics
        self.copies = n_copies
        self.bottleneck = self.gates(
            beta=math.nan if isinstance(beta, str) else beta,
            n_steps=n_steps,
            n_copies=n_copies,
            learning_rate=learning_rate,
            alpha_init=alpha_init,
        )
        self._state: State = {}

    def fit(self, classifier: Classifier, data: FitData) -> State:
        """Noise statistics from training rows."""
        if self.noise != "features":
            return {}
        layer = classifier.resolve_layer(self.layer)
        return feature_statistics(classifier, data, layer, self.n_statistics)

    def restore(self, state: State) -> None:
        """Take the noise statistics."""
        self._state = state

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Sum of KL over features per token, with what explains it.

        per_token: `bits`. per_instance: `bits_per_token` at the end and at the start, `cross_entropy_nats`,
        `mean_kl_nats`, the target's probability under the bottleneck (`prob_bottleneck`) and `beta`.
        """
        layer = classifier.resolve_layer(self.layer)
        states = classifier.hidden_states(batch, [layer - 1, layer])
        hidden = states[layer]
        beta, first, before_last, final = self._optimise(
            classifier, batch, target, layer, hidden, states[layer - 1]
        )
        scores = (final if self.readout == "final" else before_last).kl.sum(-1)
        if self.readout == "last_forward":
            scores = min_max(scores, batch)
        n_tokens = batch.attention_mask.sum(1)
        bits = final.kl.sum(-1) / math.log(2)
        return Attribution(
            scores=scores,
            per_token={"bits": bits},
            per_instance={
                "bits_per_token": bits.sum(1) / n_tokens,
                "bits_per_token_start": first.kl.sum((1, 2)) / math.log(2) / n_tokens,
                "cross_entropy_nats": final.cross_entropy,
                "cross_entropy_nats_start": first.cross_entropy,
                "mean_kl_nats": final.mean_kl,
                "mean_kl_nats_start": first.mean_kl,
                "prob_bottleneck": final.probability,
                "beta": torch.zeros_like(final.mean_kl) + beta,
            },
        )

    def _optimise(
        self,
        classifier: Classifier,
        batch: TokenBatch,
        target: Tensor,
        layer: int,
        hidden: Tensor,
        below: Tensor,
    ) -> tuple[float | Tensor, Restriction, Restriction, Restriction]:
        """β, the first, the last but one, and the final state."""
        bank = noise_bank(self.seed, self.copies, self.max_tokens, hidden.shape[-1], classifier.device)

        def logits_from(restricted: Tensor) -> Tensor:
            return classifier.logits_from(restricted, batch.inputs, layer)

        def states(bottleneck: Bottleneck) -> Iterator[Restriction]:
            return bottleneck.states(hidden, batch.attention_mask, target, noise, bank, logits_from)

        noise, bottleneck = self._noise(hidden, below), self.bottleneck
        if self.beta == "rule":
            (start,) = states(replace(bottleneck, n_steps=0))
            bottleneck = replace(bottleneck, beta=10 * start.cross_entropy / start.mean_kl)
        first = before_last = final = None
        for state in states(bottleneck):
            first, before_last, final = first or state, final, state
        assert first is not None
        assert final is not None
        return bottleneck.beta, first, before_last or first, final

    def _noise(self, hidden: Tensor, below: Tensor) -> Noise:
        if self.noise == "layer_input":
            return Noise(below, torch.tensor(RELEASED_STD, device=hidden.device))
        mean, std = learned(self._state, "noise_mean"), learned(self._state, "noise_std")
        return Noise(mean.to(hidden.device), std.to(hidden.device))


def last_layer_note(classifier: Classifier, layer: int | float) -> str:
    """What is to be said of a bottleneck after the last layer; nothing after any other."""
    if classifier.resolve_layer(layer) < classifier.n_layers:
        return ""
    return (
        f"after layer {classifier.n_layers}, the last, the head reads [CLS] alone: the scores of all other "
        "tokens say nothing of the prediction."
    )


def min_max(scores: Tensor, batch: TokenBatch) -> Tensor:
    """Scale each instance's scores to [0, 1] over its own tokens."""
    mask = batch.attention_mask
    low = scores.masked_fill(~mask, torch.inf).amin(1, keepdim=True)
    high = scores.masked_fill(~mask, -torch.inf).amax(1, keepdim=True)
    return ((scores - low) / (high - low).clamp_min(1e-12)).masked_fill(~mask, 0.0)
