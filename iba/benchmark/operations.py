"""The operations that are timed: each once by the reference and once by ours, on the same instances.

The class that is explained is an instance's label, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from baselines.integrated_gradients import IntegratedGradients
from baselines.lime_tokens import LimeTokens
from iba.attribution import InformationBottleneck
from iba.attributor import Attributed, Attributor, State, attribute_rows
from iba.benchmark import reference
from iba.benchmark.reference import ReferenceModel
from iba.data.tokens import Instance
from iba.errors import UserError
from iba.evaluation.degradation import Ranked, curve
from iba.evaluation.ranking import removal_order
from iba.models.classifier import Classifier

Scores = list[np.ndarray]


@dataclass(frozen=True)
class Attribute:
    """An attribution method with what it learned; scores are one vector (tokens,) per instance."""

    name: str
    method: Attributor
    state: State

    def attributed(self, classifier: Classifier, instances: Sequence[Instance]) -> list[Attributed]:
        """The pipeline's way: groups of like length under the token budget."""
        self.method.restore(self.state)
        return attribute_rows(self.method, classifier, instances)

    def ours(self, classifier: Classifier, instances: Sequence[Instance]) -> Scores:
        """The pipeline's scores."""
        return [found.scores.numpy() for found in self.attributed(classifier, instances)]

    def theirs(self, plain: ReferenceModel, instance: Instance) -> np.ndarray:
        """The reference's scores of one instance."""
        target = instance.example.label
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

    def ours(self, classifier: Classifier, instances: Sequence[Instance]) -> Scores:
        """All fractions of all instances, grouped by length."""
        ranked = [self._ranked(instance) for instance in instances]
        return [
            np.array([p for _, p in points]) for points in curve(classifier, ranked, self.fractions, "delete")
        ]

    def theirs(self, plain: ReferenceModel, instance: Instance) -> np.ndarray:
        """The reference's curve of one instance."""
        return reference.degradation(plain, self._ranked(instance), self.fractions)

    def _ranked(self, instance: Instance) -> Ranked:
        scores = np.random.default_rng(len(instance)).random(len(instance))
        removal = removal_order(scores.tolist(), instance.special, "most")
        return Ranked(instance.input_ids, instance.token_type_ids, removal, instance.example.label)


Operation = Attribute | Degrade
