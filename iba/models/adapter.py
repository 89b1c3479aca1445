"""Any Hugging Face sequence classifier, run by its own forward: up to layer l, or from layer l to the logits.

The model keeps its embeddings, masks, positions, pooling and head. Its layers are found by counting calls, so
layers that share weights (ALBERT) count as often as they run. To start from layer l, the layers below are
passed over, layer l returns the state that is given, and all above run as ever. During a call the layers'
`forward` is replaced on the instance; it is put back whatever happens.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from iba.data.tokens import Inputs
from iba.errors import UserError
from iba.models.frozen import Products, exact_forward
from iba.models.maps import attending, given_maps
from iba.models.runner import Hidden, Logits, Maps, head_output, same, wrong_layer
from iba.models.swaps import padding_named, patched, words_for_ids

#: What the call of a layer becomes: (its number from 1, its own forward as a function of what enters, what
#: enters) → its output.
AtLayer = Callable[[int, Callable[[Tensor], Any], Tensor], Any]


class Adapter:
    """A classifier as a stack of layers, numbered from 1; `hidden_states` 0 is what enters the first.

    probe: two texts of unequal length, padded, on the model's device: with these the model is tried.
    layers: the path of the layers' `ModuleList`, such as "model.layers"; None finds it.
    segments: whether the model is given segment ids, if it takes any: as its tokenizer does.
    The model is used as it is: in its own type, on its own device, in evaluation mode; under autocast where
    `products` ask for bfloat16. Raises `UserError` where the model's logits do not come again from its own
    hidden states.
    """

    def __init__(
        self,
        model: nn.Module,
        probe: Inputs,
        layers: str | None = None,
        products: Products | None = None,
        segments: bool = True,
    ) -> None:
        self.model = bare(model)
        self.products = products or Products()
        accepted = inspect.signature(self.model.forward).parameters
        self._accepts = {*accepted} - (set() if segments else {"token_type_ids"})
        self._lock = threading.RLock()  # one text's replaced layers must not be another's
        self._passes_over, self._pads, self._tokens_first = True, True, False
        self._forms: list[int | None] = []  # per call: None for a tensor, else the length of a tuple
        self.probe = probe
        self.layers = self._find(layers, probe)
        self._choose_path(probe)

    @property
    def n_layers(self) -> int:
        """How many layers run, shared ones counted each time."""
        return len(self._forms)

    def logits(self, inputs: Inputs) -> Logits:
        """The model's own logits in float32; gradients only where its parameters ask for them."""
        return self._by_length(inputs, lambda part, _: self._run(part))

    def hidden_states(self, inputs: Inputs, layers: Sequence[int]) -> dict[int, Hidden]:
        """Outputs of the given layers (0: what enters the first) in float32, without gradients."""
        found: dict[int, Tensor] = {}

        def note(part: Inputs, rows: Tensor | slice) -> Tensor:
            states: dict[int, Tensor] = {}

            def noted(number: int, forward: Callable[[Tensor], Any], entering: Tensor) -> Any:
                output = forward(entering)
                states.update({0: entering} if number == 1 else {})
                states[number] = _state(output)
                return output

            logits = self._run(part, noted)
            for layer in layers:
                state = self._outside(states[layer])[:, : part.input_ids.shape[1]].float()
                room = (*inputs.input_ids.shape, state.shape[-1])
                whole = found.setdefault(layer, state.new_zeros(room))
                whole[rows, : state.shape[1]] = state
            return logits

        with torch.no_grad():
            self._by_length(inputs, note)
        return {layer: found[layer] for layer in layers}

    def logits_from(self, hidden: Hidden, inputs: Inputs, layer: int, exact_to: int = 0) -> Logits:
        """Logits (float32) from the output of `layer`, for one or several copies of `inputs`.

        With `exact_to` above `layer` all layers are computed in the model's own type.
        """

        def start(part: Inputs, rows: Tensor | slice) -> Tensor:
            given = hidden[rows, : part.input_ids.shape[1]]
            return self._run(part, partial(self._replaced, given, layer))

        with exact_forward() if exact_to > layer else contextlib.nullcontext():
            return self._by_length(inputs.matching(len(hidden)), start)

    def word_embeddings(self, input_ids: Int[Tensor, "batch tokens"]) -> Hidden:
        """What the model looks up for the ids, before positions and the like."""
        embedded: Tensor = self.model.get_input_embeddings()(input_ids)
        return embedded

    def logits_of_words(self, words: Hidden, inputs: Inputs, exact_to: int = 0) -> Logits:
        """Logits with `words` in place of the inputs' word embeddings; gradients flow to `words`.

        The ids go in as well: positions, padding and the last token are read off them, which many a model
        cannot do from `inputs_embeds`. A decoder that reads the same ids one later gets `words` one later.
        """

        def embed(part: Inputs, rows: Tensor | slice) -> Tensor:
            given = words[rows, : part.input_ids.shape[1]]
            with words_for_ids(self.model, given, part):
                return self._run(part)

        with exact_forward() if exact_to > 0 else contextlib.nullcontext():
            return self._by_length(inputs, embed)

    def reads(self, inputs: Inputs) -> Bool[Tensor, "batch tokens"]:
        """The positions of the last layer's output on which the logits depend (padding excluded)."""
        last = self.hidden_states(inputs, [self.n_layers])[self.n_layers].requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(self.logits_from(last, inputs, self.n_layers).sum(), last)
        return gradient.abs().sum(-1) > 0

    def attentions(self, inputs: Inputs) -> Iterator[tuple[Hidden, Maps]]:
        """What enters every layer, and its attention maps, by `output_attentions` under eager attention.

        Raises `UserError` where the model gives no maps of tokens × tokens, or cannot bear padding.
        """
        n = inputs.input_ids.shape[1]
        with torch.no_grad(), self._lock, attending(self.model, "eager"):
            out = self._call(inputs, output_attentions=True)
        maps = out.get("attentions") or out.get("encoder_attentions") or ()
        padded = not self._pads and inputs.attention_mask is not None
        if padded or len(maps) != self.n_layers or any(m is None or m.shape[-2:] != (n, n) for m in maps):
            raise UserError(f"{type(self.model).__name__} gives no attention maps of tokens × tokens.")
        states = self.hidden_states(inputs, range(self.n_layers))
        return ((states[layer], found.float()) for layer, found in enumerate(maps))

    def maps_lack(self, setting: bool) -> str | None:
        """Why attention maps cannot be read or, if `setting`, be set; None where they can."""
        try:
            hidden, maps = next(iter(self.attentions(self.probe)))
        except UserError as error:
            return f"needs attention maps: {error}"
        if not setting:
            return None
        with torch.no_grad():
            own, none = (
                self.logits_given_maps(given, hidden, self.probe, 1)
                for given in (maps, torch.zeros_like(maps))
            )
        takes = same(own, self.logits(self.probe)) and not torch.equal(own, none)
        return (
            None if takes else f"sets attention maps, which {type(self.model).__name__} does not let be set."
        )

    def logits_given_maps(self, maps: Maps, hidden: Hidden, inputs: Inputs, layer: int) -> Logits:
        """Logits when `layer`, entered by `hidden`, attends as `maps` say; gradients flow to `maps`."""
        with exact_forward(), given_maps(self.model, maps):
            return self.logits_from(hidden, inputs, layer - 1)

    def _find(self, path: str | None, probe: Inputs) -> list[nn.Module]:
        """The distinct layers; notes how often they run and what their output looks like."""
        lists = _lists(self.model) if path is None else _list_at(self.model, path)
        calls: dict[str, list[Any]] = {name: [] for name in lists}
        with contextlib.ExitStack() as hooks, torch.no_grad():
            for name, modules in lists.items():
                for layer in {id(m): m for m in modules}.values():
                    noted = partial(lambda seen, _, __, output: seen.append(output), calls[name])
                    hooks.callback(layer.register_forward_hook(noted).remove)
            self._run(probe)
        most = max(calls, key=lambda name: len(calls[name]), default=None)
        if most is None or not calls[most]:
            place = f" at {path}" if path else ""
            raise UserError(
                f"{type(self.model).__name__}: no stack of layers found{place}; name it with layers=PATH, "
                "such as layers=model.layers."
            )
        self._forms = [len(out) if isinstance(out, tuple | list) else None for out in calls[most]]
        self._tokens_first = _state(calls[most][0]).shape[0] != len(probe.input_ids)
        return list({id(m): m for m in lists[most]}.values())

    def _choose_path(self, probe: Inputs) -> None:
        """Choose how to run the model so that padded texts and every layer give its logits; or refuse."""
        half = any(p.dtype in (torch.float16, torch.bfloat16) for p in self.model.parameters())
        with torch.no_grad(), exact_forward():
            together, self._pads = self.logits(probe), False
            alone = self.logits(probe)
            self._pads = same(together, alone, half)
            for self._passes_over in (True, False):
                if (wrong := wrong_layer(self, probe, alone, half)) is None:
                    return
        raise UserError(
            f"{type(self.model).__name__} cannot be started after layer {wrong}: its logits then differ from "
            "its own. Name its stack of layers with layers=PATH, or use another model."
        )

    def _by_length(self, inputs: Inputs, run: Callable[[Inputs, Any], Tensor]) -> Logits:
        """`run(part, its rows)` on all at once or, for a model that does not bear padding, by length."""
        if self._pads or inputs.attention_mask is None:
            return run(inputs, slice(None))
        positions = torch.arange(1, inputs.input_ids.shape[1] + 1, device=inputs.input_ids.device)
        lengths = (inputs.attention_mask * positions).amax(1)
        groups = [(lengths == n).nonzero().squeeze(1) for n in lengths.unique()]
        found = [run(inputs.cut(rows, int(lengths[rows[0]])), rows) for rows in groups]
        return torch.cat(found)[torch.cat(groups).argsort()]

    def _replaced(
        self, given: Hidden, layer: int, number: int, forward: Callable[[Tensor], Any], entering: Tensor
    ) -> Any:
        """A call's output when the run starts from `given` after `layer`."""
        if number > layer:
            return forward(self._inside(given, entering) if layer == 0 and number == 1 else entering)
        state = self._inside(given, entering) if number == layer else entering
        form = self._forms[number - 1]
        if form is None:
            return state
        if self._passes_over:
            return (state, *[None] * (form - 1))
        with torch.no_grad():
            output = forward(entering)
        return (state, *output[1:]) if number == layer else output

    def _inside(self, given: Hidden, like: Tensor) -> Tensor:
        """A state as the layers pass it on: in their type and order, what they pad to themselves kept."""
        state = (given.transpose(0, 1) if self._tokens_first else given).to(like.dtype)
        axis = 0 if self._tokens_first else 1
        rest = like.narrow(axis, state.shape[axis], like.shape[axis] - state.shape[axis])
        return torch.cat([state, rest], axis) if rest.numel() else state

    def _outside(self, state: Tensor) -> Hidden:
        return state.transpose(0, 1) if self._tokens_first else state

    def _run(self, inputs: Inputs, at_layer: AtLayer | None = None) -> Logits:
        with self._lock, self._replacing(at_layer):
            return head_output(self.model, self._call(inputs))

    def _call(self, inputs: Inputs, **options: Any) -> Any:
        mask = inputs.attention_mask
        arguments: dict[str, Any] = {
            "attention_mask": torch.ones_like(inputs.input_ids) if mask is None else mask.long(),
            "token_type_ids": inputs.token_type_ids,
            "use_cache": False,
            "return_dict": True,
        } | options
        known = {name: value for name, value in arguments.items() if name in self._accepts or name in options}
        with (
            padding_named(self.model.config, inputs) as input_ids,
            torch.autocast(input_ids.device.type, torch.bfloat16, self.products.forward_now is not None),
            torch.compiler.set_stance("force_eager"),
        ):
            return self.model.forward(input_ids=input_ids, **known)

    @contextlib.contextmanager
    def _replacing(self, at_layer: AtLayer | None) -> Iterator[None]:
        """Within, a call of a layer is what `at_layer` makes of it."""
        if at_layer is None:
            yield
            return
        count = 0

        def call(own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            nonlocal count
            count += 1
            if args:
                return at_layer(count, lambda entering: own(entering, *args[1:], **kwargs), args[0])
            name = "hidden_states" if "hidden_states" in kwargs else next(iter(kwargs))
            return at_layer(count, lambda entering: own(**(kwargs | {name: entering})), kwargs[name])

        with contextlib.ExitStack() as restored:
            for layer in self.layers:
                restored.enter_context(patched(layer, partial(call, layer.forward)))
            yield


def bare(model: nn.Module) -> Any:
    """The model without the wrappers of `torch.compile` and PEFT, whose inserted layers stay."""
    found: Any = getattr(model, "_orig_mod", model)
    return found.get_base_model() if hasattr(found, "get_base_model") else found


def _lists(model: nn.Module) -> dict[str, nn.ModuleList]:
    """Lists of modules of one class, but for those inside another such list (a layer's experts)."""
    found: dict[str, nn.ModuleList] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len({type(m) for m in module}) == 1 and not inside:
            found[name] = module
    return found


def _list_at(model: nn.Module, path: str) -> dict[str, nn.ModuleList]:
    found = dict(model.named_modules()).get(path)
    return {path: found} if isinstance(found, nn.ModuleList) else {}


def _state(output: Any) -> Tensor:
    state: Tensor = output if isinstance(output, Tensor) else output[0]
    return state
