"""The same scores on every device. On a machine with a GPU: `TEST_CUDA=1 pytest tests/test_devices.py`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from baselines.attattr import AttentionAttribution
from baselines.attention_rollout import AttentionRollout
from baselines.attention_write_bottleneck import AttentionWriteBottleneck
from baselines.globenc import GlobEnc
from baselines.grad_x_input import GradientTimesInput
from baselines.hidden_norm import HiddenNorm
from baselines.information_flow_routes import InformationFlowRoutes
from baselines.integrated_gradients import IntegratedGradients
from baselines.lime_tokens import LimeTokens
from baselines.saliency import Saliency
from baselines.token_gate import TokenGate
from iba.attribution import InformationBottleneck
from iba.attributor import Attributor, FitData, State
from iba.benchmark.operations import Attribute, Degrade
from iba.benchmark.reference import ReferenceModel
from iba.data.tokens import Instance
from iba.models import frozen
from iba.models.classifier import Classifier
from iba.models.frozen import FrozenLinear, Products, attend
from iba.models.parallel import grouped
from iba.models.postnorm import PostNorm

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and TEST_CUDA=1")
METHODS: dict[str, Attributor] = {
    "iba_features": InformationBottleneck(2, beta=0.1, noise="features", n_steps=4, n_copies=3),
    "iba_layer_input": InformationBottleneck(3, beta=1e-4, noise="layer_input", n_steps=4, n_copies=3),
    "lime": LimeTokens(n_samples=40),
    "ig": IntegratedGradients(n_steps=6),
}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=needs_cuda)])
def device(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def plain(classifier: Classifier) -> ReferenceModel:
    """The plain float32 model, on the CPU."""
    return ReferenceModel(classifier)


@pytest.fixture
def there(classifier: Classifier, plain: ReferenceModel, device: str) -> Classifier:
    """The same classifier on the device."""
    return Classifier(classifier.model, classifier.tokenizer, device)


def fitted(name: str, classifier: Classifier, instances: list[Instance]) -> Attribute:
    method = METHODS[name]
    return Attribute(name, method, method.fit(classifier, FitData(instances)))


@pytest.mark.parametrize("name", METHODS)
def test_scores_are_the_plain_models_on_the_cpu(
    name: str, there: Classifier, plain: ReferenceModel, instances: list[Instance]
) -> None:
    operation = fitted(name, there, instances)
    for scores, instance in zip(operation.ours(there, instances), instances, strict=True):
        theirs = operation.theirs(plain, instance)
        np.testing.assert_allclose(scores, theirs, rtol=5e-3, atol=1e-4 * np.abs(theirs).max())


def test_degradation_is_the_plain_models_on_the_cpu(
    there: Classifier, plain: ReferenceModel, instances: list[Instance]
) -> None:
    operation = Degrade(np.linspace(0, 1, 10).tolist())
    for curve, instance in zip(operation.ours(there, instances), instances, strict=True):
        np.testing.assert_allclose(curve, operation.theirs(plain, instance), atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_bfloat16_ranks_tokens_as_float32_does(
    name: str, there: Classifier, instances: list[Instance]
) -> None:
    operation = fitted(name, there, instances)
    exact = operation.ours(there, instances)
    there = there.in_precision("bf16")
    low = operation.ours(there, instances)
    correlations = [spearmanr(a, b).statistic for a, b in zip(exact, low, strict=True)]
    assert np.median(correlations) > 0.98
    assert any((a != b).any() for a, b in zip(exact, low, strict=True)), "precision must have changed"


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_gives_each_instance_what_it_gets_alone(
    name: str, there: Classifier, instances: list[Instance]
) -> None:
    operation = fitted(name, there, instances)
    alone = [operation.ours(there, [instance])[0] for instance in instances]
    for one, many in zip(alone, operation.ours(there, instances), strict=True):
        np.testing.assert_allclose(many, one, rtol=5e-3, atol=1e-4 * np.abs(one).max())


@needs_cuda
def test_a_group_too_large_for_the_gpu_is_halved() -> None:
    room, member = 2 << 30, 1 << 28
    total = torch.cuda.get_device_properties(0).total_memory
    sizes: list[int] = []

    def work(group: list[int]) -> None:
        sizes.append(len(group))
        torch.empty(len(group), member, dtype=torch.uint8, device="cuda")

    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        done = [position for group, _ in grouped([1] * 20, 20, work) for position in group]
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert sizes[0] == 20
    assert sorted(done) == list(range(20))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "method",
    [
        *(METHODS[name] for name in ("iba_features", "iba_layer_input", "ig")),
        Saliency(),
        GradientTimesInput(),
        TokenGate(2, beta=0.1, n_steps=2, n_copies=3),
        HiddenNorm(2),
        AttentionAttribution(n_steps=2),
        AttentionRollout(),
        AttentionWriteBottleneck(beta=0.1, n_steps=2),
        GlobEnc(),
        InformationFlowRoutes(),
    ],
    ids=lambda method: type(method).__name__,
)
def test_everything_happens_on_the_classifiers_device(
    method: Attributor,
    precision: str,
    classifier: Classifier,
    instances: list[Instance],
) -> None:
    """On "meta", a device without numbers: it runs what a GPU runs.

    An operand left on the CPU fails, and so does every question that a GPU would have to be waited for.
    """
    width, n_layers = classifier.hidden_size, classifier.n_layers
    state: State = {
        "noise_mean": torch.zeros(width),
        "noise_std": torch.ones(width),
        "message_mean": torch.zeros(n_layers, width),
        "message_std": torch.ones(n_layers, width),
        "beta": torch.tensor(0.1),
    }
    method.restore(state)
    elsewhere = without_numbers(classifier, precision)
    batch = elsewhere.batch(instances)
    found = method.attribute(elsewhere, batch, torch.zeros(len(instances), dtype=torch.long, device="meta"))
    assert found.scores.shape == batch.input_ids.shape
    for tensor in (found.scores, *found.per_token.values(), *found.per_instance.values()):
        assert tensor.device.type == "meta"
        assert tensor.dtype == torch.float32


def without_numbers(classifier: Classifier, precision: str) -> Classifier:
    """The same on "meta"; the fast path is not tried there, since nothing can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "iba.models.classifier.runner_of", lambda model, _, products, *__: PostNorm(model, products)
        )
        return Classifier(classifier.model, classifier.tokenizer, "meta", precision)


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("mask", [torch.bool, torch.float32, None])
def test_a_gpus_attention_gets_its_bias_in_the_type_of_its_query(
    kind: torch.dtype, mask: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's fused kernels refuse any other; MPNet's bias is float32 whatever the precision."""
    seen, fused = [], F.scaled_dot_product_attention

    def watched(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, bias: Any) -> torch.Tensor:
        seen.append(None if bias is None else bias.dtype)
        return fused(query, key, value, bias)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    query = torch.randn(2, 3, 5, 8, dtype=kind, device="meta")
    attends = None if mask is None else torch.ones(2, 1, 5, 5, dtype=mask, device="meta")
    assert attend(query, query, query, attends, Products()).dtype == kind
    assert seen == [kind if mask == torch.float32 else mask]


def test_a_bias_that_hides_padding_hides_it_in_bfloat16(device: str) -> None:
    """The lowest float32 number, which MPNet's bias holds there, is −∞ in bfloat16: no weight, and no NaN."""
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 8, device=device).bfloat16() for _ in range(3))
    hidden = torch.arange(5, device=device) >= 3
    bias = torch.randn(1, 3, 5, 5, device=device).masked_fill(hidden, torch.finfo(torch.float32).min)
    whole = attend(query, key, value, bias, Products())
    cut = attend(query, key[:, :, :3], value[:, :, :3], bias[..., :3], Products())
    torch.testing.assert_close(whole, cut, rtol=0.02, atol=0.02)
    unbiased = attend(query, key[:, :, :3], value[:, :, :3], None, Products())
    assert not torch.allclose(whole, unbiased, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("differentiated", [True, False])
@pytest.mark.parametrize("tf32", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_tensor_cores_round_float32_only_where_allowed_and_bfloat16_asked_for(
    differentiated: bool, tf32: bool, precision: str, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Setting:
        fp32_precision = "ieee"

    monkeypatch.setattr(frozen, "_TENSOR_CORES", frozen._Precision(Setting, "tf32"))
    seen, linear = [], F.linear

    def watched(x: torch.Tensor, *others: Any) -> torch.Tensor:
        seen.append((x.dtype, Setting.fp32_precision))
        return linear(x, *others)

    elsewhere = without_numbers(classifier, precision)
    hidden = torch.randn(2, 3, elsewhere.hidden_size, device="meta", requires_grad=differentiated)
    monkeypatch.setattr(F, "linear", watched)
    with frozen.exact_forward(tf32=tf32):
        elsewhere.blocks[0](hidden, None)
    allowed = "tf32" if tf32 and precision == "bf16" else "ieee"
    assert seen == [(torch.float32, allowed)] * 4
    assert Setting.fp32_precision == "ieee"


def test_a_gpu_multiplies_once_for_queries_keys_and_values(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four products a block; no weight of the three is prepared by itself."""
    elsewhere = without_numbers(classifier, "bf16")
    block, multiplied, multiply = elsewhere.blocks[0], [], FrozenLinear.multiply

    def watched(layer: FrozenLinear, x: torch.Tensor) -> torch.Tensor:
        multiplied.append(layer)
        return multiply(layer, x)

    monkeypatch.setattr(FrozenLinear, "multiply", watched)
    block(torch.randn(2, 3, elsewhere.hidden_size, device="meta"), None)
    assert multiplied == [block.side_by_side, block.attention_output, block.intermediate, block.output]
    assert not any(part._weights for part in (block.query, block.key, block.value))
