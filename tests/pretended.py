"""A GPU where there is none: tensors of the device "meta" that have values, computed by the CPU.

What a GPU refuses, operands of two devices, fails here too. What the program would have to wait for is
counted: a value read from it, a shape that hangs on values, a copy to it from memory that is not pinned.
So are the bytes that its tensors hold.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from iba.bottleneck import noise_bank

aten = torch.ops.aten
#: "cuda" needs a torch that was built for it, which a machine without a GPU seldom has.
GPU = torch.device("meta")
#: What is not known before the GPU has answered.
_READS = {
    aten._local_scalar_dense,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.bincount,
}
_INDEXES = {aten.index, aten.index_put, aten.index_put_}
_new_tensor = torch.tensor


def _each(change: Callable[[Tensor], Any], tree: Any) -> Any:
    """Operands or results with every tensor changed; torch's own way costs more than the computations."""
    if isinstance(tree, Tensor):
        return change(tree)
    if isinstance(tree, dict):
        return {name: _each(change, part) for name, part in tree.items()}
    return type(tree)(_each(change, part) for part in tree) if isinstance(tree, list | tuple) else tree


class OnGpu(Tensor):
    """A tensor that lies, it says, on the GPU; `inner` has its values."""

    inner: Tensor
    is_meta = False  # there are values

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnGpu:
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        made: OnGpu = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, **layout, dtype=inner.dtype, device=GPU
        )
        made.inner = inner
        return made

    def tolist(self) -> Any:
        """As of any tensor on a GPU; torch refuses it for a subclass."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} after the GPU was closed")


class Gpu(TorchDispatchMode):
    """The device while it is open. `waits`: for what the program waited; `held`, `peak`: bytes of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.held = self.peak = 0
        self._users: Counter[int] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands: list[Tensor] = []
        _each(operands.append, (args, kwargs))
        here = [t for t in operands if isinstance(t, OnGpu)]
        goes = bool(here) and (func.overloadpacket is not aten.copy_ or isinstance(args[0], OnGpu))
        if kwargs.get("device") is not None:
            goes = torch.device(kwargs["device"]) == GPU
            kwargs = kwargs | {"device": "cpu"}
        if here or goes:
            self._judge(func, args, kwargs, operands, goes)
        bare_args, bare_kwargs = _each(lambda t: t.inner if isinstance(t, OnGpu) else t, (args, kwargs))
        found = func(*bare_args, **bare_kwargs)
        if not goes:
            return found
        known = {id(t.inner): t for t in here}  # what was changed in place is itself
        return _each(lambda t: known.get(id(t)) if id(t) in known else self.own(t), found)

    def own(self, inner: Tensor) -> OnGpu:
        """A tensor of the GPU with these values."""
        storage = inner.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        self._users[key] += 1
        if self._users[key] == 1:
            self.held += size
            self.peak = max(self.peak, self.held)
        weakref.finalize(inner, self._let_go, key, size)
        return OnGpu(inner)

    def _let_go(self, key: int, size: int) -> None:
        self._users[key] -= 1
        if not self._users[key]:
            self.held -= size

    def _judge(self, func: Any, args: Any, kwargs: Any, operands: list[Tensor], goes: bool) -> None:
        """Refuse what a GPU refuses, and count what must be waited for."""
        packet, elsewhere = func.overloadpacket, [t for t in operands if not isinstance(t, OnGpu)]
        masks = [t for t in operands[1:] if t.dtype in (torch.bool, torch.uint8)]
        if packet in _INDEXES:
            one = packet is not aten.index and operands[-1].numel() == 1  # filled, without a shape to know
            waits = bool(elsewhere) or (bool(masks) and not one)
        elif packet in (aten._to_copy, aten.copy_):
            pinned = kwargs.get("non_blocking") and all(hasattr(t, "pinned") for t in elsewhere)
            waits = not goes or (bool(elsewhere) and not pinned)
        else:
            waits = packet in _READS
            if [t for t in elsewhere if t.dim()] and len(elsewhere) < len(operands):
                raise RuntimeError(f"{func}: Expected all tensors to be on the same device")
        if waits:
            self.waits[str(func)] += 1


class _Attention(torch.autograd.Function):
    """A GPU's fused attention: for the backward pass it keeps no map of tokens × tokens."""

    @staticmethod
    def forward(ctx: Any, gpu: Gpu, bias: Tensor | None, *operands: OnGpu) -> Tensor:
        inner = [t.inner.float() for t in operands]
        out, sums = aten._scaled_dot_product_flash_attention_for_cpu(*inner, attn_mask=bias)
        ctx.gpu, ctx.bias = gpu, bias
        ctx.save_for_backward(*operands, found := gpu.own(out.to(operands[0].dtype)), gpu.own(sums))
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        *operands, out, sums = (t.inner for t in ctx.saved_tensors)
        floats = [t.float() for t in (grads[0].inner, *operands, out)]
        back = aten._scaled_dot_product_flash_attention_for_cpu_backward(
            *floats, sums, 0.0, False, attn_mask=ctx.bias
        )
        return None, None, *(ctx.gpu.own(t.to(operands[0].dtype)) for t in back)


@contextmanager
def pretended_gpu() -> Iterator[Gpu]:
    """Within, there is a GPU; its tensors are of no use afterwards."""
    gpu = Gpu()
    noise_bank.cache_clear()

    def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, **_: Any) -> Tensor:
        for operand in (query, key, value):
            assert isinstance(operand, OnGpu)
        bias = None if attn_mask is None else attn_mask.inner
        if bias is not None and bias.dtype == torch.bool:
            bias = torch.zeros(bias.shape).masked_fill(~bias, -torch.inf)
        return _Attention.apply(gpu, bias, query, key, value)  # type: ignore[no-any-return]

    def pinned(tensor: Tensor) -> Tensor:
        copy = tensor.clone()
        copy.pinned = True  # type: ignore[attr-defined]
        return copy

    def new_tensor(values: Any, *, device: Any = "cpu", **options: Any) -> Tensor:
        return _new_tensor(values, **options).to(device)  # torch's own makes one without values

    with (
        mock.patch("torch.nn.functional.scaled_dot_product_attention", attention),
        mock.patch("torch.Tensor.pin_memory", pinned),
        mock.patch("torch.tensor", new_tensor),
        gpu,
    ):
        yield gpu
    noise_bank.cache_clear()
