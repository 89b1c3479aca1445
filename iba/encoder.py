"""The adapter: run a classifier up to layer l, or from layer l to the logits.

Every encoder the project knows is a stack of post-norm transformer blocks. The model's own parameters are
read by name (iba/block.py) and computed with; no hook is installed and no module changed, so a model is
after any use, or any exception, exactly what it was. Only these two files know model internals.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from copy import copy
from operator import attrgetter
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from iba.block import FAMILIES, Block, Hidden
from iba.data.tokens import Instance, TokenBatch, collate
from iba.errors import UserError
from iba.frozen import Products, exact_forward
from iba.heads import Head, ManyLabels, class_id, head_of
from iba.pretrained import MERGE_FIRST

Mask = Bool[Tensor, "batch tokens"]


class Classifier:
    """A fine-tuned sequence classifier with its tokenizer, seen as embeddings → layers → logits.

    Layers are numbered from 1 as in the paper; `hidden_states` 0 are the embeddings. Parameters are
    frozen and dropout is off. `precision` "bf16" runs the blocks' linear maps in bfloat16; `token_budget`
    bounds the tokens (padding counted) of one forward pass, and with them the memory. What the logits mean
    is its `head`'s to say (iba/heads.py).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerFast,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        token_budget: int = 8192,
    ) -> None:
        refuse_unknown(model)
        self.head = head_of(model.config)
        self.model = model.to(device).eval().requires_grad_(False)  # type: ignore[arg-type]
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.products = Products()
        self.precision = precision
        self.token_budget = token_budget
        #: By the kind of work, what `grouped` learned of the device's memory.
        self.fitting: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self.family = FAMILIES[model.config.model_type]
        self.base: Any = model.base_model
        self._parts: Any = self.model
        self._remembered: dict[Any, dict[int, Hidden]] | None = None
        layers = attrgetter(self.family.layers)(self.base)
        self.blocks = [Block.of(layer, model.config, self.products) for layer in layers]

    @property
    def precision(self) -> str:
        """`fp32` or `bf16`; may be changed at any time."""
        return self._precision

    @precision.setter
    def precision(self, name: str) -> None:
        self._precision = name
        self.products.forward = self.products.backward = torch.bfloat16 if name == "bf16" else None

    @property
    def n_layers(self) -> int:
        """Number of transformer blocks."""
        return len(self.blocks)

    @property
    def hidden_size(self) -> int:
        """Features per token."""
        return int(self.model.config.hidden_size)

    @property
    def labels(self) -> list[str]:
        """Class names in the order of the logits."""
        return list(self.head.classes)

    def label_id(self, name: str | int) -> int:
        """The logit of the class called `name`, or of that number; `UserError` where there is none."""
        return class_id(self.labels, name)

    def facing(self, target: str | int | None, batch: TokenBatch) -> tuple[Classifier, int | None]:
        """The classifier as `target` asks to see it, and the class asked for; None for both: the predicted.

        Itself but where every label is a yes or no by itself: then the two classes of one label, by default
        the most probable one of the batch's first text.
        """
        if not isinstance(self.head, ManyLabels):
            return self, None if target is None else self.label_id(target)
        view = copy(self)
        view.head = Head(self.head.classes)  # the logits as they are
        raw = view.logits(batch.input_ids, batch.key_mask, batch.token_type_ids)[0]
        view.head, wanted = self.head.alone(target, raw)
        return view, wanted

    def resolve_layer(self, layer: int | float) -> int:
        """A 1-based layer from a number or a fraction of depth (0.75 of 12 layers is layer 9).

        A fraction never means the last layer: of its output the head reads the first token alone.
        """
        resolved = layer
        if 0 < layer < 1:
            if self.n_layers == 1:
                raise UserError(
                    f"layer={layer}: the only layer of this encoder is its last, of which the head reads "
                    "[CLS] alone: choose a method without a layer (ig, lime, occlusion), or give layer=1."
                )
            resolved = min(round(layer * self.n_layers), self.n_layers - 1)
        if resolved not in range(1, self.n_layers + 1):
            raise UserError(f"layer {layer} is out of range: this encoder has layers 1 to {self.n_layers}.")
        return int(resolved)

    @property
    def pad_token_id(self) -> int:
        """What fills a batch, always masked: any id will do where the tokenizer has none for it."""
        return int(self.tokenizer.pad_token_id or 0)

    def special_id(self, kind: Literal["pad", "mask"], needed_by: str) -> int:
        """The id of the tokenizer's padding or mask token; `UserError` where it has none."""
        found = getattr(self.tokenizer, f"{kind}_token_id")
        if found is None:
            raise UserError(
                f"{needed_by} needs a {kind} token, and the tokenizer has none: leave it out, or set "
                f"tokenizer.{kind}_token and save the tokenizer again."
            )
        return int(found)

    def batch(self, instances: list[Instance]) -> TokenBatch:
        """Pad instances into one batch on the classifier's device."""
        return collate(instances, self.pad_token_id, self.device)

    def word_embeddings(self, input_ids: Int[Tensor, "batch tokens"]) -> Hidden:
        """Word-piece embeddings, before positions, segments and the norm are added."""
        embedded: Tensor = self._parts.get_input_embeddings()(input_ids)
        return embedded

    def embed(
        self, input_ids: Int[Tensor, "batch tokens"], segments: Tensor | None, words: Hidden | None = None
    ) -> Hidden:
        """Layer 0: the embeddings that enter the first block; `words` replaces the word embeddings."""
        extra = {"token_type_ids": segments} if self.family.segments and self._n_segments > 1 else {}
        if words is None:
            embedded: Tensor = self.base.embeddings(input_ids=input_ids, **extra)
            return embedded
        if hasattr(self.base.embeddings, "padding_idx"):
            # RoBERTa and MPNet count positions from the padding id on, which only the ids can tell.
            known = input_ids.ne(self.base.embeddings.padding_idx)
            extra["position_ids"] = known.cumsum(1) * known + self.base.embeddings.padding_idx
        if self.model.config.model_type == "distilbert":
            extra["input_ids"] = None
        embedded = self.base.embeddings(inputs_embeds=words, **extra)
        return embedded

    @property
    def _n_segments(self) -> int:
        return int(getattr(self.model.config, "type_vocab_size", 1))

    def attends(self, attention_mask: Mask | None, n_tokens: int) -> Tensor | None:
        """The mask over `n_tokens` as the blocks take it, with MPNet's relative position bias added.

        Without a mask every token reads every token. Whether that is so is the caller's to know: to ask
        a mask on a GPU would be to wait for all that the GPU still has to do.
        """
        keys = None if attention_mask is None else attention_mask[:, None, None, :]
        if self.model.config.model_type != "mpnet":
            return keys
        tokens = torch.empty(1, n_tokens, 1, device=self.device)
        bias: Tensor = self.base.encoder.compute_position_bias(tokens)
        return bias if keys is None else bias.masked_fill(~keys, torch.finfo(bias.dtype).min)

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Within, the hidden states of a batch are computed once, for all layers, and kept."""
        self._remembered = {}
        try:
            yield
        finally:
            self._remembered = None

    def hidden_states(self, batch: TokenBatch, layers: list[int]) -> dict[int, Hidden]:
        """Outputs of the given layers (0: embeddings) in float32, without gradients; one pass to the last.

        Computed in float32 (on a GPU TF32) also where the classifier's `precision` is bfloat16: once for an
        instance is cheap, and what is rounded here moves the scores more than all that comes after.
        """
        if self._remembered is None:
            return self._hidden_states(batch, layers)
        key = tuple((i.input_ids, i.token_type_ids) for i in batch.instances)
        if key not in self._remembered:
            # Texts that are grouped anew, by another method or for want of memory, are not kept twice.
            for other in [known for known in self._remembered if not set(known).isdisjoint(key)]:
                del self._remembered[other]
            self._remembered[key] = self._hidden_states(batch, list(range(self.n_layers + 1)))
        return {layer: self._remembered[key][layer] for layer in layers}

    def _hidden_states(self, batch: TokenBatch, layers: list[int]) -> dict[int, Hidden]:
        with torch.no_grad(), exact_forward(tf32=True):
            hidden = self.embed(batch.input_ids, batch.token_type_ids)
            attends = self.attends(batch.key_mask, hidden.shape[1])
            found = {0: hidden.float()}
            for number, block in enumerate(self.blocks[: max(layers)], start=1):
                hidden = block(hidden, attends)
                found[number] = hidden.float()
        return {layer: found[layer] for layer in layers}

    def advance(self, hidden: Hidden, attends: Tensor | None, layer: int, to: int) -> Hidden:
        """The output of layer `to` from that of `layer`; gradients flow. `attends` as the blocks take it."""
        for block in self.blocks[layer:to]:
            hidden = block(hidden, attends)
        return hidden

    def logits_from(
        self, hidden: Hidden, attention_mask: Mask | None, layer: int
    ) -> Float[Tensor, "batch classes"]:
        """Logits (float32) from the output of `layer`; gradients flow to `hidden`.

        `attention_mask` tells which tokens may be read; None, which is faster, that all may
        (`TokenBatch.key_mask`). The head reads the first position alone, so the last block is computed
        there alone: exact, and nearly one whole block saved.
        """
        attends = self.attends(attention_mask, hidden.shape[1])
        hidden = self.advance(hidden, attends, layer, self.n_layers - 1)
        if layer < self.n_layers:
            hidden = self.blocks[-1].first_position(hidden, attends)
        return self.head(self._raw_logits(hidden[:, :1]).float())

    def _raw_logits(self, first: Float[Tensor, "batch 1 hidden"]) -> Float[Tensor, "batch outputs"]:
        logits: Tensor
        if self.model.config.model_type == "bert":
            logits = self._parts.classifier(self.base.pooler(first))
        elif self.model.config.model_type == "distilbert":
            logits = self._parts.classifier(F.relu(self._parts.pre_classifier(first[:, 0])))
        else:
            logits = self._parts.classifier(first)
        return logits

    def logits(
        self,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Mask | None,
        token_type_ids: Int[Tensor, "batch tokens"] | None,
    ) -> Float[Tensor, "batch classes"]:
        """The classifier's logits (float32), without gradients; no mask: all tokens may be read."""
        with torch.no_grad():
            hidden = self.embed(input_ids, token_type_ids)
            return self.logits_from(hidden, attention_mask, 0)

    def probabilities(self, batch: TokenBatch) -> Float[Tensor, "batch classes"]:
        """Class probabilities of a batch."""
        return self.logits(batch.input_ids, batch.key_mask, batch.token_type_ids).softmax(-1)


def refuse_unknown(model: PreTrainedModel) -> None:
    """Raise `UserError` for a model that is no sequence classifier, or one whose modules are not known."""
    kind = model.config.model_type
    if kind not in FAMILIES:
        raise UserError(
            f"model type {kind!r} is not one the adapter knows ({', '.join(FAMILIES)}); "
            "add its module names to FAMILIES in iba/block.py."
        )
    if hasattr(model, "peft_config"):
        raise UserError(MERGE_FIRST)
    if not hasattr(model, "classifier"):
        raise UserError(f"{type(model).__name__} is no sequence classifier: it has no classification head.")
