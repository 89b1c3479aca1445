"""Linear layers and attention of a network whose weights never change.

Nothing here has a gradient for a weight. So every weight is cast and laid out for the processor once, and
forward and backward pass may multiply in different types: what bfloat16 rounds in the first blocks, all
later ones magnify, and it moves a gradient far more than the backward pass's rounding does (README, Speed).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.activations import GELUActivation

#: Attention scores that a CPU works on at a time: about what its caches hold.
_SCORES = 1 << 20
#: On a GPU, attention by any kernel but cuDNN's, which is planned anew, at the price of a pass, for every
#: shape that it has not met: and here nearly every group of texts has a shape of its own.
_KERNELS = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
#: Set by `exact_forward`, for the calling thread and those it gives its context to: whether TF32 will do.
_EXACT: ContextVar[bool | None] = ContextVar("exact_forward", default=None)


@dataclass(frozen=True)
class Products:
    """The types in which matrix products are computed; None is the weights' own."""

    forward: torch.dtype | None = None
    backward: torch.dtype | None = None

    @classmethod
    def of(cls, precision: str) -> Products:
        """Those of `fp32` or `bf16`."""
        return cls(torch.bfloat16, torch.bfloat16) if precision == "bf16" else cls()

    @property
    def forward_now(self) -> torch.dtype | None:
        """`forward`, or within `exact_forward` None."""
        return self.forward if _EXACT.get() is None else None


@contextlib.contextmanager
def exact_forward(tf32: bool = False) -> Iterator[None]:
    """Within, forward passes are in the weights' own type whatever `Products` says, backward passes not.

    `tf32`: on a GPU, where `Products` asks for bfloat16, the linear maps may round float32 to TF32 (10 bits
    where bfloat16 has 7).
    """
    token = _EXACT.set(tf32)
    try:
        yield
    finally:
        _EXACT.reset(token)


class FrozenLinear(nn.Module):
    """A linear map, then `activation`, with gradients for the input alone, computed as `products` says.

    Several linear maps of the same input are one whose outputs stand side by side.
    """

    def __init__(
        self,
        linear: nn.Linear | Sequence[nn.Linear],
        products: Products,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.linears = (linear,) if isinstance(linear, nn.Linear) else tuple(linear)
        self.products, self.activation = products, activation
        self._weights: dict[tuple[torch.dtype, bool], tuple[tuple[int, ...], Tensor]] = {}
        self._biases: dict[torch.dtype, tuple[tuple[int, ...], Tensor]] = {}

    @property
    def weight(self) -> Float[Tensor, "features_out features_in"]:
        """The model's own weight; of several, a copy."""
        weights: list[Tensor] = [linear.weight for linear in self.linears]
        return weights[0] if len(weights) == 1 else torch.cat(weights)

    @property
    def bias(self) -> Float[Tensor, " features_out"]:
        """The model's own bias; of several, a copy."""
        biases: list[Tensor] = [linear.bias for linear in self.linears]
        return biases[0] if len(biases) == 1 else torch.cat(biases)

    def forward(self, x: Float[Tensor, "*rows features_in"]) -> Float[Tensor, "*rows features_out"]:
        """x Wᵀ + b, activated, in `products.forward`; the gradient will be in `products.backward`."""
        if torch.is_grad_enabled() and x.requires_grad:
            product: Tensor = _Multiply.apply(x, self)
        elif isinstance(self.activation, GELUActivation) and (cast := self._cast(self.kind))[0].is_mkldnn:
            return _packed_product(x.to(self.kind), *cast, "gelu")
        else:
            product = self.multiply(x.to(self.kind))
        return self.activation(product) if self.activation else product

    @property
    def kind(self) -> torch.dtype:
        """The type of the forward pass."""
        return self.products.forward_now or self.linears[0].weight.dtype

    @property
    def backward_kind(self) -> torch.dtype:
        """The type of the backward pass."""
        return self.products.backward or self.linears[0].weight.dtype

    def multiply(self, x: Float[Tensor, "*rows features_in"]) -> Float[Tensor, "*rows features_out"]:
        """x Wᵀ + b in the type of x."""
        weight, bias = self._cast(x.dtype)
        if weight.is_mkldnn:
            return _packed_product(x, weight, bias)
        with _tensor_cores(self.products, x.device):
            return F.linear(x, weight, bias)

    def multiply_back(self, grad: Float[Tensor, "*rows features_out"]) -> Float[Tensor, "*rows features_in"]:
        """grad W in the type of grad."""
        weight = self._weight(grad.dtype, transposed=True)
        return _packed_product(grad, weight, None) if weight.is_mkldnn else grad @ weight.T

    def _cast(self, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        versions = tuple(linear.bias._version for linear in self.linears)
        known, bias = self._biases.get(kind, ((), self.linears[0].bias))
        if known != versions:
            bias = self.bias.detach().to(kind)
            self._biases[kind] = versions, bias
        return self._weight(kind, transposed=False), bias

    def _weight(self, kind: torch.dtype, transposed: bool) -> Tensor:
        versions = tuple(linear.weight._version for linear in self.linears)
        known, found = self._weights.get((kind, transposed), ((), self.linears[0].weight))
        if known != versions:
            cast = self.weight.detach().to(kind)
            if _packs(cast):
                cast = (cast.T if transposed else cast).contiguous()
                found = torch.ops.mkldnn._reorder_linear_weight(cast)
            else:  # both directions read the same copy
                found = self._weight(kind, transposed=False).T if transposed else cast
            self._weights[kind, transposed] = versions, found
        return found


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FrozenLinear) -> Tensor:
        ctx.layer, ctx.kind, ctx.backward_kind = layer, x.dtype, layer.backward_kind
        return layer.multiply(x.to(layer.kind))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        back = ctx.layer.multiply_back(grads[0].to(ctx.backward_kind))
        return back.to(ctx.kind), None


def _packs(weight: Tensor) -> bool:
    """Whether oneDNN can lay out the weight for its own products, which on a CPU are faster than BLAS's."""
    if weight.device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_reorder_linear_weight"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def _packed_product(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none") -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "none")
    return product


def _tensor_cores(products: Products, device: torch.device) -> AbstractContextManager[None]:
    """On a GPU, TF32 where `exact_forward` allows it and bfloat16 was asked for."""
    allowed = _EXACT.get() and products.forward is not None and device.type != "cpu"
    return _TENSOR_CORES.allowed() if allowed else contextlib.nullcontext()


def attend(
    query: Float[Tensor, "batch heads queries head"],
    key: Float[Tensor, "batch heads keys head"],
    value: Float[Tensor, "batch heads keys head"],
    attends: Tensor | None,
    products: Products,
) -> Float[Tensor, "batch heads queries head"]:
    """Scaled-dot-product attention; `attends` is its mask (True: may be read) or an additive bias.

    On a GPU torch's fused kernels. On a CPU these are slower than plain products, the more so backward:
    there the scores are computed a few rows at a time, in float32 (in `products.backward` going back).
    """
    if query.device.type != "cpu":
        if attends is not None and attends.dtype != torch.bool:
            attends = attends.to(query.dtype)  # the fused kernels refuse a bias of another type
        with sdpa_kernel(_KERNELS):
            return F.scaled_dot_product_attention(query, key, value, attends)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value)):
        context: Tensor = _Attend.apply(query, key, value, attends, products.backward)
        return context
    return _attended(query, key, value, attends)


def masked(scores: Tensor, attends: Tensor | None) -> Tensor:
    """Attention scores with a mask (True: may be read) or an additive bias applied; changes `scores`."""
    if attends is None:
        return scores
    if attends.dtype == torch.bool:  # added: filling a broadcast mask in place is several times slower
        attends = torch.zeros_like(attends, dtype=scores.dtype).masked_fill_(~attends, -torch.inf)
    return scores.add_(attends)


def _attended(
    query: Tensor, key: Tensor, value: Tensor, attends: Tensor | None, kept: list[Tensor] | None = None
) -> Tensor:
    """Attention's output; the probabilities of every slice of rows are added to `kept`, where given."""
    exact = torch.promote_types(query.dtype, torch.float32)
    context = _by_position(query, exact)
    with onednn_products():
        for rows in _slices(query, key):
            q, k, v = (t[rows].to(exact) for t in (query, key, value))
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            chosen = attends[rows] if attends is not None and attends.shape[0] > 1 else attends
            probabilities = masked(scores, chosen).softmax(-1)
            context[rows] = probabilities @ v
            if kept is not None:
                kept.append(probabilities)
    return context


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, attends: Tensor | None, kind: torch.dtype | None
    ) -> Tensor:
        kept: list[Tensor] = []
        context = _attended(query, key, value, attends, kept)
        ctx.save_for_backward(query, key, value, *(p.to(kind or p.dtype) for p in kept))
        return context

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        kind = kept[0].dtype
        scale = query.shape[-1] ** -0.5
        to_query, to_key, to_value = (_by_position(t, t.dtype) for t in (query, key, value))
        with onednn_products():
            for rows, probabilities in zip(_slices(query, key), kept, strict=True):
                q, k, v, grad = (t[rows].to(kind) for t in (query, key, value, grads[0]))
                to_value[rows] = probabilities.transpose(-1, -2) @ grad
                to_scores = torch._softmax_backward_data(grad @ v.transpose(-1, -2), probabilities, -1, kind)
                to_query[rows] = (to_scores @ k) * scale
                to_key[rows] = (to_scores.transpose(-1, -2) @ q) * scale
        return to_query, to_key, to_value, None, None


def _slices(query: Tensor, key: Tensor) -> list[slice]:
    n, heads, queries = query.shape[:3]
    step = max(1, _SCORES // (heads * queries * key.shape[2]))
    return [slice(start, start + step) for start in range(0, n, step)]


def _by_position(like: Tensor, kind: torch.dtype) -> Tensor:
    """Room for (batch, heads, tokens, head), with a token's heads side by side: so the layers read it."""
    batch, heads, tokens, width = like.shape
    return torch.empty(batch, tokens, heads, width, dtype=kind, device=like.device).transpose(1, 2)


def onednn_products() -> AbstractContextManager[None]:
    """Batched float32 products by oneDNN, where its kernels are float32 throughout.

    Allowed bfloat16, oneDNN takes them over from BLAS. Only with AMX would it really round to bfloat16;
    without, on AVX-512, they stay float32 and can be twice as fast (a test compares with float64).
    """
    # torch has no public questions for these yet; without an answer, BLAS is always right.
    avx512 = getattr(torch.cpu, "_is_avx512_supported", lambda: False)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    return _ONEDNN.allowed() if avx512() and not amx() else contextlib.nullcontext()


class _Precision:
    """One of torch's settings of what float32 products may be computed in. It is the whole process's."""

    def __init__(self, setting: Any, precision: str) -> None:
        self._setting, self._precision = setting, precision
        self._lock, self._users = threading.Lock(), 0

    @contextlib.contextmanager
    def allowed(self) -> Iterator[None]:
        """Within, the precision is allowed; it was as before once the last thread has left."""
        with self._lock:
            if not self._users:
                self._before = self._setting.fp32_precision
                self._setting.fp32_precision = self._precision
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._setting.fp32_precision = self._before


_ONEDNN = _Precision(torch.backends.mkldnn.matmul, "bf16")  # type: ignore[attr-defined]
_TENSOR_CORES = _Precision(torch.backends.cuda.matmul, "tf32")
