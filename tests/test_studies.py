"""Studies: a point is the cell it stands for, work is shared, rows and cuts are those that were asked for."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from composing import composed
from composing import configured as smoke
from omegaconf import DictConfig

from baselines.integrated_gradients import IntegratedGradients
from iba.attribution import InformationBottleneck
from iba.attributor import Attribution
from iba.data.tokens import TokenBatch
from iba.errors import UserError
from iba.models.classifier import Classifier
from iba.models.postnorm import PostNorm
from iba.pipeline import attribute, degrade, finetune, study
from iba.pipeline.experiment import Value, View
from iba.pipeline.studies import study_cells, study_rows
from iba.pipeline.task import Task
from iba.pipeline.views import StoredCell, stored_cells

STUDIES = ("layers", "betas", "classifiers", "targets", "token_layers", "operators")


def configured(folder: Path, *overrides: str, only: str | None = None) -> DictConfig:
    """A smoke run on planted text whose studies are those of `STUDIES` (or one of them), one protocol."""
    fixed = [
        "protocol=described", "method=[iba,ig,random]", f"study=[{','.join(STUDIES)}]",
        *(f"study.{name}.datasets=[planted]" for name in STUDIES),
        *(f"study.{name}.protocols=[described]" for name in STUDIES),
        *(f"study.{name}.methods=[ig,random]" for name in ("classifiers", "operators")),
        "study.targets.methods=[ig]", "study.betas.values=[0.01,1.0]", 
    ]  # fmt: skip
    cfg = smoke(folder, *fixed, *overrides)
    if only:
        cfg.study = {only: cfg.study[only]}
    return cfg


def point(
    cfg: DictConfig, study: str | None, method: str, value: Value | None = None, **other: str
) -> StoredCell:
    """The cell that a study's point (or, without a study, Table 1) is a name for."""
    view = View(3, study, value, other.get("protocol", "described"), "planted", method)
    (found,) = [cell for cell in stored_cells(cfg) if cell.view == view]
    return found


def rows(
    cfg: DictConfig, study: str | None, method: str, value: Value | None = None, **other: str
) -> pd.DataFrame:
    return point(cfg, study, method, value, **other).degradation()


def scores(cfg: DictConfig, study: str | None, method: str, value: Value | None = None) -> pd.DataFrame:
    found = point(cfg, study, method, value).scores()
    assert found is not None
    return found


def folder(cfg: DictConfig) -> Path:
    return Path(cfg.paths.results).parent


def attributed_ids(cfg: DictConfig) -> list[str]:
    (path,) = Path(cfg.paths.results).rglob("classifier.parquet")
    predicted = pd.read_parquet(path)
    return list(predicted.instance_id[predicted.attributed])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    """All stages, and every study but the one of single examples."""
    cfg = configured(tmp_path_factory.mktemp("studies"))
    for stage in (finetune, attribute, degrade):
        stage.run(cfg)
    study.run(cfg)
    return cfg


def copied(cfg: DictConfig, folder: Path) -> Path:
    """A folder with the run's classifier and predictions, but no attributions."""
    shutil.copytree(Path(cfg.paths.cache), folder / "cache")
    part = Path(cfg.run, "planted", "classifiers")
    shutil.copytree(Path(cfg.paths.results) / part, folder / "results" / part)
    return folder


@pytest.mark.usefixtures("unchecked")
def test_a_point_is_the_cell_that_it_stands_for(finished: DictConfig, tmp_path: Path) -> None:
    alone = configured(copied(finished, tmp_path), "method=iba", "method.iba.settings.layer=2")
    attribute.run(alone)
    degrade.run(alone)
    point = rows(finished, "layers", "iba", 2)
    expected = rows(alone, None, "iba")
    # The study does not walk the curve least-first; the rows that both have are equal.
    keys = ["instance_id", "order", "grid", "step"]
    both = point.merge(expected, on=keys, suffixes=("", "_alone"))
    assert len(both) == len(point)
    np.testing.assert_array_equal(both.prob_target, both.prob_target_alone)


def test_every_layer_and_the_references_are_there(finished: DictConfig) -> None:
    found = [c.view for c in stored_cells(finished) if c.view.study == "layers"]
    assert {v.value for v in found if v.method == "iba"} == {1, 2, 3, 4}
    assert [v.value for v in found if v.method == "random"] == [None]


def test_a_point_that_is_the_cell_of_table_1_is_that_cell(finished: DictConfig) -> None:
    tuned = point(finished, "classifiers", "ig", "fine-tuned")
    assert (
        tuned.folder == point(finished, None, "ig").folder == point(finished, "targets", "ig", "gold").folder
    )
    assert tuned.curves != point(finished, None, "ig").curves, "degraded in one order alone"
    assert point(finished, "classifiers", "ig", "random").folder != tuned.folder


@pytest.mark.usefixtures("unchecked")
def test_what_is_alike_under_two_protocols_is_computed_once(
    finished: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IG explains the gold class and another one; untuned, its settings are the same under both protocols."""
    two = ["protocol=[described,corrected]", "study.targets.protocols=[described,corrected]"]
    two += ["protocol.corrected.methods.ig.tries=[]"]
    cfg = configured(copied(finished, tmp_path), *two, only="targets")
    explained: list[int] = []
    attribute_alone = IntegratedGradients.attribute

    def counted(self: IntegratedGradients, classifier: Any, batch: TokenBatch, target: Any) -> Attribution:
        explained.append(len(batch))
        return attribute_alone(self, classifier, batch, target)

    monkeypatch.setattr(IntegratedGradients, "attribute", counted)
    study.run(cfg)
    assert sum(explained) == 2 * len(attributed_ids(cfg))
    for target in ("gold", "other"):
        first, second = (point(cfg, "targets", "ig", target, protocol=p) for p in ("described", "corrected"))
        assert first.cell == second.cell


@pytest.mark.usefixtures("unchecked")
def test_hidden_states_are_computed_once_for_all_layers(
    finished: DictConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cfg = configured(copied(finished, tmp_path), only="layers")
    shutil.rmtree(tmp_path / "cache" / "fitted")
    passes: list[str] = []
    asked: list[str] = []
    ask, compute = Classifier.hidden_states, PostNorm.hidden_states

    def noted(self: Classifier, batch: TokenBatch, layers: list[int]) -> object:
        asked[:] = [instance.id for instance in batch.instances]
        return ask(self, batch, layers)

    def counted(self: PostNorm, *others: object) -> object:
        passes.extend(asked)
        return compute(self, *others)

    monkeypatch.setattr(Classifier, "hidden_states", noted)
    monkeypatch.setattr(PostNorm, "hidden_states", counted)
    study.run(cfg)
    assert sorted(i for i in passes if i.startswith("test")) == sorted(attributed_ids(cfg))
    n_training = int(cfg.dataset.planted.n_train)
    assert sum(i.startswith("train") for i in passes) == n_training, "noise statistics of all layers at once"
    (said,) = (line for line in capsys.readouterr().out.splitlines() if "[CLS] alone" in line)
    assert "iba 4: after layer 4, the last" in said


@pytest.mark.usefixtures("unchecked")
def test_killed_half_way_a_study_goes_on(
    finished: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = configured(copied(finished, tmp_path), only="betas")
    original, calls = InformationBottleneck.attribute, []

    def stops(self: InformationBottleneck, *args: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(InformationBottleneck, "attribute", stops)
        with pytest.raises(KeyboardInterrupt):
            study.run(cfg)
    study.run(cfg)
    for value in (0.01, 1.0):
        one, other = (rows(each, "betas", "iba", value) for each in (cfg, finished))
        pd.testing.assert_frame_equal(one, other)


def test_an_untrained_classifier_is_explained_but_the_trained_one_is_asked(finished: DictConfig) -> None:
    tuned, random = (rows(finished, "classifiers", "ig", w) for w in ("fine-tuned", "random"))
    start = {
        name: table[(table.grid == "curve") & (table.step == 0)].set_index("instance_id").prob_target
        for name, table in (("tuned", tuned), ("random", random))
    }
    pd.testing.assert_series_equal(start["tuned"], start["random"])
    found = [scores(finished, "classifiers", "ig", w).scores.map(tuple) for w in ("fine-tuned", "random")]
    assert not found[0].equals(found[1])


def test_another_class_is_explained_but_the_gold_one_is_measured(finished: DictConfig) -> None:
    gold, other = (rows(finished, "targets", "ig", t) for t in ("gold", "other"))
    assert scores(finished, "targets", "ig", "other").eval("target != label").all()
    start = [t[(t.grid == "curve") & (t.step == 0)].prob_target.to_numpy() for t in (gold, other)]
    np.testing.assert_array_equal(*start)
    assert (gold.target.to_numpy() == other.target.to_numpy()).all()


def test_all_operators_and_orders_on_the_stored_scores(finished: DictConfig) -> None:
    table = rows(finished, "operators", "ig")
    assert set(table.operator) == {"delete", "mask", "attention"}
    assert set(table.order[table.grid == "curve"]) == {"most", "least"}


def test_chosen_rows_own_texts_and_a_cut(finished: DictConfig, tmp_path: Path) -> None:
    chosen = attributed_ids(finished)[1]
    own = "{text: 'a very nice day for everyone', label: negative}"
    label = finished.dataset.planted.labels[0]
    cfg = configured(
        copied(finished, tmp_path), f'+study.token_layers.ids.planted=["{chosen}"]',
        f"+study.token_layers.texts.planted=[{own.replace('negative', label)}]",
        "study.token_layers.max_length=6", only="token_layers")  # fmt: skip
    study.run(cfg)
    found = scores(cfg, "token_layers", "iba", 3)
    assert list(found.instance_id) == [chosen, "text:0"]
    assert [len(tokens) for tokens in found.tokens] == [6, 6]
    assert found.label.iloc[1] == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            '+study.token_layers.ids.planted=["test:99999"]',
            "test:99999 is not among the attributed test rows",
        ),
        ("+study.token_layers.texts.planted=[{text: a, label: maybe}]", "label 'maybe' is not one of"),
        ("+study.token_layers.texts.planted=[{text: a, text_pair: b, label: positive}]", "needs text alone"),
        ("study.token_layers.vary=temperature", "has no setting 'temperature'"),
        ("study.token_layers.methods=[lime]", "needs method lime, which is not selected"),
    ],
)
def test_a_users_mistakes(finished: DictConfig, override: str, message: str) -> None:
    cfg = configured(folder(finished), "study.token_layers.values=[1]",
                     override, only="token_layers")  # fmt: skip
    with pytest.raises(UserError, match=message):
        study.run(cfg)


def test_a_study_may_choose_beta_on_fewer_held_out_rows(finished: DictConfig) -> None:
    cfg = configured(folder(finished), "study.layers.n_calibration=3", only="layers")
    task = Task.open(cfg, "planted")
    all_rows, found = task.samples, task.on(study_rows(cfg, cfg.study.layers, "planted")).samples
    assert len(all_rows.calibration) > 3
    assert found.calibration.ids == all_rows.calibration.ids[:3]
    assert found.test == all_rows.test


def test_unknown_weights(finished: DictConfig) -> None:
    cfg = configured(folder(finished), "study.classifiers.values=[tuned]", only="classifiers")
    with pytest.raises(UserError, match="weights 'tuned' is none of"):
        study.run(cfg)


def test_unknown_target(finished: DictConfig) -> None:
    """Any other word would be explained as the predicted class."""
    cfg = configured(folder(finished), "study.targets.values=[othr]", only="targets")
    with pytest.raises(UserError, match="target 'othr' is none of gold, predicted"):
        study.run(cfg)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("study.targets.values=[gold,othr]", "target 'othr' is none of gold, predicted"),
        ("+study.targets.ids.planted=[test:x]", "planted row test:x is not among the attributed test rows"),
    ],
)
def test_a_mistake_in_the_last_study_is_named_before_the_first_is_computed(
    finished: DictConfig, monkeypatch: pytest.MonkeyPatch, change: str, expected: str
) -> None:
    cfg = configured(folder(finished), change)
    monkeypatch.setattr(study, "run_study", lambda *_: pytest.fail("a study was computed"))
    assert next(iter(cfg.study)) != "targets"
    with pytest.raises(UserError, match=expected):
        study.run(cfg)


def test_a_study_of_other_data_sets_says_so(finished: DictConfig, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = configured(folder(finished), "study.layers.datasets=[imdb]", only="layers")
    study.run(cfg)
    assert "study layers: none of its data sets (imdb) is selected" in capsys.readouterr().out


def test_a_bench_explains_other_weights_of_the_same_shape(finished: DictConfig) -> None:
    task = Task.open(finished, "planted")
    models = [task.explaining(w).model for w in ("fine-tuned", "pretrained", "random")]
    shapes = [{name: p.shape for name, p in m.named_parameters()} for m in models]
    assert shapes[0] == shapes[1] == shapes[2]
    assert task.explaining("fine-tuned") is task.classifier


def test_a_study_has_settings_protocols_and_a_sample_of_its_own(finished: DictConfig) -> None:
    cfg = composed("preset=cpu", "study=[token_classifiers,betas]")
    assert {c.settings["layer"] for c in study_cells(cfg, cfg.study.token_classifiers, "imdb", 12)} == {0.5}
    assert {c.view.protocol for c in study_cells(cfg, cfg.study.betas, "imdb", 12)} == {
        "described",
        "released",
    }
    few = configured(folder(finished), "+study.layers.n_test.planted=4", only="layers")
    task = Task.open(few, "planted")
    sample = task.on(study_rows(few, few.study.layers, "planted")).samples
    assert sample.drawn == task.samples.drawn[:4]
