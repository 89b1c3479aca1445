"""Linear maps and attention of a frozen network against torch's own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.activations import ACT2FN

from baselines.integrated_gradients import IntegratedGradients
from iba.data.tokens import Instance
from iba.models import frozen
from iba.models.classifier import Classifier
from iba.models.frozen import FrozenLinear, Products, attend, exact_forward

BF16 = torch.bfloat16


@pytest.fixture
def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(48, 80).requires_grad_(False)


def outputs_and_gradients(function: object, inputs: list[Tensor], upstream: Tensor) -> list[Tensor]:
    leaves = [t.clone().requires_grad_() for t in inputs]
    output = function(*leaves)  # type: ignore[operator]
    return [output.detach(), *torch.autograd.grad(output, leaves, upstream.to(output.dtype))]


def test_a_frozen_linear_map_is_float32_throughout(linear: nn.Linear) -> None:
    """Also where oneDNN computes it: against float64, no rounding to a shorter type shows."""
    x, upstream = torch.randn(3, 7, 48), torch.randn(3, 7, 80)
    ours = outputs_and_gradients(FrozenLinear(linear, Products()), [x], upstream)
    weight, bias = linear.weight.double(), linear.bias.double()
    theirs = outputs_and_gradients(lambda x: F.linear(x, weight, bias), [x.double()], upstream)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=0, atol=1e-5)


def test_forward_and_backward_may_multiply_in_different_types(linear: nn.Linear) -> None:
    x, upstream = torch.randn(3, 7, 48), torch.randn(3, 7, 80)
    exact = outputs_and_gradients(FrozenLinear(linear, Products()), [x], upstream)
    mixed = outputs_and_gradients(FrozenLinear(linear, Products(None, BF16)), [x], upstream)
    low = outputs_and_gradients(FrozenLinear(linear, Products(BF16, BF16)), [x], upstream)
    assert torch.equal(mixed[0], exact[0])
    assert low[0].dtype == BF16
    for rounded, true in ((low[0], exact[0]), (mixed[1], exact[1]), (low[1], exact[1])):
        assert not torch.equal(rounded.float(), true)
        torch.testing.assert_close(rounded.float(), true, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("kind", [None, BF16])
def test_an_activation_follows_with_and_without_gradients(
    linear: nn.Linear, name: str, kind: torch.dtype | None
) -> None:
    """GELU is computed with the product where no gradient is wanted, the others after it."""
    layer, x = FrozenLinear(linear, Products(kind, kind), ACT2FN[name]), torch.randn(3, 7, 48)
    true = ACT2FN[name](F.linear(x.double(), linear.weight.double(), linear.bias.double()))
    tolerance = 1e-5 if kind is None else 0.03
    for leaf in (x, x.clone().requires_grad_()):
        ours = layer(leaf)
        assert ours.requires_grad == leaf.requires_grad
        assert ours.dtype == (kind or torch.float32)
        torch.testing.assert_close(ours.detach().double(), true, rtol=tolerance, atol=tolerance)


def test_a_changed_weight_is_noticed(linear: nn.Linear) -> None:
    x, layer = torch.randn(5, 48), FrozenLinear(linear, Products())
    before = layer(x)
    linear.weight.mul_(2.0)
    torch.testing.assert_close(layer(x) - linear.bias, 2 * (before - linear.bias))


@pytest.mark.parametrize("products", [Products(), Products(None, BF16), Products(BF16, BF16)], ids=str)
def test_maps_side_by_side_are_each_by_itself(products: Products) -> None:
    torch.manual_seed(0)
    linears = [nn.Linear(48, 32).requires_grad_(False) for _ in range(3)]
    joined, apart = FrozenLinear(linears, products), [FrozenLinear(one, products) for one in linears]
    x, upstream = torch.randn(3, 7, 48), torch.randn(3, 7, 96)
    tolerance = 0.02 if products.backward else 1e-5
    for changed in (linears[1].weight, linears[2].bias):
        ours = outputs_and_gradients(joined, [x], upstream)
        theirs = outputs_and_gradients(lambda x: torch.cat([one(x) for one in apart], -1), [x], upstream)
        for a, b in zip(ours, theirs, strict=True):
            assert a.dtype == b.dtype
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
        changed.add_(1.0)  # noticed by the second round
    torch.testing.assert_close(joined(x)[..., 64:], apart[2](x), rtol=tolerance, atol=tolerance)


def test_both_directions_read_one_copy_where_nothing_is_packed(linear: nn.Linear) -> None:
    """A GPU's memory holds a cast weight once."""
    layer = FrozenLinear(linear.to("meta"), Products(BF16, BF16))
    layer(torch.randn(5, 48, device="meta").requires_grad_()).sum().backward()
    forward, backward = (layer._weight(BF16, transposed) for transposed in (False, True))
    assert backward._base is forward


def test_a_changed_bias_is_noticed(linear: nn.Linear) -> None:
    x = torch.randn(5, 48)
    for kind in (None, BF16):
        layer = FrozenLinear(linear, Products(kind, kind))
        layer(x)
        linear.bias.add_(1.0)
        torch.testing.assert_close(layer(x), FrozenLinear(linear, Products(kind, kind))(x), rtol=0, atol=0)


def test_a_weight_and_its_bias_are_cast_once(linear: nn.Linear, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = FrozenLinear(linear, Products(BF16, BF16), ACT2FN["gelu"]), torch.randn(5, 48, dtype=BF16)
    leaf = x.clone().requires_grad_()
    layer(x), layer(leaf).sum().backward()
    cast, to = [], Tensor.to

    def watched(tensor: Tensor, *args: object, **kwargs: object) -> Tensor:
        changed = to(tensor, *args, **kwargs)  # type: ignore[call-overload]
        cast.extend([changed.shape] if changed.dtype != tensor.dtype else [])
        return changed  # type: ignore[no-any-return]

    monkeypatch.setattr(Tensor, "to", watched)
    layer(x), layer(leaf).sum().backward()
    assert cast == []


def masks(kind: str, batch: int, heads: int, tokens: int) -> Tensor | None:
    visible = torch.arange(tokens) < torch.arange(tokens, tokens - batch, -1)[:, None]
    match kind:
        case "padding":
            return visible[:, None, None, :]
        case "bias":
            bias = torch.randn(1, heads, tokens, tokens)
            return bias.masked_fill(~visible[:, None, None, :], torch.finfo(bias.dtype).min)
        case "one bias":
            return torch.randn(1, heads, tokens, tokens)
    return None


@pytest.mark.parametrize("mask", ["none", "padding", "bias", "one bias"])
@pytest.mark.parametrize("scores", [1, 2000, 1 << 20])  # row by row, a few rows, all at once
def test_attention_is_torchs_forward_and_backward(
    mask: str, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frozen, "_SCORES", scores)
    torch.manual_seed(1)
    batch, heads, tokens = 5, 3, 13
    inputs = [torch.randn(batch, tokens, heads, 8).transpose(1, 2) for _ in range(3)]
    upstream, attends = torch.randn(batch, heads, tokens, 8), masks(mask, batch, heads, tokens)
    ours = outputs_and_gradients(lambda q, k, v: attend(q, k, v, attends, Products()), inputs, upstream)
    theirs = outputs_and_gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attends), inputs, upstream
    )
    with torch.no_grad():
        assert torch.equal(attend(*inputs, attends, Products()), ours[0])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_attention_leaves_torchs_settings_as_they_were() -> None:
    setting = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = setting.fp32_precision
    with pytest.raises(RuntimeError):
        attend(*(torch.randn(1, 2, 4, 8) for _ in range(3)), torch.randn(1, 2, 4, 5), Products())
    assert setting.fp32_precision == before


def test_hidden_states_are_float32_whatever_the_precision(
    classifier: Classifier, instances: list[Instance]
) -> None:
    batch, layers = classifier.batch(instances), list(range(classifier.n_layers + 1))
    exact = classifier.hidden_states(batch, layers)
    classifier = classifier.in_precision("bf16")
    ours = classifier.hidden_states(batch, layers)
    assert all(torch.equal(ours[layer], exact[layer]) for layer in layers)
    attends = classifier.post_norm.attends(batch.key_mask, ours[0].shape[1])
    for layer in layers[:-1]:
        further = classifier.post_norm.advance(ours[layer], attends, layer, layer + 1)
        assert not torch.equal(further, exact[layer + 1]), "what a caller computes from them is bfloat16"


def test_gradient_methods_compute_the_first_two_thirds_in_float32(
    classifier: Classifier, instances: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four layers three; going back, all of them are bfloat16."""
    classifier = classifier.in_precision("bf16")
    number = {
        id(part): depth
        for depth, block in enumerate(classifier.blocks, start=1)
        for part in (block.attention_output, block.intermediate, block.output)
    }
    forward, backward = set(), set()
    multiply, multiply_back = FrozenLinear.multiply, FrozenLinear.multiply_back

    def watched(layer: FrozenLinear, x: Tensor) -> Tensor:
        forward.add((number.get(id(layer)), x.dtype))
        return multiply(layer, x)

    def watched_back(layer: FrozenLinear, grad: Tensor) -> Tensor:
        backward.add((number.get(id(layer)), grad.dtype))
        return multiply_back(layer, grad)

    monkeypatch.setattr(FrozenLinear, "multiply", watched)
    monkeypatch.setattr(FrozenLinear, "multiply_back", watched_back)
    IntegratedGradients().attribute(
        classifier, classifier.batch(instances), torch.zeros(len(instances), dtype=torch.long)
    )
    exact = {1: torch.float32, 2: torch.float32, 3: torch.float32, 4: BF16}
    assert {found for found in forward if found[0]} == set(exact.items())
    assert {found for found in backward if found[0]} == {(depth, BF16) for depth in exact}


def test_gradient_methods_in_bfloat16_are_close_to_float32(
    classifier: Classifier, instances: list[Instance]
) -> None:
    batch = classifier.batch(instances)
    target = torch.zeros(len(instances), dtype=torch.long)
    method = IntegratedGradients()
    exact = method.attribute(classifier, batch, target)
    classifier = classifier.in_precision("bf16")
    ours = method.attribute(classifier, batch, target)
    assert not torch.equal(ours.scores, exact.scores)
    torch.testing.assert_close(
        ours.scores, exact.scores, rtol=0.02, atol=0.02 * exact.scores.abs().max().item()
    )
    with exact_forward():
        accurate = classifier.probabilities(batch)
    rough = classifier.probabilities(batch)
    classifier = classifier.in_precision("fp32")
    assert torch.equal(accurate, classifier.probabilities(batch))
    assert not torch.equal(rough, accurate)
