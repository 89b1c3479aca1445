"""What every related system must satisfy, and that every configured method can be made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from composing import composed
from omegaconf import OmegaConf
from toys import fitted

from baselines.attattr import AttentionAttribution
from baselines.attention_flow import AttentionFlow
from baselines.attention_rollout import AttentionRollout
from baselines.attention_write_bottleneck import (
    AttentionWriteBottleneck,
)
from baselines.globenc import GlobEnc
from baselines.grad_x_input import GradientTimesInput
from baselines.hidden_norm import HiddenNorm
from baselines.iba_readout import ReadoutBottleneck
from baselines.information_flow_routes import InformationFlowRoutes
from baselines.kernel_shap import KernelShap
from baselines.occlusion import Occlusion
from baselines.saliency import Saliency
from baselines.token_gate import TokenGate
from iba.attributor import Attributor, FitData
from iba.data.tokens import Instance, TokenBatch
from iba.models.classifier import Classifier
from iba.pipeline.checks import build
from iba.pipeline.experiment import candidates, cells, datasets

TARGET = torch.tensor([0, 1, 2, 0, 1])

METHODS: dict[str, Callable[[], Attributor]] = {
    "attention_rollout": AttentionRollout,
    "attention_flow": AttentionFlow,
    "globenc": GlobEnc,
    "information_flow_routes": InformationFlowRoutes,
    "attattr": lambda: AttentionAttribution(n_steps=4),
    "iba_readout": lambda: ReadoutBottleneck(
        0.5, beta=1.0, depths=[0.25], n_training_steps=3, batch_size=2, n_statistics=5
    ),
    "attention_write_bottleneck": lambda: AttentionWriteBottleneck(beta=1.0, n_steps=4, max_tokens=64),
    "grad_x_input": GradientTimesInput,
    "saliency": Saliency,
    "occlusion": Occlusion,
    "kernel_shap": lambda: KernelShap(n_samples=12),
    "hidden_norm": lambda: HiddenNorm(0.5),
    "update_norm": lambda: HiddenNorm(0.5, of="update"),
    "token_gate": lambda: TokenGate(0.5, beta=1.0, n_steps=4, n_copies=3, max_tokens=64),
}
CLASSLESS = (
    "attention_rollout",
    "attention_flow",
    "globenc",
    "information_flow_routes",
    "iba_readout",
    "hidden_norm",
    "update_norm",
)


@pytest.mark.parametrize("name", METHODS)
def test_a_batch_gives_each_instance_what_it_gets_alone(
    name: str, classifier: Classifier, instances: list[Instance], data: FitData
) -> None:
    method = fitted(METHODS[name](), classifier, data)
    together = method.attribute(classifier, classifier.batch(instances), TARGET)
    for row, alone in enumerate(instances):
        single = method.attribute(classifier, classifier.batch([alone]), TARGET[row : row + 1])
        expected = single.scores[0]
        torch.testing.assert_close(together.scores[row, : len(alone)], expected, rtol=1e-3, atol=1e-5)
        assert not together.scores[row, len(alone) :].any()
    assert together.scores.isfinite().all()
    assert together.scores.std() > 0


@pytest.mark.parametrize("name", METHODS)
def test_the_class_asked_for_matters_where_the_docstring_says_so(
    name: str, classifier: Classifier, batch: TokenBatch, data: FitData
) -> None:
    method = fitted(METHODS[name](), classifier, data)
    first, second = (method.attribute(classifier, batch, t).scores for t in (TARGET, (TARGET + 1) % 3))
    assert torch.equal(first, second) == (name in CLASSLESS)


@pytest.mark.parametrize("name", METHODS)
def test_the_same_seed_gives_the_same_scores_and_the_global_generator_is_untouched(
    name: str, classifier: Classifier, batch: TokenBatch, data: FitData
) -> None:
    found = []
    for disturbance in (0, 1):
        torch.manual_seed(disturbance)
        before = torch.get_rng_state()
        found.append(fitted(METHODS[name](), classifier, data).attribute(classifier, batch, TARGET).scores)
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*found)


def test_every_configured_method_composes_and_instantiates(repository: Path) -> None:
    names = sorted({path.stem for path in (repository / "configs" / "method").glob("*.yaml")} - {"all"})
    assert set(METHODS) < set(names)
    cfg = composed(f"method=[{','.join(names)}]", "dataset=[rte,imdb]")
    found = [cell for dataset in datasets(cfg) for cell in cells(cfg, dataset)]
    assert {cell.view.method for cell in found} == {*names}
    for cell in found:
        for settings in candidates(cell.settings):
            assert isinstance(build(cell.method_place, settings), Attributor)
    for key in ("name", "label", "color"):
        assert len({OmegaConf.select(cfg.method[n], key).lower() for n in names}) == len(names)
