"""What a GPU would refuse or wait for, tried without one (see pretended.py).

The GPU may be waited for before and after a batch, but not inside its loops: how often must not hang on the
number of texts, steps, samples or training steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from architectures import all_methods
from pretended import GPU, Gpu, pretended_gpu
from torch import Tensor

from iba.attributor import Attribution, Attributor, FitData, Unfitted, attribute_grouped
from iba.benchmark.operations import Degrade
from iba.data.tokens import Instance
from iba.models.classifier import Classifier

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real one: test_devices.py")

_FEW = {
    "n_steps": 2,
    "n_copies": 1,
    "n_samples": 5,
    "n_training_steps": 1,
    "n_statistics": 2,
    "beta_grid": [0.1],
}
_MORE = _FEW | {"n_steps": 3, "n_copies": 2, "n_samples": 8, "n_training_steps": 2, "n_statistics": 3}
#: A pass holds a quarter of the steps: there are four passes of both.
_STEPS = {"IG": ({"n_steps": 4}, {"n_steps": 8}), "AttAttr": ({"n_steps": 4}, {"n_steps": 8})}


@cache
def _methods(protocol: str, sizes: str = "{}") -> dict[str, Attributor]:
    return all_methods(protocol, json.loads(sizes))


#: Under `released`, those that differ.
ALL = [("corrected", label) for label in _methods("corrected")]
ALL += [("released", label) for label in ("IBA", "IG", "LIME", "Norm of X")]
#: Captum's and lime's own explainers take one text at a time.
ONE_A_TEXT = [("corrected", "Kernel SHAP"), ("released", "LIME")]


@pytest.fixture
def classifier(classifier: Classifier) -> Classifier:
    """Of the labels that the released code's classes have in the planted sets."""
    classifier.model.config.id2label = {0: "negative", 1: "positive", 2: "neither"}
    return Classifier(classifier.model, classifier.tokenizer)


def sized(protocol: str, label: str) -> list[Attributor]:
    """The method with few steps, samples and the like, and with more."""
    steps = _STEPS.get(label, ({}, {}))
    sizes = [json.dumps(usual | own) for usual, own in zip((_FEW, _MORE), steps, strict=True)]
    return [_methods(protocol, each)[label] for each in sizes]


def moved(classifier: Classifier) -> Classifier:
    """The same on the pretended GPU."""
    return Classifier(deepcopy(classifier.model), classifier.tokenizer, GPU)


def scores(method: Attributor, classifier: Classifier, rows: Sequence[Instance]) -> list[Tensor]:
    targets = [r.example.label for r in rows]
    found: list[Any] = [None] * len(rows)
    for group, said in attribute_grouped(method, classifier, rows, targets):
        for row, i in enumerate(group):
            found[i] = said.scores[row, : len(rows[i])]
    return found


def waits_of(gpu: Gpu, work: Callable[[], object]) -> int:
    gpu.waits.clear()
    work()
    return gpu.waits.total()


def waits(gpu: Gpu, method: Attributor, there: Classifier, rows: list[Instance]) -> tuple[int, int]:
    """While it learns, and while it attributes what it has met before."""
    learning = waits_of(gpu, lambda: method.restore(method.fit(there, FitData(rows))))
    scores(method, there, rows)  # noise is drawn once
    return learning, waits_of(gpu, lambda: scores(method, there, rows))


@pytest.mark.parametrize(("protocol", "label"), ALL)
def test_a_method_gives_the_cpus_scores_and_waits_outside_of_its_loops(
    protocol: str, label: str, classifier: Classifier, instances: list[Instance], monkeypatch: Any
) -> None:
    monkeypatch.setattr("iba.devices._COPIES_ALONGSIDE", GPU.type)
    few, more = sized(protocol, label)
    few.restore(few.fit(classifier, FitData(instances[:2])))
    expected = scores(few, classifier, instances[:2])
    with pretended_gpu() as gpu:
        there = moved(classifier)
        fewer = waits(gpu, few, there, instances[:2])
        found = scores(few, there, instances[:2])
        grown = np.subtract(waits(gpu, more, there, instances[:4]), fewer)
    for there_scores, here_scores in zip(found, expected, strict=True):
        size = float(here_scores.abs().max())
        torch.testing.assert_close(there_scores, here_scores, rtol=1e-3, atol=1e-5 * size)
    assert grown.tolist() == [0, 2 if (protocol, label) in ONE_A_TEXT else 0], gpu.waits


def test_the_degradation_test_waits_once(
    classifier: Classifier, instances: list[Instance], monkeypatch: Any
) -> None:
    monkeypatch.setattr("iba.devices._COPIES_ALONGSIDE", GPU.type)
    steps = np.linspace(0, 1, 10).tolist()
    expected = Degrade(steps).ours(classifier, instances)
    with pretended_gpu() as gpu:
        there = moved(classifier)
        there.token_budget = 64  # several groups
        assert waits_of(gpu, lambda: Degrade(steps[:2]).ours(there, instances[:1])) == 1
        assert waits_of(gpu, lambda: Degrade(steps).ours(there, instances)) == 1
        np.testing.assert_allclose(
            np.concatenate(Degrade(steps).ours(there, instances)), np.concatenate(expected), atol=1e-5
        )


class Faulty(Unfitted):
    """Adds up hidden states in a loop over texts, with one `fault`."""

    def __init__(self, fault: Callable[[Tensor], object] = lambda states: None) -> None:
        self.fault = fault

    def attribute(self, classifier: Classifier, batch: Any, target: Tensor) -> Attribution:
        """As of any method."""
        states = classifier.hidden_states(batch, [1])[1]
        for row in range(len(batch)):
            self.fault(states[row])
        return Attribution(states.sum(-1))


@pytest.mark.parametrize(
    "fault",
    [
        lambda states: states.sum().item(),
        lambda states: states.sum() > 0 or None,
        lambda states: states[0].tolist(),
        lambda states: states.cpu(),
        lambda states: states.nonzero(),
        lambda states: states[states > 0],
        lambda states: states.new_zeros(states.shape[0]).copy_(torch.zeros(states.shape[0])),
        lambda states: torch.tensor([1.0], device=states.device),
        lambda states: torch.zeros(3).to(states.device, non_blocking=True),
    ],
)
def test_a_planted_wait_is_found(
    fault: Callable[[Tensor], object], classifier: Classifier, instances: list[Instance]
) -> None:
    with pretended_gpu() as gpu:
        there = moved(classifier)
        counted = [
            waits_of(gpu, lambda method=method, n=n: scores(method, there, instances[:n]))
            for method in (Faulty(), Faulty(fault))
            for n in (1, 3)
        ]
    assert counted[1] == counted[0] < counted[2] < counted[3]


@pytest.mark.parametrize(
    "fault",
    [
        lambda states: states + torch.zeros(states.shape[-1]),
        lambda states: torch.cat([states, torch.zeros_like(states, device="cpu")]),
        lambda states: states @ torch.zeros(states.shape[-1], 2),
        lambda states: states.sum().numpy(),
    ],
)
def test_a_planted_operand_of_another_device_is_refused(
    fault: Callable[[Tensor], object], classifier: Classifier, instances: list[Instance]
) -> None:
    with pretended_gpu(), pytest.raises((RuntimeError, TypeError)):
        scores(Faulty(fault), moved(classifier), instances[:1])
