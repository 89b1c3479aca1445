"""The readout bottleneck (Schulz et al. 2020, section 3.3): a network predicts the bottleneck's gates.

The bottleneck is IBA's, T = μ ⊙ X + (1 − μ) ⊙ ε after one layer, but α is not optimised for an instance:
a small network, the same for every token (the paper's 1 × 1 convolutions), computes it from the token's
hidden states at several depths. It is trained once, on training rows and their labels, to minimise the same
loss, CE + β · mean KL, with every parameter of the classifier frozen.
Cost: one forward pass an instance; the training costs `n_training_steps` · `batch_size` forward passes, and
as many forward and backward passes through the layers above the bottleneck.
The network never sees which class is asked for: it explains what it takes for the label, not a chosen class.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from iba.attributor import Attribution, FitData, State, learned
from iba.bottleneck import Noise, kl_nats, restrict
from iba.data.tokens import Instance, TokenBatch, buckets
from iba.devices import sent
from iba.models.classifier import Classifier
from iba.noise import feature_statistics
from iba.progress import progress
from iba.settings import Count, Depths, Layer, LearningRate, NotNegative, Seed

PREFIX = "readout."


class ReadoutBottleneck:
    """IBA after `layer` with predicted gates.

    The network reads the outputs of the layers at `depths` (fractions), of `layer` and of the last layer;
    it has three linear maps with ReLU between them and starts at α = `alpha_init` for every token.
    """

    copies = 1
    needs = "hidden"
    concurrent = False

    def __init__(
        self,
        layer: Layer,
        beta: NotNegative,
        depths: Depths = (0.25, 0.5),
        n_training_steps: Count = 200,
        batch_size: Count = 16,
        learning_rate: LearningRate = 1e-3,
        alpha_init: float = 5.0,
        seed: Seed = 0,
        n_statistics: Count = 1000,
    ) -> None:
        self.layer, self.depths = layer, tuple(depths)
        self.beta = beta
        self.n_training_steps, self.batch_size = n_training_steps, batch_size
        self.learning_rate, self.alpha_init, self.seed = learning_rate, alpha_init, seed
        self.n_statistics = n_statistics
        self._state: State = {}
        self._network: nn.Sequential | None = None

    def fit(self, classifier: Classifier, data: FitData) -> State:
        """Noise statistics and the trained network."""
        layer = classifier.resolve_layer(self.layer)
        statistics = feature_statistics(classifier, data, layer, self.n_statistics)
        return statistics | self._train(classifier, data.train, noise_of(statistics, classifier))

    def restore(self, state: State) -> None:
        """Take the noise statistics and the network."""
        self._state = state
        self._network = None

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Sum of KL over features per token, nats; blind to the target.

        per_token: `bits`. per_instance: `bits_per_token`.
        """
        layer = classifier.resolve_layer(self.layer)
        states = classifier.hidden_states(batch, self._layers(classifier))
        with torch.no_grad():
            noise = noise_of(self._state, classifier)
            alpha = self._restored_network(classifier)(torch.cat(list(states.values()), -1))
            kl = kl_nats(alpha, states[layer], noise)
        scores = kl.sum(-1).masked_fill(~batch.attention_mask, 0.0)
        bits = scores / math.log(2)
        return Attribution(
            scores,
            per_token={"bits": bits},
            per_instance={"bits_per_token": bits.sum(1) / batch.attention_mask.sum(1)},
        )

    def held(self, classifier: Classifier, tokens: int) -> int:
        """A pass without gradients, and the states after every layer."""
        shapes = classifier.shapes(tokens)
        return shapes.forward + (classifier.n_layers + 1) * shapes.hidden

    def _layers(self, classifier: Classifier) -> list[int]:
        asked = [classifier.resolve_layer(depth) for depth in (*self.depths, self.layer)]
        return sorted({*asked, classifier.n_layers})

    def _new_network(self, classifier: Classifier) -> nn.Sequential:
        width, n_read = classifier.hidden_size, len(self._layers(classifier))
        # Drawn on the CPU, the same for every device; the global generator is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)
            first, second, last = (nn.Linear(n, width) for n in (n_read * width, width, width))
        nn.init.zeros_(last.weight)
        nn.init.constant_(last.bias, self.alpha_init)
        return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), last).to(classifier.device)

    def _restored_network(self, classifier: Classifier) -> nn.Sequential:
        if self._network is None:
            self._network = self._new_network(classifier)
            weights = {k.removeprefix(PREFIX): v for k, v in self._state.items() if k.startswith(PREFIX)}
            self._network.load_state_dict(weights)
        return self._network

    def _train(self, classifier: Classifier, train: Sequence[Instance], noise: Noise) -> State:
        """A network after `n_training_steps` Adam updates, its loss at the start, and the mean loss of the
        last tenth of the steps."""
        layer, layers = classifier.resolve_layer(self.layer), self._layers(classifier)
        network = self._new_network(classifier)
        optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
        generator = torch.Generator().manual_seed(self.seed)
        losses: list[Tensor] = []
        for rows in progress(self._draws(train), "train the readout", self.n_training_steps, unit="step"):
            optimiser.zero_grad(set_to_none=True)
            total: Any = 0.0
            # Drawn for all rows at once, so that it does not depend on how they are grouped.
            width = (len(rows), max(map(len, rows)), classifier.hidden_size)
            drawn = torch.randn(width, generator=generator)
            for group in buckets([len(r) for r in rows], classifier.token_budget):
                batch = classifier.batch([rows[i] for i in group])
                states = classifier.hidden_states(batch, layers)
                standard = sent(drawn[group, : batch.input_ids.shape[1]], classifier.device)
                loss = readout_loss(network, classifier, batch, states, layer, noise, standard, self.beta)
                (loss / len(rows)).backward()
                total = total + loss.detach().double() / len(rows)
            optimiser.step()
            losses.append(total)
        return _weights(network) | _ends(torch.stack(losses).cpu())

    def _draws(self, train: Sequence[Instance]) -> Iterator[list[Instance]]:
        rng = np.random.default_rng(self.seed)
        size = min(self.batch_size, len(train))
        for _ in range(self.n_training_steps):
            yield [train[i] for i in rng.choice(len(train), size, replace=False)]


def _weights(network: nn.Module) -> State:
    return {PREFIX + name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _ends(losses: Float[Tensor, " steps"]) -> State:
    tail = losses[-max(1, len(losses) // 10) :]
    return {
        "training_loss_nats_start": losses[0].float(),
        "training_loss_nats_end": tail.mean().float(),
    }


def noise_of(state: State, classifier: Classifier) -> Noise:
    """The stored per-feature statistics, on the classifier's device."""
    mean, std = learned(state, "noise_mean"), learned(state, "noise_std")
    return Noise(mean.to(classifier.device), std.to(classifier.device))


def readout_loss(
    network: nn.Module,
    classifier: Classifier,
    batch: TokenBatch,
    states: dict[int, Float[Tensor, "batch tokens hidden"]],
    layer: int,
    noise: Noise,
    standard: Float[Tensor, "batch tokens hidden"],
    beta: float,
) -> Float[Tensor, ""]:
    """CE of the labels under T plus β times the mean KL over tokens and features, summed over the batch."""
    hidden, mask = states[layer], batch.attention_mask
    alpha = network(torch.cat(list(states.values()), -1))
    restricted = restrict(alpha, hidden, noise.mean + noise.std * standard)
    labels = sent(torch.tensor([i.example.label for i in batch.instances]), hidden.device)
    logits = classifier.logits_from(restricted, batch.inputs, layer)
    cross_entropy = nn.functional.cross_entropy(logits, labels, reduction="sum")
    kl = kl_nats(alpha, hidden, noise).masked_fill(~mask[..., None], 0.0).sum((1, 2))
    return cross_entropy + beta * (kl / (mask.sum(1) * hidden.shape[-1])).sum()
