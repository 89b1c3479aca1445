"""The operations that are timed: each once by the reference and once by ours, on the same instances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from baselines.integrated_gradients import IntegratedGradients
from baselines.lime_tokens import LimeTokens
from iba.attributor import Attributor, State
from iba.benchmark import reference
from iba.benchmark.reference import ReferenceModel
from iba.data.tokens import Instance
from iba.degradation import Ranked, curve
from iba.encoder import Classifier
from iba.errors import UserError
from iba.method import InformationBottleneck
from iba.ranking import removal_order
from iba.variants import run_grouped

Scores = list[np.ndarray]


@dataclass(frozen=True)
class Attribute:
    """An attribution method with what it learned; scores are one vector (tokens,) per instance."""

    name: str
    method: Attributor
    state: State

    def ours(self, classifier: Classifier, instances: Sequence[Instance], targets: Sequence[int]) -> Scores:
        """The pipeline's way: groups of like length under the token budget."""
        scores: Scores = [np.empty(0)] * len(instances)

        def work(group: list[int]) -> None:
            batch = classifier.batch([instances[i] for i in group])
            target = torch.tensor([targets[i] for i in group], device=classifier.device)
            found: Tensor = self.method.attribute(classifier, batch, target).scores.cpu()
            for row, i in enumerate(group):
                scores[i] = found[row, : len(instances[i])].numpy()

        self.method.restore(self.state)
        run_grouped([len(i) for i in instances], classifier.token_budget // self.method.copies, work)
        return scores

    def theirs(self, plain: ReferenceModel, instance: Instance, target: int) -> np.ndarray:
        """The reference's scores of one instance."""
        match self.method:
            case InformationBottleneck():
                return reference.iba(plain, self.method, self.state, instance, target)
            case LimeTokens(n_samples=n, seed=seed):
                return reference.lime(plain, instance, target, n, seed)
            case IntegratedGradients(n_steps=n):
                return reference.integrated_gradients(plain, instance, target, n)
        raise UserError(f"the benchmark has no reference for {self.name}; leave it out of method=[…].")


@dataclass(frozen=True)
class Degrade:
    """The degradation test at `fractions`, on random rankings; its "scores" are the probabilities there."""

    fractions: Sequence[float]
    name: str = "degradation"

    def ours(self, classifier: Classifier, instances: Sequence[Instance], targets: Sequence[int]) -> Scores:
        """All fractions of all instances, grouped by length."""
        ranked = [self._ranked(i, t) for i, t in zip(instances, targets, strict=True)]
        return [
            np.array([p for _, p in points]) for points in curve(classifier, ranked, self.fractions, "delete")
        ]

    def theirs(self, plain: ReferenceModel, instance: Instance, target: int) -> np.ndarray:
        """The reference's curve of one instance."""
        return reference.degradation(plain, self._ranked(instance, target), self.fractions)

    def _ranked(self, instance: Instance, target: int) -> Ranked:
        scores = np.random.default_rng(len(instance)).random(len(instance))
        removal = removal_order(scores.tolist(), instance.special, "most")
        return Ranked(instance.input_ids, instance.token_type_ids, removal, target)


Operation = Attribute | Degrade
