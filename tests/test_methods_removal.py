"""Methods that remove tokens, on models whose answers can be worked out by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from toys import ToyClassifier, instance

from baselines.kernel_shap import KernelShap, shapley_values
from baselines.occlusion import Occlusion
from iba.attributor import Attributor

WEIGHTS = {10: 0.2, 11: -0.1, 12: 0.05, 13: 0.15}
CLS, SEP = 2, 3


def linear(ids: Sequence[int], segments: Sequence[int]) -> float:
    assert ids[0] == CLS
    assert ids[-1] == SEP
    return 0.4 + sum(WEIGHTS.get(i, 0.0) for i in ids)


@pytest.mark.parametrize("method", [Occlusion(), KernelShap(n_samples=30)], ids=["occlusion", "kernel_shap"])
def test_a_linear_model_is_recovered(method: Attributor) -> None:
    toy = ToyClassifier(linear)
    row = instance([CLS, 10, 11, 14, 12, 13, SEP], [True, *[False] * 5, True])
    for target, sign in ((1, 1), (0, -1)):
        scores = method.attribute(toy, toy.batch([row]), torch.tensor([target])).scores[0]
        expected = sign * torch.tensor([0, 0.2, -0.1, 0, 0.05, 0.15, 0])
        torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-4)


def test_occlusion_of_a_conjunction_and_its_cost() -> None:
    toy = ToyClassifier(lambda ids, _: 0.9 if {10, 11} <= set(ids) else 0.2)
    row = instance([CLS, 10, 14, 11, SEP], [True, *[False] * 3, True])
    scores = Occlusion().attribute(toy, toy.batch([row]), torch.tensor([1])).scores[0]
    torch.testing.assert_close(scores, torch.tensor([0, 0.7, 0, 0.7, 0]), rtol=1e-4, atol=1e-5)
    assert len(toy.seen) == 4


def test_shapley_values_of_a_game_with_interactions() -> None:
    """All 2⁴ coalitions are seen many times over, so the estimate nears the exact values."""

    def game(presence: Tensor) -> Tensor:
        a, b, c, d = presence.T
        return a * b + 0.5 * c - d * a + 0.25

    everything = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)))
    worth = {tuple(row.tolist()): float(v) for row, v in zip(everything, game(everything), strict=True)}
    exact = torch.zeros(4)
    for order in itertools.permutations(range(4)):
        present = [0.0] * 4
        for player in order:
            before = worth[tuple(present)]
            present[player] = 1.0
            exact[player] += (worth[tuple(present)] - before) / 24
    found = shapley_values(game, 4, 3000, seed=0)
    torch.testing.assert_close(found, exact, atol=0.05, rtol=0)
    torch.testing.assert_close(
        found.sum(), game(torch.ones(1, 4))[0] - game(torch.zeros(1, 4))[0], atol=1e-3, rtol=0
    )


@pytest.mark.parametrize("method", [Occlusion(), KernelShap(n_samples=5)], ids=["occlusion", "kernel_shap"])
def test_texts_of_one_token_and_of_none(method: Attributor) -> None:
    toy = ToyClassifier(linear)
    one = instance([CLS, 10, SEP], [True, False, True])
    none = instance([CLS, SEP], [True, True])
    scores = method.attribute(toy, toy.batch([one, none]), torch.tensor([1, 1])).scores
    torch.testing.assert_close(scores, torch.tensor([[0, 0.2, 0], [0, 0, 0]]), rtol=1e-4, atol=1e-5)
