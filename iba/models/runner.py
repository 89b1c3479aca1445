"""What runs a classifier's layers, and how it is tried: `postnorm.py` and `adapter.py` are the two kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iba.data.tokens import Inputs
from iba.errors import UserError
from iba.models.frozen import exact_forward

Hidden = Float[Tensor, "batch tokens hidden"]
Logits = Float[Tensor, "batch outputs"]
#: Attention probabilities: rows (queries) sum to 1, exactly 0 on padded keys.
Maps = Float[Tensor, "batch heads tokens tokens"]
#: How far logits that should be the same may be apart, as a share of the largest: in float32, in 16 bits.
_FULL, _HALF = 1e-3, 5e-2


@runtime_checkable
class Runner(Protocol):
    """A classifier as a stack of layers numbered from 1; state 0 is what enters the first."""

    @property
    def n_layers(self) -> int:
        """How many layers run."""

    def logits(self, inputs: Inputs) -> Logits:
        """The head's output in float32."""

    def hidden_states(self, inputs: Inputs, layers: Sequence[int]) -> dict[int, Hidden]:
        """Outputs of the given layers in float32, without gradients."""

    def logits_from(self, hidden: Hidden, inputs: Inputs, layer: int, exact_to: int = 0) -> Logits:
        """The head's output from that of `layer`, layers up to `exact_to` in float32; `hidden` has gradients.

        `hidden` may hold several copies of the batch `inputs`, one after the other.
        """

    def word_embeddings(self, input_ids: Int[Tensor, "batch tokens"]) -> Hidden:
        """What the model looks up for the ids."""

    def logits_of_words(self, words: Hidden, inputs: Inputs, exact_to: int = 0) -> Logits:
        """The head's output with `words` in place of the word embeddings; `words` has gradients."""

    def reads(self, inputs: Inputs) -> Bool[Tensor, "batch tokens"]:
        """The positions of the last layer's output that the head reads."""

    def attentions(self, inputs: Inputs) -> Iterator[tuple[Hidden, Maps]]:
        """From the first layer to the last: what enters it, and its attention maps; float32, no gradients."""

    def logits_given_maps(self, maps: Maps, hidden: Hidden, inputs: Inputs, layer: int) -> Logits:
        """The head's output when `layer`, entered by `hidden`, attends by `maps`, which have gradients."""


def layer_number(layer: int | float, n_layers: int) -> int:
    """A 1-based layer from a number or a fraction of depth (0.75 of 12 layers is layer 9).

    A fraction never means the last layer: of its output the head reads the first token alone.
    """
    resolved = layer
    if 0 < layer < 1:
        if n_layers == 1:
            raise UserError(
                f"layer={layer}: the only layer of this encoder is its last, of which the head reads "
                "[CLS] alone: choose a method without a layer (ig, lime, occlusion), or give layer=1."
            )
        resolved = min(round(layer * n_layers), n_layers - 1)
    if resolved not in range(1, n_layers + 1):
        raise UserError(f"layer {layer} is out of range: this encoder has layers 1 to {n_layers}.")
    return int(resolved)


def wrong_layer(runner: Runner, probe: Inputs, logits: Logits, half: bool = False) -> int | None:
    """The first of the first, middle and last layer that, started from, fails to give `logits`."""
    layers = sorted({1, max(1, runner.n_layers // 2), runner.n_layers})
    with torch.no_grad(), exact_forward():
        states = runner.hidden_states(probe, layers)
        for layer in layers:
            if not same(runner.logits_from(states[layer], probe, layer), logits, half):
                return layer
    return None


def head_output(model: Any, out: Any) -> Logits:
    """The logits in a model's output, in float32; `UserError` for a model without a classification head."""
    if getattr(out, "logits", None) is None:
        raise UserError(f"{type(model).__name__} is no sequence classifier: it has no classification head.")
    logits: Tensor = out.logits.float()
    return logits


def same(ours: Logits, theirs: Logits, half: bool = False) -> bool:
    """Whether two computations of the same logits agree; never where one is not a number."""
    tolerance = (_HALF if half else _FULL) * max(1.0, float(theirs.abs().max()))
    return bool((ours - theirs).abs().max() <= tolerance)
