"""Methods that remove tokens, on models whose answers can be worked out by hand."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from torch import Tensor
from toys import ToyClassifier, instance

from baselines.kernel_shap import KernelShap, shapley_values
from baselines.occlusion import Occlusion
from baselines.presence import pools, target_probability
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


def test_occlusion_is_captums() -> None:
    def answer(ids: Sequence[int], segments: Sequence[int]) -> float:
        return 0.1 + 0.8 * (hash(tuple(ids)) % 1000) / 1000

    toy = ToyClassifier(answer)
    rows = [instance([CLS, *range(10, 10 + n), SEP], [True, *[False] * n, True]) for n in (5, 1, 9)]
    found = Occlusion().attribute(toy, toy.batch(rows), torch.tensor([1, 0, 1])).scores
    for row, target, ours in zip(rows, (1, 0, 1), found, strict=True):
        n = len(row) - 2
        theirs = CaptumOcclusion(target_probability(toy, row, target)).attribute(
            torch.ones(1, n), sliding_window_shapes=(1,), perturbations_per_eval=n
        )
        torch.testing.assert_close(ours[1 : n + 1], theirs[0].float())


def test_variants_of_many_texts_run_together() -> None:
    toy = ToyClassifier(linear, token_budget=1000)
    rows = [instance([CLS, *range(10, 14), SEP], [True, *[False] * 4, True]) for _ in range(3)]
    Occlusion().attribute(toy, toy.batch(rows), torch.tensor([1, 0, 1]))
    assert toy.passes == [15]


def test_variants_are_held_for_so_many_tokens_at_a_time() -> None:
    rows = [instance([CLS, *[9] * n, SEP], [True, *[False] * n, True]) for n in (8, 6, 4, 2, 1)]
    asked = [(row, np.ones((3, len(row) - 2), dtype=bool)) for row in rows]
    assert [[len(row) for row, _ in pool] for pool in pools(iter(asked), 42)] == [[10], [8, 6], [4, 3]]
    assert [len(pool) for pool in pools(asked, 1)] == [1] * 5
    assert list(pools([], 1)) == []


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
