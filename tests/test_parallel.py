"""Groups that fit in memory, one by one and side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from baselines.integrated_gradients import IntegratedGradients
from baselines.lime_tokens import ridge
from baselines.occlusion import Occlusion
from iba.attribution import InformationBottleneck
from iba.attributor import Attributor, FitData
from iba.benchmark.operations import Attribute
from iba.data.tokens import Instance, buckets
from iba.models import frozen
from iba.models.classifier import Classifier
from iba.models.frozen import exact_forward, onednn_products
from iba.models.parallel import grouped, single_blas, usable_workers
from iba.models.postnorm import PostNorm

CPU = torch.device("cpu")


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


class Memory:
    """Room for `room` members at once; asking for more runs out of memory."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.asked: list[list[int]] = []

    def work(self, group: list[int]) -> list[int]:
        self.asked.append(group)
        if len(group) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (simulated)")
        return [10 * position for position in group]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 8))
def test_out_of_memory_halves_the_group_and_loses_nothing(lengths: list[int], room: int) -> None:
    found = [
        pair for group, of in grouped(lengths, 500, Memory(room).work) for pair in zip(group, of, strict=True)
    ]
    assert sorted(found) == [(i, 10 * i) for i in range(len(lengths))], "every position once"


def test_after_running_out_of_memory_what_is_left_is_grouped_under_half_the_budget() -> None:
    """Finished groups are not repeated, and later calls begin with what fitted."""
    memory, fitting = Memory(3), {}
    lengths = [9, 9, *[7] * 10]
    found = [group for group, _ in grouped(lengths, 100, memory.work, 1, fitting)]
    # Ten texts of 7 tokens do not fit, nor do five under half of what those held; then 17 tokens are two.
    pairs = [[i, i + 1] for i in range(2, 12, 2)]
    assert memory.asked == [[0, 1], list(range(2, 12)), [2, 3, 4, 5, 6], *pairs]
    assert found == [[0, 1], *pairs]
    assert fitting == {100: 17}
    memory.asked.clear()
    again = [group for group, _ in grouped(lengths, 100, memory.work, 1, fitting)]
    assert memory.asked == again == [[0], [1], *pairs], "nothing is tried in vain"
    list(grouped(lengths, 40, memory.work, 1, fitting))
    assert fitting == {100: 17, 40: 17}, "another budget is tried by itself"


@pytest.mark.parametrize("method", [InformationBottleneck(2, beta=0.1, n_steps=3, n_copies=2), Occlusion()])
def test_running_out_of_memory_changes_no_score(
    method: Attributor, classifier: Classifier, instances: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass of more than 60 tokens does not fit; every kind of work finds that out once."""
    operation = Attribute("tried", method, method.fit(classifier, FitData(instances)))
    expected = operation.ours(classifier, instances)
    logits_from, failed = PostNorm.logits_from, []

    def cramped(self: PostNorm, hidden: torch.Tensor, *others: Any) -> torch.Tensor:
        if hidden.shape[:2].numel() > 60:
            failed.append(hidden.shape)
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (simulated)")
        return logits_from(self, hidden, *others)

    monkeypatch.setattr(PostNorm, "logits_from", cramped)
    for again in (False, True):
        failed.clear()
        for one, other in zip(expected, operation.ours(classifier, instances), strict=True):
            np.testing.assert_allclose(other, one, rtol=1e-3, atol=1e-5 * np.abs(one).max())
        assert bool(failed) != again


def test_out_of_memory_with_one_member_is_raised_after_the_rest_was_kept() -> None:
    def work(group: list[int]) -> None:
        if 2 in group:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (simulated)")

    done: list[int] = []
    with pytest.raises(torch.cuda.OutOfMemoryError):
        done.extend(position for group, _ in grouped([5, 5, 5, 5], 20, work) for position in group)
    assert done == [0, 1]


@pytest.mark.parametrize("workers", [1, 2])
def test_other_errors_are_not_swallowed(workers: int) -> None:
    def work(group: list[int]) -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(grouped([10, 10, 10], 20, work, workers))


@given(st.lists(st.integers(1, 50), min_size=2, max_size=40), st.integers(2, 4))
def test_side_by_side_shares_the_budget_and_keeps_the_order(lengths: list[int], workers: int) -> None:
    found = list(grouped(lengths, 400, lambda group: [lengths[i] for i in group], workers))
    assert all(of == [lengths[i] for i in group] for group, of in found)
    assert [group for group, _ in found] == list(buckets(lengths, 400 // workers))


@pytest.mark.usefixtures("three_threads")
def test_groups_are_under_way_at_the_same_time_each_with_its_share_of_threads() -> None:
    together = threading.Barrier(3, timeout=30)

    def work(group: list[int]) -> int:
        together.wait()  # passed only if three groups are under way
        return torch.get_num_threads()

    assert [threads for _, threads in grouped([9] * 3, 9, work, usable_workers(CPU))] == [1, 1, 1]
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_after_an_error_nothing_more_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    met = threading.Event()

    def work(group: list[int]) -> None:
        begun.extend(group)
        if group == [0]:
            raise ValueError("broken")
        met.wait(60)  # whoever is at work meanwhile goes on once the error has been met

    groups = grouped([1] * 2000, 1, work, 2)
    closing = ThreadPoolExecutor.shutdown

    def shutdown(pool: ThreadPoolExecutor, **how: bool) -> None:
        closing(pool, wait=False, **how)
        met.set()
        closing(pool)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shutdown)
    with pytest.raises(ValueError, match="broken"):
        list(groups)
    assert len(begun) <= 3
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize(("threads", "workers"), [(1, 1), (2, 2), (4, 4), (5, 1), (6, 3), (8, 4), (10, 2)])
def test_workers_leave_no_thread_idle(threads: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert usable_workers(CPU) == workers
    assert usable_workers(torch.device("cuda")) == 1


def test_one_worker_on_one_thread_and_on_a_gpu() -> None:
    assert usable_workers(CPU) == torch.get_num_threads() == 1
    assert usable_workers(torch.device("cuda")) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "method",
    [InformationBottleneck(2, beta=0.1, n_steps=3, n_copies=2), IntegratedGradients(n_steps=4), Occlusion()],
    ids=["iba", "ig", "occlusion"],
)
def test_workers_change_no_score(
    method: Attributor,
    precision: str,
    classifier: Classifier,
    instances: list[Instance],
    request: pytest.FixtureRequest,
) -> None:
    """Also where a method asks for float32: on its own thread, and on those that work for it."""
    classifier.precision, classifier.token_budget = precision, 40
    operation = Attribute("tried", method, method.fit(classifier, FitData(instances)))
    many = instances * 4
    alone = operation.ours(classifier, many)
    request.getfixturevalue("three_threads")
    # The gradient of a group is rounded with the group, in bfloat16 visibly.
    share = 0.01 if precision == "bf16" and isinstance(method, IntegratedGradients) else 1e-5
    for one, other in zip(alone, operation.ours(classifier, many), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-3, atol=share * np.abs(one).max())


def test_float32_is_asked_for_by_each_thread() -> None:
    products = frozen.Products(torch.bfloat16, torch.bfloat16)
    seen = []
    with exact_forward():
        other = threading.Thread(target=lambda: seen.append(products.forward_now))
        other.start()
        other.join()
        assert products.forward_now is None
    assert seen == [torch.bfloat16] == [products.forward_now]


def test_torchs_setting_stays_until_the_last_thread_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    class Setting:
        fp32_precision = "ieee"

    monkeypatch.setattr(frozen, "_ONEDNN", frozen._Precision(Setting, "bf16"))
    monkeypatch.setattr(torch.cpu, "_is_avx512_supported", lambda: True, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    first, second = onednn_products(), onednn_products()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert Setting.fp32_precision == "bf16"
    second.__exit__(None, None, None)
    assert Setting.fp32_precision == "ieee"


def blas_threads() -> set[int]:
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_small_systems_are_solved_by_one_thread_and_then_all_may_work_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    during: list[set[int]] = []
    solve = np.linalg.solve

    def noted(*given: Any) -> Any:
        during.append(blas_threads())
        return solve(*given)

    monkeypatch.setattr(np.linalg, "solve", noted)
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("this NumPy has no threads")
        ridge(np.eye(3, dtype=bool), np.arange(3.0), np.ones(3))
        with pytest.raises(ZeroDivisionError), single_blas():
            raise ZeroDivisionError
        assert blas_threads() == {2}
    assert during == [{1}]
