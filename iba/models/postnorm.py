"""The fast path: encoders that are a stack of post-norm blocks, computed with their own parameters.

Parameters are read by name (`block.py`); no hook is installed and no module changed. The head reads the first
position alone, so the last block is computed there alone. `adapter.py` runs every other model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from iba.data.tokens import Inputs
from iba.models.block import FAMILIES, Block
from iba.models.frozen import Products, exact_forward
from iba.models.runner import Hidden, Logits, Maps, head_output


class PostNorm:
    """Embeddings → blocks → head of a model of `FAMILIES`; `products`: the types of its linear maps."""

    def __init__(self, model: Any, products: Products) -> None:
        self.model, self.base, self.products = model, model.base_model, products
        self.family, self.kind = FAMILIES[model.config.model_type], model.config.model_type
        layers = attrgetter(self.family.layers)(self.base)
        self.blocks = [Block.of(layer, model.config, products) for layer in layers]

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def own_logits(self, inputs: Inputs) -> Logits:
        """The logits by the model's own forward."""
        with torch.no_grad():
            out = self.model.forward(
                inputs.input_ids, attention_mask=inputs.attention_mask, **self.segments(inputs)
            )
        return head_output(self.model, out)

    def logits(self, inputs: Inputs) -> Logits:
        """Logits in float32."""
        return self.logits_from(self.embed(inputs), inputs, 0)

    def hidden_states(self, inputs: Inputs, layers: Sequence[int]) -> dict[int, Hidden]:
        """Outputs of the given layers (0: embeddings) in float32, without gradients; one pass to the last.

        Computed in float32 (on a GPU TF32) also where the products are bfloat16: once for an instance is
        cheap, and what is rounded here moves the scores more than all that comes after.
        """
        with torch.no_grad(), exact_forward(tf32=True):
            hidden = self.embed(inputs)
            attends = self.attends(inputs.attention_mask, hidden.shape[1])
            found = {0: hidden.float()}
            for number, block in enumerate(self.blocks[: max(layers)], start=1):
                hidden = block(hidden, attends)
                found[number] = hidden.float()
        return {layer: found[layer] for layer in layers}

    def logits_from(self, hidden: Hidden, inputs: Inputs, layer: int, exact_to: int = 0) -> Logits:
        """Logits (float32) from the output of `layer`, for one or several copies of `inputs`.

        Layers up to `exact_to` are float32 (on a GPU TF32) also where the products are bfloat16.
        """
        attends = self.attends(inputs.matching(len(hidden)).attention_mask, hidden.shape[1])
        exact_to = max(layer, exact_to)
        with exact_forward(tf32=True):
            hidden = self.advance(hidden, attends, layer, exact_to)
        hidden = self.advance(hidden, attends, exact_to, self.n_layers - 1)
        if exact_to < self.n_layers:
            hidden = self.blocks[-1].first_position(hidden, attends)
        return self._head(hidden[:, :1]).float()

    def word_embeddings(self, input_ids: Int[Tensor, "batch tokens"]) -> Hidden:
        """Word-piece embeddings, before positions, segments and the norm are added."""
        embedded: Tensor = self.model.get_input_embeddings()(input_ids)
        return embedded

    def logits_of_words(self, words: Hidden, inputs: Inputs, exact_to: int = 0) -> Logits:
        """Logits with `words` in place of the word embeddings; gradients flow to `words`."""
        return self.logits_from(self.embed(inputs, words), inputs, 0, exact_to)

    def reads(self, inputs: Inputs) -> Bool[Tensor, "batch tokens"]:
        """The first position, where the head reads."""
        first = torch.zeros_like(inputs.input_ids, dtype=torch.bool)
        first[:, 0] = True
        return first

    def attentions(self, inputs: Inputs) -> Iterator[tuple[Hidden, Maps]]:
        """What enters every layer, and its attention maps, in float32; one forward pass in all."""
        hidden = self.hidden_states(inputs, [0])[0]
        attends = self.attends(inputs.attention_mask, hidden.shape[1])
        for block in self.blocks:
            with torch.no_grad():
                probabilities = block.attention_probabilities(hidden, attends)
                after = block(hidden, attends).float()
            yield hidden, probabilities
            hidden = after

    def logits_given_maps(self, maps: Maps, hidden: Hidden, inputs: Inputs, layer: int) -> Logits:
        """Logits when `layer`, entered by `hidden`, attends as `maps` say; gradients flow to `maps`."""
        block = self.blocks[layer - 1]
        context = maps @ block.heads(block.value(hidden)).to(maps.dtype)
        after = block.after_attention(context.transpose(1, 2).flatten(2), hidden)
        return self.logits_from(after, inputs, layer)

    def embed(self, inputs: Inputs, words: Hidden | None = None) -> Hidden:
        """What enters the first block; `words` replaces the word embeddings."""
        extra, embeddings = self.segments(inputs), self.base.embeddings
        if words is None:
            embedded: Tensor = embeddings(input_ids=inputs.input_ids, **extra)
            return embedded
        if hasattr(embeddings, "padding_idx"):
            # RoBERTa and MPNet count positions from the padding id on, which only the ids can tell.
            known = inputs.input_ids.ne(embeddings.padding_idx)
            extra["position_ids"] = known.cumsum(1) * known + embeddings.padding_idx
        if self.kind == "distilbert":
            extra["input_ids"] = None
        embedded = embeddings(inputs_embeds=words, **extra)
        return embedded

    def segments(self, inputs: Inputs) -> dict[str, Any]:
        """The segment ids as the model's own argument, where it has segments."""
        segmented = self.family.segments and int(getattr(self.model.config, "type_vocab_size", 1)) > 1
        return {"token_type_ids": inputs.token_type_ids} if segmented else {}

    def attends(self, attention_mask: Bool[Tensor, "batch tokens"] | None, n_tokens: int) -> Tensor | None:
        """The mask over `n_tokens` as the blocks take it, with MPNet's relative position bias added.

        Without a mask every token reads every token. Whether that is so is the caller's to know: to ask
        a mask on a GPU would be to wait for all that the GPU still has to do.
        """
        keys = None if attention_mask is None else attention_mask[:, None, None, :]
        if self.kind != "mpnet":
            return keys
        tokens = torch.empty(1, n_tokens, 1, device=next(self.model.parameters()).device)
        bias: Tensor = self.base.encoder.compute_position_bias(tokens)
        return bias if keys is None else bias.masked_fill(~keys, torch.finfo(bias.dtype).min)

    def advance(self, hidden: Hidden, attends: Tensor | None, layer: int, to: int) -> Hidden:
        """The output of layer `to` from that of `layer`; gradients flow. `attends` as the blocks take it."""
        for block in self.blocks[layer:to]:
            hidden = block(hidden, attends)
        return hidden

    def _head(self, first: Float[Tensor, "batch 1 hidden"]) -> Logits:
        logits: Tensor
        classifier: nn.Module = self.model.classifier
        if self.kind == "bert":
            logits = classifier(self.base.pooler(first))
        elif self.kind == "distilbert":
            logits = classifier(F.relu(self.model.pre_classifier(first[:, 0])))
        else:
            logits = classifier(first)
        return logits
