"""Settings that cannot mean anything: one line names each before data or weights are read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from composing import ROOT, changed, composed
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from iba.errors import UserError
from iba.pipeline.checks import check_explaining, check_settings
from iba.pipeline.experiment import selected
from iba.pipeline.studies import refuse_unknown_points
from iba.settings import check_arguments

STUDIES = sorted({p.stem for p in (ROOT / "configs/study").glob("*.yaml")} - {"base"})
ALL_STUDIES = f"study=[{','.join(STUDIES)}]"


@pytest.fixture(scope="module")
def everything() -> DictConfig:
    """All methods and studies on generated text."""
    chosen = ["dataset=planted", "protocol=[described,released]", "method=all", ALL_STUDIES]
    cfg = composed("preset=smoke", *chosen)
    for study in cfg.study.values():
        study.datasets, study.protocols = ["planted"], None
    return cfg


def with_changes(everything: DictConfig, changes: str) -> DictConfig:
    """With Hydra's `changes` (a blank between them); of the members only those that they name stay."""
    studies = [name for name in everything.study if f"study.{name}." in changes]
    wanted = {
        "study": studies,
        "method": ["random", *(name for study in studies for name in everything.study[study].methods)],
        "protocol": ["released" if "padding" in studies else "described"],
    }
    parts = {
        group: {n: m for n, m in everything[group].items() if n in names or f".{n}." in changes}
        for group, names in wanted.items()
    }
    rest = {name: everything._get_node(name) for name in everything if name not in parts}
    cfg = OmegaConf.create(rest | parts)
    changed(cfg, *changes.split())
    return cfg


def check(cfg: DictConfig) -> None:
    """What every stage checks, and the studies."""
    check_settings(cfg)
    for study in selected(cfg.study).values():
        refuse_unknown_points(cfg, study)


def refused(cfg: DictConfig) -> str:
    """The one line."""
    with pytest.raises(UserError) as caught:
        check(cfg)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _of_methods() -> Iterator[tuple[str, str]]:
    """Every number of every method, in values that are none of its kind."""
    counts = {
        "attattr": ["n_steps"],
        "attention_flow": ["resolution"],
        "attention_write_bottleneck": ["n_steps", "n_copies", "n_statistics"],
        "hidden_norm": ["n_statistics"],
        "iba": ["n_steps", "n_copies", "n_statistics"],
        "iba_readout": ["n_training_steps", "batch_size", "n_statistics"],
        "ig": ["n_steps", "internal_batch_size"],
        "kernel_shap": ["n_samples"],
        "lime": ["n_samples"],
        "token_gate": ["n_steps", "n_copies", "n_statistics"],
    }
    for method, settings in counts.items():
        for setting in settings:
            for value in ("0", "-1", "1.5", "abc", "true", "null"):
                yield f"method.{method}.settings.{setting}", value
    for method in ("iba", "token_gate", "iba_readout", "attention_write_bottleneck"):
        for value in ("-1", "nan", "inf", "abc", "null", "true"):
            yield f"method.{method}.settings.beta", value
        for value in ("0", "-1", "1e30", "nan", "abc"):
            yield f"method.{method}.settings.learning_rate", value
        for value in ("nan", "inf", "abc", "null"):
            yield f"method.{method}.settings.alpha_init", value
    for method in ("iba", "token_gate", "iba_readout", "hidden_norm"):
        for value in ("0", "-1", "1.5", "abc", "true", "null", "nan"):
            yield f"method.{method}.settings.layer", value
    for method in ("iba", "iba_readout", "kernel_shap", "lime", "random"):
        for value in ("-1", "1.5", "abc", str(2**70), "null"):
            yield f"method.{method}.settings.seed", value
    for value in ("3", "abc", "null"):
        yield "method.saliency.settings.norm", value
    for value in ("1", "abc", "null"):
        yield "method.ig.settings.normalise", value
    for value in ("[]", "[2.5]", "0.5", "[abc]"):
        yield "method.iba_readout.settings.depths", value
    yield "method.iba.settings.noise", "feature"
    yield "method.iba.settings.readout", "last"
    yield "method.globenc.settings.parts", "whole"
    yield "method.hidden_norm.settings.of", "depth"


@pytest.mark.parametrize(("setting", "value"), [*_of_methods()])
def test_a_methods_settings_are_what_its_constructor_declares(
    everything: DictConfig, setting: str, value: str
) -> None:
    _, method, _, name = setting.split(".")
    given = OmegaConf.to_container(everything.method[method].settings)
    assert isinstance(given, dict)
    made = get_class(given.pop("_target_"))
    given = {key: 1 if "${" in str(old) else old for key, old in given.items()}
    assert check_arguments("", given, made) == given
    wrong = OverridesParser.create().parse_override(f"{name}={value}").value()
    with pytest.raises(UserError) as caught:
        check_arguments(f"method.{method}.settings", given | {name: wrong}, made)
    assert str(caught.value).startswith(setting)
    assert " must be " in str(caught.value) or " must have " in str(caught.value)


#: A line each: the change, and the line that it is answered with, or its beginning.
MISTAKES = (ROOT / "tests/mistakes.txt").read_text().splitlines()


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.partition(" |")[0].strip())
def test_a_mistake_is_one_line(everything: DictConfig, mistake: str) -> None:
    changes, _, expected = (part.strip() for part in mistake.partition(" | "))
    line = refused(with_changes(everything, changes))
    assert expected in line
    assert line.endswith(".")


def test_a_missing_setting_is_named(everything: DictConfig) -> None:
    cfg = with_changes(everything, "method.iba.settings.beta=1")
    del cfg.method.iba.settings.layer
    assert refused(cfg) == "method.iba.settings.layer is missing."


SENSIBLE = """
run=mine/seeds/4
run=4
run="a.b-c_d=1"
dataset.planted.n_test=null
dataset.planted.note=null
finetune.schedule=cosine
finetune.warmup=100
degradation.n_points=19
degradation.eraser_shares=[]
method.iba.settings.layer=4
method.iba.settings.layer=0.5
method.iba.settings.beta=0
method.iba.settings.beta=rule
method.iba.settings.seed=${seed}
method.iba.settings.learning_rate=1
+method.ig.n_test.planted=3
+method.ig.n_test.planted=null
method.attattr.n_test={planted:2}
+method.nobody.n_test={planted:2}
study.betas.n_test.planted=null
study.betas.texts.planted=[{text:a,label:positive}]
study.ig_steps.vary=normalise study.ig_steps.values=[true,false]
study.betas.datasets=[nowhere]
only=[tables,html]
shard=3/4
seed=4294967295
fast=false
fast=true
layers=model.layers
""".strip().splitlines()


@pytest.mark.parametrize("changes", SENSIBLE)
def test_what_has_a_meaning_is_allowed(everything: DictConfig, changes: str) -> None:
    check(with_changes(everything, changes))


@pytest.mark.parametrize("group", ["dataset", "method", "protocol"])
def test_nothing_selected_is_refused(group: str) -> None:
    cfg = composed("preset=smoke", f"{group}=[]", "study=[]")
    assert refused(cfg).startswith(f"{group} must have at least 1 item")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("max_length=0", "max_length=0 must be greater than or equal to 4"),
        ("seed=-1", "seed=-1 must be"),
        ("token_budget=0", "token_budget=0 must be"),
        ("precision=fp8", "precision=fp8 must be"),
        ("fast=never", "fast=never must be 'auto' or be a valid boolean"),
        ("layers=3", "layers=3 must be"),
        ("unit=letters", "unit=letters must be 'words' or 'pieces'"),
        ("device=meta", "device=meta cannot be used"),
        ("method.iba.settings.n_steps=0", "method.iba.settings.n_steps=0 must be"),
        ("method.iba.settings.beta=abc", "method.iba.settings.beta=abc must be"),
        ("method.ig.settings.n_steps=abc", "method.ig.settings.n_steps=abc must be"),
        (
            "method.attention_write_bottleneck.settings.beta=rule",
            "attention_write_bottleneck.settings.beta=rule must be a valid number",
        ),
    ],
)
def test_mistakes_of_explain_are_one_line(change: str, expected: str) -> None:
    chosen = ["text=a", "model_dir=nowhere", "method=[iba,ig,attention_write_bottleneck]"]
    cfg = composed(*chosen, config="explain")
    check_explaining(cfg, "text", "explain")
    changed(cfg, change)
    with pytest.raises(UserError) as caught:
        check_explaining(cfg, "text", "explain")
    assert expected in str(caught.value)
