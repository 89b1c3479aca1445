"""Work on many texts: in groups of like length that fit in memory, side by side on a CPU.

A processor's cores are better used by a group each than all by one group at a time, as torch does by
itself: what is too small to share, and what Python does in between, no longer leaves the others idle.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextvars import copy_context
from functools import cache
from itertools import chain
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController

from iba.data.tokens import buckets
from iba.models.frozen import onednn_products

Found = TypeVar("Found")
GroupWork = Callable[[list[int]], Found]

#: More threads than this spend their time waiting for Python's lock.
_MOST_WORKERS = 4


def usable_workers(device: torch.device) -> int:
    """How many groups to work on at a time: on a CPU as many as share torch's threads without a rest.

    A GPU shares itself out.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return max(n for n in range(1, _MOST_WORKERS + 1) if threads % n == 0)


def grouped(
    lengths: Sequence[int],
    token_budget: int,
    work: GroupWork[Found],
    workers: int = 1,
    fitting: dict[int, int] | None = None,
) -> Iterator[tuple[list[int], Found]]:
    """What `work` makes of groups of positions of like length, with the group, longest first.

    All groups under way at a time hold, padded, `token_budget` tokens together. `work` must bear being
    called by several threads if `workers` > 1; what is done with its results happens in the caller's.
    A group that does not fit in a GPU's memory is not tried again: all that is left is grouped anew under
    half of what it held; what was done before is kept. `fitting` remembers the budget, by `token_budget`,
    for later calls. A single position that does not fit raises torch.cuda.OutOfMemoryError.
    """
    if workers > 1 and len(groups := list(buckets(lengths, token_budget // workers))) > 1:
        yield from _side_by_side(groups, work, workers)
    else:
        yield from _one_by_one(lengths, token_budget, work, {} if fitting is None else fitting)


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()  # looking for them takes milliseconds


def single_blas() -> AbstractContextManager[Any]:
    """Within, NumPy's linear algebra uses one thread: of small matrices, several wait for one another."""
    limit: AbstractContextManager[Any] = _libraries().limit(limits=1, user_api="blas")
    return limit


def _side_by_side(
    groups: Sequence[list[int]], work: GroupWork[Found], workers: int
) -> Iterator[tuple[list[int], Found]]:
    def steady(group: list[int]) -> Found:
        with onednn_products():  # else a group's rounding would depend on what its neighbours just do
            return work(group)

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(
        workers, initializer=torch.set_num_threads, initargs=(max(1, threads // workers),)
    )
    try:
        found = [pool.submit(copy_context().run, steady, group) for group in groups]
        for group, future in zip(groups, found, strict=True):
            yield group, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # of some libraries the count is the whole process's


def _one_by_one(
    lengths: Sequence[int], token_budget: int, work: GroupWork[Found], fitting: dict[int, int]
) -> Iterator[tuple[list[int], Found]]:
    groups = deque(buckets(lengths, fitting.get(token_budget, token_budget)))
    while groups:
        group = groups[0]
        try:
            found = work(group)
        except torch.cuda.OutOfMemoryError:
            if len(group) == 1:
                raise
        else:
            yield groups.popleft(), found
            continue
        # Not within `except`: the error still holds what the failed work had allocated.
        torch.cuda.empty_cache()
        fitting[token_budget] = len(group) * lengths[group[0]] // 2
        left = sorted(chain.from_iterable(groups))
        again = buckets([lengths[i] for i in left], fitting[token_budget])
        groups = deque([left[i] for i in positions] for positions in again)
