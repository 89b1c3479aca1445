"""A classifier as every method sees it: embeddings → layers → logits, with its tokenizer, labels and device.

Its runner knows how the layers are run: by hand-written post-norm blocks (`models/postnorm.py`), which are
faster, where they give the model's logits; else by the model's own forward (`models/adapter.py`).
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from copy import copy
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from iba.data.examples import Example
from iba.data.tokens import Inputs, Instance, TokenBatch, collate, tokenise
from iba.errors import UserError
from iba.models.adapter import Adapter, bare
from iba.models.block import FAMILIES, Block
from iba.models.frozen import Products
from iba.models.heads import ManyLabels, class_id, head_of
from iba.models.memory import LONG, Shapes, TokenBudget, planned
from iba.models.parallel import usable_workers
from iba.models.postnorm import PostNorm
from iba.models.runner import Hidden, Maps, Runner, layer_number, wrong_layer


class Classifier:
    """A fine-tuned sequence classifier with its tokenizer, seen as embeddings → layers → logits.

    Layers are numbered from 1 as in the paper; `hidden_states` 0 are the embeddings. Parameters are
    frozen and dropout is off. `precision` "bf16" runs the blocks' linear maps in bfloat16; `token_budget`
    bounds the tokens (padding counted) of one forward pass, and with them the memory: "auto" by what the
    device has free, `memory_gb` GiB of it at most. What the logits mean is its `head`'s to say
    (iba/models/heads.py).
    """

    #: Bytes that a method may hold for a batch; None where the token budget alone bounds it.
    memory: float | None = None

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerFast,
        device: torch.device | str = "cpu",
        precision: str = "fp32",
        token_budget: TokenBudget = 8192,
        fast: bool | Literal["auto"] = "auto",
        layers: str | None = None,
        memory_gb: float | None = None,
    ) -> None:
        self.head = head_of(bare(model).config)
        self.model = _on(bare(model), device).eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.device = torch.device(device)
        self.precision = precision
        self._path = fast, layers, memory_gb
        #: By the kind of work, what `grouped` learned of the device's memory.
        self.fitting: defaultdict[str, dict[int, int]] = defaultdict(dict)
        self._remembered: dict[Any, dict[int, Hidden]] | None = None
        self.runner: Runner = runner_of(
            self.model,
            probe_inputs(tokenizer, self.device),
            Products.of(precision),
            "token_type_ids" in tokenizer.model_input_names,
            fast,
            layers,
        )
        self.token_budget, self.memory = planned(token_budget, self.device, self.shapes(), memory_gb)

    def in_precision(self, name: str) -> Classifier:
        """The same model run in another precision."""
        return Classifier(self.model, self.tokenizer, self.device, name, self.token_budget, *self._path)

    def with_budget(self, token_budget: int | None) -> Classifier:
        """The same with another token budget; None leaves it."""
        view = copy(self)
        view.token_budget = token_budget or self.token_budget
        return view

    @property
    def n_layers(self) -> int:
        """Number of transformer blocks."""
        return self.runner.n_layers

    @property
    def hidden_size(self) -> int:
        """Features per token."""
        return int(self.model.config.hidden_size)

    def shapes(self, tokens: int = LONG) -> Shapes:
        """The encoder's, and of texts of `tokens` tokens."""
        config = self.model.config.get_text_config()
        known = (getattr(config, name, None) for name in ("intermediate_size", "ffn_dim", "n_inner"))
        inner = next((size for size in known if size), 4 * self.hidden_size)
        # The fast path computes the last layer at the first position alone.
        whole = self.n_layers - isinstance(self.runner, PostNorm)
        return Shapes(whole, self.hidden_size, inner, config.num_attention_heads, tokens)

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
        with torch.no_grad():
            raw = self.runner.logits(batch.inputs)[0]
        view = copy(self)
        view.head, wanted = self.head.alone(target, raw)
        return view, wanted

    def resolve_layer(self, layer: int | float) -> int:
        """A 1-based layer from a number or a fraction of depth (`layer_number`)."""
        return layer_number(layer, self.n_layers)

    @property
    def pad_token_id(self) -> int:
        """What fills a batch, always masked: any id will do where the tokenizer has none for it."""
        return int(self.tokenizer.pad_token_id or 0)

    def special_id(self, needed_by: str, *kinds: Literal["pad", "mask", "bos", "eos", "unk"]) -> int:
        """The id of the first of these special tokens that the tokenizer has; `UserError` if it has none."""
        for kind in kinds:
            if (found := getattr(self.tokenizer, f"{kind}_token_id")) is not None:
                return int(found)
        raise UserError(
            f"{needed_by} needs a {' or '.join(kinds)} token, and the tokenizer has none: leave it out, or "
            f"set tokenizer.{kinds[0]}_token and save the tokenizer again."
        )

    @property
    def blank_id(self) -> int:
        """The token that says nothing: padding or, as in most decoders' tokenizers, what ends a text.

        Where there is neither, the unknown token or what begins a text.
        """
        return self.special_id("IG's baseline", "pad", "eos", "unk", "bos")

    @property
    def empty_id(self) -> int:
        """The one token that is a text without any: a model reads at least one."""
        return self.special_id("a text without tokens", "bos", "eos", "pad", "unk")

    def batch(self, instances: list[Instance]) -> TokenBatch:
        """Pad instances into one batch on the classifier's device."""
        return collate(instances, self.pad_token_id, self.device)

    @property
    def blocks(self) -> list[Block]:
        """The hand-written blocks; `UserError` where the model is run by its own forward."""
        return self.post_norm.blocks

    @property
    def post_norm(self) -> PostNorm:
        """The fast path, whose insides some methods read; `UserError` where the model is run otherwise."""
        if not isinstance(self.runner, PostNorm):
            raise UserError(f"{type(self.model).__name__} is not run by blocks of this project's own.")
        return self.runner

    def lacks(self, need: str) -> str | None:
        """Why the model does not give what a method needs (one of `attributor.NEEDS`); None where it does."""
        if need == "blocks" and not isinstance(self.runner, PostNorm):
            kind, known = self.model.config.model_type, ", ".join(FAMILIES)
            return f"needs the parts of every layer, which are known for {known} alone, not for {kind}."
        if need in ("attention", "set_attention") and isinstance(self.runner, Adapter):
            return self.runner.maps_lack(setting=need == "set_attention")
        return None

    @property
    def workers(self) -> int:
        """Groups of texts to work on at a time: only blocks of our own may be called by several threads."""
        return usable_workers(self.device) if isinstance(self.runner, PostNorm) else 1

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
            return self.runner.hidden_states(batch.inputs, layers)
        key = tuple((i.input_ids, i.token_type_ids) for i in batch.instances)
        if key not in self._remembered:
            # Texts that are grouped anew, by another method or for want of memory, are not kept twice.
            for other in [known for known in self._remembered if not set(known).isdisjoint(key)]:
                del self._remembered[other]
            every = list(range(self.n_layers + 1))
            self._remembered[key] = self.runner.hidden_states(batch.inputs, every)
        return {layer: self._remembered[key][layer] for layer in layers}

    def logits_from(
        self, hidden: Hidden, inputs: Inputs, layer: int, exact_to: int = 0
    ) -> Float[Tensor, "batch classes"]:
        """Logits (float32) from the output of `layer` (0: what enters the first); gradients flow to `hidden`.

        `hidden` may hold several copies of the batch `inputs`, one after the other. Layers up to `exact_to`
        are computed in float32.
        """
        return self.head(self.runner.logits_from(hidden, inputs, layer, exact_to))

    def entering(self, inputs: Inputs) -> Hidden:
        """State 0: what enters the first layer, in float32."""
        return self.runner.hidden_states(inputs, [0])[0]

    def word_embeddings(self, input_ids: Int[Tensor, "batch tokens"]) -> Hidden:
        """What the model looks up for the ids, before positions and the like are added."""
        return self.runner.word_embeddings(input_ids)

    def logits_of_words(
        self, words: Hidden, inputs: Inputs, exact_to: int = 0
    ) -> Float[Tensor, "batch classes"]:
        """Logits with `words` in place of the word embeddings of `inputs`; gradients flow to `words`."""
        return self.head(self.runner.logits_of_words(words, inputs, exact_to))

    def logits_given_maps(
        self, maps: Maps, hidden: Hidden, inputs: Inputs, layer: int
    ) -> Float[Tensor, "batch classes"]:
        """Logits when `layer`, entered by `hidden`, attends as `maps` say; gradients flow to `maps`."""
        return self.head(self.runner.logits_given_maps(maps, hidden, inputs, layer))

    def logits(self, inputs: Inputs) -> Float[Tensor, "batch classes"]:
        """The classifier's logits (float32), without gradients."""
        with torch.no_grad():
            return self.head(self.runner.logits(inputs))

    def probabilities(self, batch: TokenBatch) -> Float[Tensor, "batch classes"]:
        """Class probabilities of a batch."""
        return self.logits(batch.inputs).softmax(-1)


def _on(model: PreTrainedModel, device: torch.device | str) -> PreTrainedModel:
    """The model on `device`; one that lies there is not moved, which a quantised one would refuse."""
    if model.device == torch.empty(0, device=device).device:
        return model
    return model.to(device)  # type: ignore[arg-type]


def probe_inputs(tokenizer: PreTrainedTokenizerFast, device: torch.device) -> Inputs:
    """Two texts of unequal length, by which a model is tried."""
    texts = ("It rained all day, and nobody came.", "Why not?")
    rows = tokenise([Example(text, text, None, 0) for text in texts], tokenizer, 32)
    return collate(rows, tokenizer.pad_token_id or 0, device).inputs


def runner_of(
    model: PreTrainedModel,
    probe: Inputs,
    products: Products,
    segments: bool = True,
    fast: bool | Literal["auto"] = "auto",
    layers: str | None = None,
) -> Runner:
    """What runs the model's layers: blocks of our own where they give its logits, else its own forward.

    fast: False takes its own forward in any case, True raises `UserError` where our blocks do not do.
    """
    reason = f"no architecture of the fast path ({', '.join(FAMILIES)})"
    if fast and layers is None and model.config.model_type in FAMILIES:
        try:
            blocks = PostNorm(model, products)
            if (wrong := wrong_layer(blocks, probe, blocks.own_logits(probe))) is None:
                return blocks
            reason = f"logits after layer {wrong} that differ from the model's"
        except (AttributeError, TypeError, RuntimeError) as error:  # parts under other names, or other parts
            reason = f"other parts than its architecture ({error})"
    if fast is True:
        raise UserError(f"fast=true: {type(model).__name__} has {reason}; use fast=auto.")
    return Adapter(model, probe, layers, products, segments)
