"""Seconds, peak memory, floating-point operations, and what this machine can do at most."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from iba.models.frozen import FrozenLinear, Products
from iba.store import peak_memory_mb

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock seconds of one call of `work`."""
    synchronise(device)
    started = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - started


def cpu_seconds(work: Callable[[], Any], calls: int) -> float:
    """CPU seconds of this process, all its threads together, in one call of `work`: the least of `calls`."""

    def once() -> float:
        started = time.process_time()
        work()
        return time.process_time() - started

    return min(once() for _ in range(calls))


def peak_memory(work: Callable[[], Any], device: torch.device) -> float:
    """Peak memory of one call, MB: allocated on a GPU; on a CPU what the process holds at its highest.

    The CPU's mark is set back before the call where the system allows it (Linux); elsewhere it is the
    highest of the whole process so far.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif _CLEAR.exists():
        _CLEAR.write_text("5")
    work()
    synchronise(device)
    if device.type == "cuda" or not _STATUS.exists():
        return peak_memory_mb(device)
    line = next(row for row in _STATUS.read_text().splitlines() if row.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def flops(work: Callable[[], Any]) -> int:
    """Floating-point operations of one call, counted from the shapes of its matrix products and attention."""
    counter = FlopCounterMode(display=False, custom_mapping=_cpu_kernels())
    with one_thread(), counter:  # no other thread may work: the counter would not see it
        work()
    return int(counter.get_total_flops())


@contextmanager
def one_thread() -> Iterator[None]:
    """torch works on one thread meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def matmul_peak(device: torch.device, precision: str, size: int, repeats: int = 5) -> float:
    """Floating-point operations a second of a product of two square matrices, the best of `repeats`.

    By torch's own product and by ours, whichever is faster.
    """
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a = torch.randn(size, size, device=device, dtype=kind)
    layer = nn.Linear(size, size, device=device, dtype=kind).requires_grad_(False)
    frozen = FrozenLinear(layer, Products())
    work: list[Callable[[], Any]] = [lambda: torch.mm(a, layer.weight), lambda: frozen(a)]
    best = min(seconds(product, device) for product in work for _ in range(repeats + 1))
    return 2 * size**3 / best


def _cpu_kernels() -> dict[Any, Any]:
    """What torch does not count on a CPU: oneDNN's linear map, and its own fused attention, as a GPU's."""
    aten, fused = torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu"
    return {
        getattr(aten, fused): lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
        getattr(aten, f"{fused}_backward"): lambda g, q, k, v, *_, **__: sdpa_backward_flop_count(g, q, k, v),
        torch.ops.mkldnn._linear_pointwise: lambda x, weight, *_, **__: 2 * math.prod(x) * weight[0],
    }
