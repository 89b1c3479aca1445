"""An information bottleneck on everything that attention writes to the residual stream, in every layer.

The transformer-wide variant that the related work names for vision transformers, made post hoc here: the
classifier is frozen and the gates are optimised per instance, as IBA's are. In layer l, token j sends token
i the message m_ij = [A^h_ij (x_j W_V^h + b_V^h)]_h (all heads, before W_O). One gate μ_lij per edge lets it
through or puts noise in its place:

    m̃_ij = μ m_ij + (1 − μ) ε_ij,   ε_ij ~ N(μ_m, σ_m²) per feature,

with the statistics of layer l's messages over training instances. The residual stream itself is untouched,
so with all gates shut no token learns of another. A token reads only the sum of its messages, so noise is
drawn for the sum: its mean is μ_m Σ_j (1 − μ_ij), its variance σ_m² Σ_j (1 − μ_ij)². An edge transmits

    KL_ij = ½ Σ_features [μ² m̂² + (1 − μ)² − 1 − 2 log(1 − μ)],   m̂ = (m − μ_m)/σ_m   (Eq. 4 of IBA),

and the loss is CE(logits, y) + β · Σ KL / (layers · tokens · features). A token's score is the sum of KL
over the layers and edges that leave it.
Cost: `n_steps` · `n_copies` forward and backward passes through the whole encoder with explicit attention
maps, one instance at a time; memory grows with layers · heads · n² · `n_copies`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from baselines.attention_maps import layer_attentions
from iba.attributor import Attribution, FitData, State, learned, pad_scores
from iba.bottleneck import noise_bank
from iba.data.tokens import Inputs, TokenBatch
from iba.models.block import Block
from iba.models.classifier import Classifier
from iba.noise import pooled
from iba.settings import Count, LearningRate, NotNegative, Seed

LOG_2 = math.log(2)


@dataclass(frozen=True)
class MessageNoise:
    """Per layer and feature: mean and standard deviation of the messages."""

    mean: Float[Tensor, "layers hidden"]
    std: Float[Tensor, "layers hidden"]


@dataclass(frozen=True)
class Transmission:
    """One instance's state: what every edge transmits, averaged over noise copies, and what it costs."""

    edge_nats: Float[Tensor, "layers tokens tokens"]
    cross_entropy: Float[Tensor, ""]
    probability: Float[Tensor, ""]


class AttentionWriteBottleneck:
    """Gates on all attention edges, optimised per instance by Adam."""

    needs = "blocks"
    concurrent = False

    def __init__(
        self,
        beta: NotNegative,
        n_steps: Count = 10,
        n_copies: Count = 2,
        learning_rate: LearningRate = 1.0,
        alpha_init: float = 5.0,
        seed: Seed = 0,
        max_tokens: Count = 512,
        n_statistics: Count = 200,
    ) -> None:
        self.beta = beta
        self.n_steps, self.copies = n_steps, n_copies
        self.learning_rate, self.alpha_init = learning_rate, alpha_init
        self.seed, self.max_tokens = seed, max_tokens
        self.n_statistics = n_statistics
        self._state: State = {}

    def fit(self, classifier: Classifier, data: FitData) -> State:
        """Message statistics from training rows."""
        return message_statistics(classifier, data, self.n_statistics)

    def restore(self, state: State) -> None:
        """Take the message statistics."""
        self._state = state

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """KL of the edges that leave a token, summed, in nats.

        per_token: `bits`. per_instance: `bits_per_token`, `cross_entropy_nats`, the target's probability
        under the bottleneck (`prob_bottleneck`), and `beta`.
        """
        finals = [
            self.optimise(classifier, classifier.batch([instance]), target[row : row + 1])
            for row, instance in enumerate(batch.instances)
        ]
        scores = pad_scores([final.edge_nats.sum((0, 1)) for final in finals], batch)
        cross_entropy = torch.stack([final.cross_entropy for final in finals])
        return Attribution(
            scores,
            per_token={"bits": scores / LOG_2},
            per_instance={
                "bits_per_token": scores.sum(1) / LOG_2 / batch.attention_mask.sum(1),
                "cross_entropy_nats": cross_entropy,
                "prob_bottleneck": torch.stack([final.probability for final in finals]),
                "beta": torch.full_like(cross_entropy, self.beta),
            },
        )

    def optimise(
        self, classifier: Classifier, single: TokenBatch, target: Int[Tensor, " one"]
    ) -> Transmission:
        """The state after the last update of the gates of a batch of one."""
        n = single.input_ids.shape[1]
        embedded = classifier.hidden_states(single, [0])[0]
        noise = self._noise(classifier)
        alpha = torch.full(
            (classifier.n_layers, n, n), self.alpha_init, device=classifier.device, requires_grad=True
        )
        optimiser = torch.optim.Adam([alpha], lr=self.learning_rate)
        size = classifier.n_layers * n * classifier.hidden_size
        for step in range(self.n_steps):
            state = transmit(
                classifier, single.inputs, embedded, alpha, target, noise, self._drawn(classifier, step, n)
            )
            optimiser.zero_grad(set_to_none=True)
            (state.cross_entropy + self.beta * state.edge_nats.sum() / size).backward()
            optimiser.step()
        with torch.no_grad():
            drawn = self._drawn(classifier, self.n_steps, n)
            return transmit(classifier, single.inputs, embedded, alpha, target, noise, drawn)

    def _noise(self, classifier: Classifier) -> MessageNoise:
        mean, std = learned(self._state, "message_mean"), learned(self._state, "message_std")
        return MessageNoise(mean.to(classifier.device), std.to(classifier.device))

    def _drawn(
        self, classifier: Classifier, step: int, tokens: int
    ) -> Float[Tensor, "layers copies tokens hidden"]:
        width = (classifier.n_layers, classifier.hidden_size)
        bank = noise_bank(self.seed, self.copies, self.max_tokens, math.prod(width), classifier.device)
        return bank.step(step, tokens).unflatten(-1, width).movedim(2, 0)


def transmit(
    classifier: Classifier,
    inputs: Inputs,
    embedded: Float[Tensor, "one tokens hidden"],
    alpha: Float[Tensor, "layers tokens tokens"],
    target: Int[Tensor, " one"],
    noise: MessageNoise,
    drawn: Float[Tensor, "layers copies tokens hidden"],
) -> Transmission:
    """Run one instance, without padding, through the gated encoder, once per noise copy."""
    encoder = classifier.post_norm
    attends = encoder.attends(None, embedded.shape[1])
    hidden = embedded.expand(drawn.shape[1], -1, -1)
    nats = []
    for number, block in enumerate(encoder.blocks):
        hidden, layer_nats = gated_block(
            block, hidden, attends, alpha[number], noise.mean[number], noise.std[number], drawn[number]
        )
        nats.append(layer_nats.mean(0))
    logits = classifier.logits_from(hidden, inputs, classifier.n_layers)
    log_p = logits.log_softmax(-1).index_select(-1, target)  # an index on the device: nothing waits for it
    return Transmission(torch.stack(nats), -log_p.mean(), log_p.detach().exp().mean())


def gated_block(
    block: Block,
    hidden: Float[Tensor, "copies tokens hidden"],
    attends: Tensor | None,
    alpha: Float[Tensor, "tokens tokens"],
    mean: Float[Tensor, " hidden"],
    std: Float[Tensor, " hidden"],
    drawn: Float[Tensor, "copies tokens hidden"],
) -> tuple[Float[Tensor, "copies tokens hidden"], Float[Tensor, "copies tokens tokens"]]:
    """The block's output with every attention edge gated, and the nats that each edge transmits."""
    probabilities = block.attention_probabilities(hidden, attends)
    values = block.heads(block.value(hidden)).float()
    keep, shut = torch.sigmoid(alpha), torch.sigmoid(-alpha)
    passed = ((keep * probabilities) @ values).transpose(1, 2).flatten(2)
    noisy = shut.sum(-1, keepdim=True) * mean + shut.square().sum(-1, keepdim=True).sqrt() * std * drawn
    squares = standardised_squares(
        probabilities, values, block.heads(mean[None, None]), block.heads(std[None, None])
    )
    features = hidden.shape[-1]
    fixed = shut.square() - 1 - 2 * torch.nn.functional.logsigmoid(-alpha)
    nats = 0.5 * (keep.square() * squares + features * fixed)
    return block.after_attention(passed + noisy, hidden), nats


def standardised_squares(
    probabilities: Float[Tensor, "copies heads tokens tokens"],
    values: Float[Tensor, "copies heads tokens head"],
    mean: Float[Tensor, "1 heads 1 head"],
    std: Float[Tensor, "1 heads 1 head"],
) -> Float[Tensor, "copies tokens tokens"]:
    """Σ over heads and features of ((A_ij v_j − mean)/std)², by its binomial: no n² vectors are made."""
    scaled, offset = values / std, mean / std
    square = scaled.square().sum(-1)[:, :, None]
    cross = (scaled * offset).sum(-1)[:, :, None]
    constant = offset.square().sum(-1)[..., None]
    return (probabilities.square() * square - 2 * probabilities * cross + constant).sum(1).clamp_min(0)


def message_statistics(classifier: Classifier, data: FitData, n_instances: int) -> State:
    """Mean and standard deviation of every layer's messages over all edges of the first training instances.

    Padding takes no part; accumulated in float64, so the result does not depend on batching.
    """
    rows = list(data.train[:n_instances])

    def sums(group: list[int]) -> tuple[Tensor, int]:
        batch = classifier.batch([rows[i] for i in group])
        queries = batch.attention_mask[:, None, :, None]
        moments = []
        for layer in layer_attentions(classifier, batch):
            probabilities = (layer.probabilities * queries).double()
            values = layer.block.heads(layer.block.value(layer.hidden)).double()
            first = (probabilities.sum(2)[..., None] * values).sum((0, 2))
            second = (probabilities.square().sum(2)[..., None] * values.square()).sum((0, 2))
            moments.append(torch.stack([first.flatten(), second.flatten()]))
        return torch.stack(moments), int(batch.attention_mask.sum(1).square().sum())

    mean, std, _ = pooled(rows, classifier, sums, 1e-6)
    return {
        "message_mean": mean.float().cpu(),
        "message_std": std.float().cpu(),
        "n_statistics_instances": torch.tensor(len(rows)),
    }
