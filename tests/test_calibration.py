"""What methods learn from training rows: statistics that NumPy agrees with, and drops worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from toys import ToyClassifier, instance

from baselines.attention_write_bottleneck import AttentionWriteBottleneck
from baselines.iba_readout import ReadoutBottleneck
from baselines.kernel_shap import KernelShap
from baselines.lime_tokens import LimeTokens
from baselines.occlusion import Occlusion
from baselines.token_gate import TokenGate
from iba.attribution import InformationBottleneck
from iba.attributor import Attributed, Attributor, FitData, attribute_rows
from iba.data.tokens import Instance
from iba.errors import UserError
from iba.evaluation.degradation import first_step_drops
from iba.evaluation.ranking import FIRST_STEP
from iba.models.classifier import Classifier
from iba.noise import feature_statistics

CLS, SEP = 2, 3


def data(train: list[Instance]) -> FitData:
    return FitData(train)


def test_statistics_are_numpys_over_real_tokens(classifier: Classifier, instances: list[Instance]) -> None:
    rows = []
    for one in instances:
        with torch.no_grad():
            out = classifier.model(
                torch.tensor([one.input_ids]),
                token_type_ids=torch.tensor([one.token_type_ids]),
                output_hidden_states=True,
            )
        rows.append(out.hidden_states[3][0].double().numpy())
    tokens = np.concatenate(rows)
    found = feature_statistics(classifier, data(instances), 3, 1000)
    np.testing.assert_allclose(found["noise_mean"], tokens.mean(0), atol=1e-5)
    np.testing.assert_allclose(found["noise_std"], tokens.std(0), rtol=1e-4)
    assert found["n_statistics_tokens"] == sum(map(len, instances)) == len(tokens)
    assert found["n_statistics_instances"] == len(instances)


def test_statistics_do_not_depend_on_the_batches(classifier: Classifier, instances: list[Instance]) -> None:
    expected = feature_statistics(classifier, data(instances), 2, 1000)
    classifier.token_budget = 1
    found = feature_statistics(classifier, data(instances), 2, 1000)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_statistics_use_the_first_training_rows_alone(
    classifier: Classifier, instances: list[Instance]
) -> None:
    found = feature_statistics(classifier, data(instances), 2, 2)
    expected = feature_statistics(classifier, data(instances[:2]), 2, 1000)
    assert torch.equal(found["noise_mean"], expected["noise_mean"])
    assert found["n_statistics_instances"] == 2


def test_a_constant_feature_does_not_divide_by_zero(
    classifier: Classifier, instances: list[Instance]
) -> None:
    norm = classifier.blocks[1].output_norm
    norm.weight.data[0] = 0.0
    found = feature_statistics(classifier, data(instances), 2, 1000)
    assert found["noise_std"][0] == pytest.approx(1e-3)
    assert found["noise_mean"][0] == pytest.approx(norm.bias.data[0].item(), abs=1e-5)


def test_an_attribution_is_fetched_once_a_group_and_whole(
    classifier: Classifier, instances: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Number by number, each would be waited for: with ten numbers a row, ten times a row."""
    method = InformationBottleneck(2, beta=0.1, n_steps=1, n_copies=1)
    method.restore(method.fit(classifier, data(instances)))
    fetched: list[int] = []
    cpu = Tensor.cpu

    def watched(tensor: Tensor) -> Tensor:
        fetched.append(len(tensor))
        return cpu(tensor)

    monkeypatch.setattr(Tensor, "cpu", watched)
    found = attribute_rows(method, classifier, instances)
    assert fetched == [len(instances)] * (2 + len(found[0].numbers)), "scores, bits and the numbers"


@pytest.mark.parametrize(
    "method", [LimeTokens(n_samples=5), Occlusion(), KernelShap(n_samples=5)], ids=lambda m: type(m).__name__
)
def test_the_targets_are_read_once(method: Attributor, monkeypatch: pytest.MonkeyPatch) -> None:
    toy, rows = ToyClassifier(lambda ids, segments: len(ids) / 100), planted_rows(3, "test")
    target = torch.tensor([0, 1, 1])
    batch, expected = toy.batch(rows), method.attribute(toy, toy.batch(rows), target).scores
    iterate = Tensor.__iter__

    def watched(tensor: Tensor) -> object:
        assert tensor is not target, "read one by one"
        return iterate(tensor)

    monkeypatch.setattr(Tensor, "__iter__", watched)
    assert torch.equal(method.attribute(toy, batch, target).scores, expected)


GOOD, DULL = 20, 21


def planted_rows(n: int, name: str) -> list[Instance]:
    """One telling token among dull ones; 9 + k tokens, so that one token goes at 11 %."""
    return [
        instance(
            [CLS, *[DULL] * (5 + k % 3), GOOD, DULL, SEP],
            [True, *[False] * (7 + k % 3), True],
            name=f"{name}:{k}",
        )
        for k in range(n)
    ]


def test_drops_are_those_of_the_token_that_goes_first() -> None:
    toy = ToyClassifier(lambda ids, segments: 0.9 if GOOD in ids else 0.3, token_budget=60)
    rows = planted_rows(6, "calibration")
    for wanted, drop in ((GOOD, 0.6), (DULL, 0.0)):
        scores = [Attributed(torch.tensor([float(i == wanted) for i in r.input_ids]), {}, {}) for r in rows]
        assert first_step_drops(scores, toy, rows).tolist() == pytest.approx([drop] * 6, abs=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        InformationBottleneck(0.5, 0.1),
        TokenGate(0.5, 0.1),
        ReadoutBottleneck(0.5, 0.1),
        AttentionWriteBottleneck(0.1),
    ],
    ids=lambda method: type(method).__name__,
)
def test_without_restore_there_is_one_clear_error(
    method: Attributor, classifier: Classifier, instances: list[Instance]
) -> None:
    batch, target = classifier.batch(instances), torch.zeros(5, dtype=torch.long)
    method.restore({})
    with pytest.raises(UserError, match=r"never learned: give the method what its fit\(\) returns"):
        method.attribute(classifier, batch, target)


def test_the_first_step_is_the_papers_eleven_percent() -> None:
    assert np.linspace(0, 1, 10)[1] == pytest.approx(FIRST_STEP)
