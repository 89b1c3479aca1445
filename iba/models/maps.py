"""Attention maps that are set from outside, by transformers' own interface for attention functions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import eager_mask

_NAME = "given_maps"
#: The maps of the next attention to be computed; none once they are used.
_GIVEN: ContextVar[list[Tensor]] = ContextVar("given maps")


@contextlib.contextmanager
def given_maps(model: PreTrainedModel, maps: Float[Tensor, "batch heads tokens tokens"]) -> Iterator[None]:
    """Within, the first attention that a forward pass of `model` computes is `maps` @ values."""
    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, eager_mask)
    token = _GIVEN.set([maps])
    try:
        with attending(model, _NAME):
            yield
    finally:
        _GIVEN.reset(token)


@contextlib.contextmanager
def attending(model: PreTrainedModel, kind: str) -> Iterator[None]:
    """Within, `model` computes attention by the implementation called `kind`."""
    before = model.config._attn_implementation
    model.set_attn_implementation(kind)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _attend(
    module: Any,
    query: Float[Tensor, "batch heads queries head"],
    key: Float[Tensor, "batch few keys head"],
    value: Float[Tensor, "batch few keys head"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "batch queries heads head"], Tensor]:
    """Scaled-dot-product attention in plain products; heads that share keys and values get them repeated."""
    key, value = (t.repeat_interleave(query.shape[1] // t.shape[1], 1) for t in (key, value))
    if given := _GIVEN.get():
        probabilities = given.pop()
    else:
        scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        if attention_mask is not None:
            scores = scores + attention_mask[..., : key.shape[-2]]
        probabilities = scores.softmax(-1, dtype=torch.float32)
    context = probabilities.to(value.dtype) @ value
    return context.transpose(1, 2).contiguous(), probabilities
