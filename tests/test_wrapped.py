"""Compiled, quantised and LoRA's models: explained as the plain model of their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from architectures import tiny_model
from torch import Tensor, nn

from iba.models.adapter import Adapter
from iba.models.classifier import Classifier
from iba.models.postnorm import PostNorm
from iba.models.tiny import tiny_tokenizer
from iba.own_text.explanation import Explanation, explain

METHODS = ("iba", "ig", "lime", "occlusion")
FEW = ("method.iba.settings.n_steps=2", "method.iba.settings.n_copies=2", "method.lime.settings.n_samples=20")


class LowRank(nn.Module):
    """A linear map as PEFT's LoRA wraps it: `weight` is the wrapped map's, without what was learned."""

    def __init__(self, base_layer: nn.Linear) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.base_layer = base_layer
        self.lora_A = nn.Linear(base_layer.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base_layer.out_features, bias=False)

    @property
    def weight(self) -> Tensor:
        return self.base_layer.weight

    @property
    def bias(self) -> Tensor | None:
        return self.base_layer.bias

    def effective(self) -> Tensor:
        return self.weight + self.lora_B.weight @ self.lora_A.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


class EightBit(nn.Module):
    """A linear map whose weights are bytes with a scale for each output."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        rounded = (linear.weight.detach() / self.scale).round().to(torch.int8)
        self.weight, self.bias = nn.Parameter(rounded, requires_grad=False), linear.bias

    def effective(self) -> Tensor:
        return self.weight * self.scale

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.effective(), self.bias)


class Peft(nn.Module):
    """As PEFT's wrapper."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.base_model = model

    def get_base_model(self) -> nn.Module:
        return self.base_model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base_model(*args, **kwargs)


def replaced(model: nn.Module, made: Callable[[nn.Linear], Any], names: tuple[str, ...]) -> nn.Module:
    """The model with the linear maps of these `names` replaced."""
    for name, module in [*model.named_modules()]:
        if isinstance(module, nn.Linear) and name.endswith(names):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, made(module))
    return model


def plain(linear: Any) -> nn.Linear:
    """The ordinary map of the same effective weights."""
    weight = linear.effective().detach()
    found = nn.Linear(weight.shape[1], weight.shape[0], bias=linear.bias is not None)
    found.weight, found.bias = nn.Parameter(weight), linear.bias
    return found


#: By model type: linear maps that are replaced.
NAMES = {"bert": ("query", "value"), "electra": ("query", "value"), "llama": ("q_proj", "v_proj")}


def explained(model: Any) -> Explanation:
    return explain("Anna called it superb.", (model, tiny_tokenizer()), methods=METHODS, overrides=FEW)


def assert_same(found: Explanation, expected: Explanation) -> None:
    for ours, theirs in zip(found.methods, expected.methods, strict=True):
        assert ours.scores == pytest.approx(theirs.scores, rel=5e-3, abs=1e-4), ours.name
        assert any(ours.scores)


@pytest.mark.parametrize("made", [LowRank, EightBit])
@pytest.mark.parametrize("kind", NAMES)
def test_what_is_wrapped_scores_as_the_plain_model_of_its_weights(kind: str, made: Any) -> None:
    def unmovable(*_: Any, **__: Any) -> None:
        raise ValueError("`.to` is not supported for 8-bit models")

    expected = explained(replaced(tiny_model(kind), lambda linear: plain(made(linear)), NAMES[kind]))
    model = replaced(tiny_model(kind), made, NAMES[kind])
    model.to = unmovable  # type: ignore[assignment]
    dtypes = {name: p.dtype for name, p in model.named_parameters()}
    given = Peft(model) if made is LowRank else model
    assert_same(explained(given), expected)
    assert isinstance(Classifier(given, tiny_tokenizer()).runner, Adapter)
    assert {name: p.dtype for name, p in model.named_parameters()} == dtypes


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("in_place", [True, False])
def test_a_compiled_model_is_run_without_its_compiler(kind: str, in_place: bool) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("was compiled")

    model = tiny_model(kind)
    if in_place:
        model.compile(backend=never)
    given = model if in_place else torch.compile(model, backend=never)
    assert_same(explained(given), explained(tiny_model(kind)))
    runner = Classifier(given, tiny_tokenizer()).runner
    assert isinstance(runner, PostNorm if kind == "bert" else Adapter)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_sixteen_bits_is_explained_in_them(kind: str, dtype: torch.dtype) -> None:
    model = tiny_model(kind).to(dtype)
    found = explained(model)
    assert all(torch.tensor(method.scores).isfinite().all() for method in found.methods)
    assert isinstance(Classifier(model, tiny_tokenizer()).runner, Adapter)
    assert {p.dtype for p in model.parameters()} == {dtype}
