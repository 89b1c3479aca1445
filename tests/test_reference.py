"""The straightforward reference and the pipeline give the same numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from baselines.integrated_gradients import IntegratedGradients
from baselines.lime_released import LimeReleased
from baselines.lime_tokens import LimeTokens
from iba.attribution import InformationBottleneck
from iba.attributor import Attributor, FitData
from iba.benchmark.null import NullReference, NullRunner
from iba.benchmark.operations import Attribute, Degrade
from iba.benchmark.reference import ReferenceModel
from iba.bottleneck import noise_bank
from iba.data.examples import Example
from iba.data.tokens import Instance, tokenise
from iba.models.classifier import Classifier
from iba.models.tiny import tiny_bert, tiny_tokenizer

TEXTS = (
    ("the meeting was wonderful", None),
    ("anna has a red bicycle", "the bicycle of anna is blue"),
    ("ben walked from the station to the market on monday and it felt awful to clara", None),
)


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(5)
    tokenizer = tiny_tokenizer()
    return Classifier(tiny_bert(len(tokenizer), ["no", "yes"]), tokenizer)


@pytest.fixture(scope="module")
def instances(classifier: Classifier) -> list[Instance]:
    return [
        tokenise([Example(str(row), text, pair, (1, 0, 1)[row])], classifier.tokenizer, 64)[0]
        for row, (text, pair) in enumerate(TEXTS)
    ]


@pytest.fixture(scope="module")
def plain(classifier: Classifier) -> ReferenceModel:
    return ReferenceModel(classifier)


def attribute(method: Attributor, classifier: Classifier, instances: list[Instance]) -> Attribute:
    return Attribute("tried", method, method.fit(classifier, FitData(instances)))


METHODS: dict[str, Attributor] = {
    "iba_features": InformationBottleneck(0.5, beta=2.0, noise="features", n_steps=4, n_copies=3, seed=1),
    "iba_layer_input": InformationBottleneck(3, beta=1e-5, noise="layer_input", n_steps=4, n_copies=3),
    "iba_last_layer": InformationBottleneck(4, beta=1.0, n_steps=3, n_copies=2),
    "lime": LimeTokens(n_samples=40, seed=2),
    "lime_released": LimeReleased("yes", pad_to=48, n_samples=40, n_samples_pair=30),
    "ig": IntegratedGradients(n_steps=6),
}


@pytest.mark.parametrize("name", METHODS)
def test_scores_equal_those_of_the_reference(
    name: str, classifier: Classifier, plain: ReferenceModel, instances: list[Instance]
) -> None:
    operation = attribute(METHODS[name], classifier, instances)
    ours = operation.ours(classifier, instances)
    for scores, instance in zip(ours, instances, strict=True):
        theirs = operation.theirs(plain, instance)
        assert np.abs(theirs).max() > 0
        np.testing.assert_allclose(scores, theirs, rtol=2e-3, atol=1e-5 * np.abs(theirs).max() + 1e-7)


#: Repeated words, marks between words, other spaces, and a pair.
WORDY = (
    ("A film, a film! The film's (very) best; don't  miss\tit...\nFilm of the year: 9.5/10 A a", None),
    ("It was awful. It was wonderful.", "It was\u00a0neither; caf\u00e9 [SEP] x"),
    ("one", None),
)


@pytest.mark.parametrize("cut", [64, 12, 5], ids="cut at {}".format)
@pytest.mark.parametrize("text", range(len(WORDY)))
@pytest.mark.parametrize(
    "method", [LimeTokens(), LimeReleased("yes", pad_to=64)], ids=lambda m: type(m).__name__
)
def test_lime_is_the_packages_own_to_the_last_digit(method: Attributor, text: int, cut: int) -> None:
    """With a model whose answers do not depend on what else is in the batch."""
    tokenizer = tiny_tokenizer()
    classifier = Classifier(tiny_bert(len(tokenizer), ["no", "yes"]), tokenizer)
    classifier.runner = NullRunner(2)
    if isinstance(method, LimeReleased):
        method.max_length = cut
    instances = tokenise([Example("test:0", *WORDY[text], 1)], tokenizer, cut)
    operation = Attribute("lime", method, {})
    (ours,), theirs = (
        operation.ours(classifier, instances),
        operation.theirs(NullReference(classifier), instances[0]),
    )
    assert np.abs(theirs).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)


def test_degradation_equals_the_reference(
    classifier: Classifier, plain: ReferenceModel, instances: list[Instance]
) -> None:
    operation = Degrade(np.linspace(0, 1, 10).tolist())
    ours = operation.ours(classifier, instances)
    for curve, instance in zip(ours, instances, strict=True):
        np.testing.assert_allclose(curve, operation.theirs(plain, instance), atol=1e-6)


def test_reference_runs_backward_through_every_weight(
    classifier: Classifier, plain: ReferenceModel, instances: list[Instance]
) -> None:
    """The reference must do the work it stands for: gradients reach the embeddings and the first layer."""
    operation = attribute(METHODS["iba_features"], classifier, instances)
    plain.model.zero_grad()
    operation.theirs(plain, instances[0])
    missing = [name for name, weight in plain.model.named_parameters() if weight.grad is None]
    assert missing == []
    assert not any(weight.requires_grad for weight in classifier.model.parameters())


def test_reference_draws_its_noise_once(
    classifier: Classifier, plain: ReferenceModel, instances: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = attribute(METHODS["iba_features"], classifier, instances)
    alone = [operation.theirs(plain, instance) for instance in instances]
    noise_bank.cache_clear()
    first = operation.theirs(plain, instances[0])
    monkeypatch.setattr(torch, "randn", lambda *_, **__: pytest.fail("noise was drawn again"))
    for instance, scores in zip(instances[1:], alone[1:], strict=True):
        assert np.array_equal(operation.theirs(plain, instance), scores)
    assert np.array_equal(first, alone[0])


def test_reference_leaves_no_hook(
    classifier: Classifier, plain: ReferenceModel, instances: list[Instance]
) -> None:
    operation = attribute(METHODS["iba_features"], classifier, instances)
    layer = plain.layer(2)
    before = len(layer._forward_hooks)
    operation.theirs(plain, instances[0])
    assert len(layer._forward_hooks) == before


def test_reference_lime_pads_every_text(
    plain: ReferenceModel, instances: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    forward = plain.model.forward

    def watched(**inputs: Any) -> Any:
        seen.append(tuple(inputs["input_ids"].shape))
        return forward(**inputs)

    monkeypatch.setattr(plain.model, "forward", watched)
    Attribute("lime", LimeTokens(n_samples=7), {}).theirs(plain, instances[0])
    assert seen == [(7, 512)]
