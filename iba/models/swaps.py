"""What is put in a model's place for the time of one call, and taken out again whatever happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from iba.data.tokens import Inputs
from iba.models.runner import Hidden


@contextlib.contextmanager
def words_for_ids(model: PreTrainedModel, words: Hidden, inputs: Inputs) -> Iterator[None]:
    """Within, the ids are looked up as `words`, also where a tied table looks them up, or one later."""
    table = model.get_input_embeddings()
    shape = inputs.input_ids.shape
    real = torch.ones_like(inputs.input_ids, dtype=torch.bool)
    real = real if inputs.attention_mask is None else inputs.attention_mask

    def looked_up(_: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        turned = args[0].shape[0] != shape[0]
        ids, found = (args[0].T, output.transpose(0, 1)) if turned else (args[0], output)
        ids, own, rest = ids[:, : shape[1]], found[:, : shape[1]], found[:, shape[1] :]
        given = words.to(output.dtype)
        if ids.shape != shape:
            return None
        if not (ids == inputs.input_ids)[real].all():
            if not (ids[:, 1:] == inputs.input_ids[:, :-1])[real[:, 1:]].all():
                return None
            given = torch.cat([own[:, :1], given[:, :-1]], 1)
        found = torch.cat([torch.where(real[..., None], given, own), rest], 1)
        return found.transpose(0, 1) if turned else found

    with contextlib.ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, nn.Embedding) and module.weight is table.weight:
                hooks.callback(module.register_forward_hook(looked_up).remove)
        yield


@contextlib.contextmanager
def patched(layer: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Within, `layer` computes `forward` instead of its own."""
    before = layer.__dict__.get("forward")
    layer.forward = forward
    try:
        yield
    finally:
        del layer.forward
        if before is not None:
            layer.forward = before


@contextlib.contextmanager
def padding_named(config: Any, inputs: Inputs) -> Iterator[Tensor]:
    """The ids; where the model names no padding, by which it finds the last token, padded with an id that no
    text of the batch holds, and named so meanwhile."""
    text = config.get_text_config()
    if text.pad_token_id is not None or (inputs.attention_mask is None and len(inputs.input_ids) == 1):
        yield inputs.input_ids
        return
    used = set(inputs.input_ids.unique().tolist())
    text.pad_token_id = next(i for i in range(text.vocab_size) if i not in used)
    mask = torch.ones_like(inputs.input_ids) if inputs.attention_mask is None else inputs.attention_mask
    last = (mask * torch.arange(mask.shape[1], device=mask.device)).amax(1, keepdim=True)
    padding = torch.arange(mask.shape[1], device=mask.device) > last
    try:
        yield inputs.input_ids.masked_fill(padding, text.pad_token_id)
    finally:
        text.pad_token_id = None
