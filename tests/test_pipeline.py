"""The stages as a user runs them: end to end, sharded, with other batch sizes."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from composing import configured
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraForSequenceClassification,
)

from iba.attributor import Attribution, FitData, State, Unfitted
from iba.data import tokens
from iba.data.examples import Examples
from iba.data.tokens import TokenBatch
from iba.errors import UserError
from iba.evaluation.degradation import Ranked, after_removing
from iba.models.adapter import Adapter
from iba.models.classifier import Classifier
from iba.models.tiny import tiny_tokenizer
from iba.pipeline import attribute, degrade, finetune
from iba.pipeline.attribute import SCORES, folder_of
from iba.pipeline.experiment import Cell, cells
from iba.pipeline.finetune import classifier_folder, classify
from iba.pipeline.parts import Shard, Work, compute_in_parts
from iba.pipeline.task import Task
from iba.pipeline.tuning import prepared
from iba.pipeline.views import StoredCell, classifiers, predictions, stored_cells
from iba.store import TRAINED, read_json, read_parquet, write_json, write_parquet

Configure = Callable[..., DictConfig]
TINY = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}


def run_all(cfg: DictConfig) -> None:
    for stage in (finetune, attribute, degrade):
        stage.run(cfg)


def stored(cfg: DictConfig) -> dict[str, pd.DataFrame]:
    """Every stored table of the run, by its path below the run's folder."""
    root = Path(cfg.paths.results) / cfg.run
    return {str(p.relative_to(root)): pd.read_parquet(p) for p in sorted(root.rglob("*.parquet"))}


def assert_same(
    left: dict[str, pd.DataFrame], right: dict[str, pd.DataFrame], tolerance: float = 0.0
) -> None:
    assert left.keys() == right.keys()
    for name, table in left.items():
        pd.testing.assert_frame_equal(table, right[name], rtol=0, atol=tolerance, check_exact=tolerance == 0)


def by_name(cfg: DictConfig) -> dict[tuple[str, str], StoredCell]:
    """Table 1's cells by protocol and method."""
    return {(c.view.protocol, c.view.method): c for c in stored_cells(cfg) if c.view.study is None}


def scores(cell: StoredCell) -> pd.DataFrame:
    found = cell.scores()
    assert found is not None
    return found


def asked(cfg: DictConfig, protocol: str, method: str) -> Cell:
    return next(c for c in cells(cfg, "planted") if (c.view.protocol, c.view.method) == (protocol, method))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    """A smoke run carried to the end without interruption."""
    cfg = configured(tmp_path_factory.mktemp("finished"))
    run_all(cfg)
    return cfg


def test_tables_hold_what_the_schema_promises(finished: DictConfig) -> None:
    found = by_name(finished)
    assert len(found) == 3 * 4
    rows = found["corrected", "iba"].degradation()
    curve = rows[(rows.grid == "curve") & (rows.order == "most")]
    assert (curve.groupby("instance_id").size() == 10).all()
    shares = rows[rows.grid == "eraser"].pivot(
        index=["instance_id", "step"], columns="order", values="n_removed"
    )
    emptied = curve[curve.step == 9].set_index("instance_id").n_removed
    np.testing.assert_array_equal(shares.sum(axis=1), emptied[shares.index.get_level_values(0)])
    starts = curve[curve.step == 0].set_index("instance_id").prob_target
    (trained,) = Path(finished.paths.results).rglob("classifier.parquet")
    gold = pd.read_parquet(trained).set_index("instance_id").prob_gold
    np.testing.assert_allclose(starts, gold[starts.index], atol=1e-6)


def test_every_method_ends_at_the_same_emptied_text(finished: DictConfig) -> None:
    tables = [cell.degradation() for cell in by_name(finished).values()]
    last = [
        t[(t.grid == "curve") & (t.step == 9)].set_index(["instance_id", "order"]).prob_target for t in tables
    ]
    for table in last[1:]:
        np.testing.assert_allclose(table, last[0][table.index], atol=1e-6)


def test_a_finished_run_is_not_touched_again(finished: DictConfig) -> None:
    root = Path(finished.paths.results)
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}
    run_all(finished)
    assert before == {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file()}


def test_what_a_protocol_does_not_change_is_one_cell(finished: DictConfig) -> None:
    found = {name: cell.cell for name, cell in by_name(finished).items()}
    assert len({found[protocol, "random"] for protocol in ("described", "released", "corrected")}) == 1
    assert found["described", "iba"] != found["released", "iba"] != found["corrected", "iba"]
    assert len(list(Path(finished.paths.results).rglob(SCORES))) == len(set(found.values())) < 3 * 4


@pytest.mark.usefixtures("unchecked")
def test_results_do_not_depend_on_batching(finished: DictConfig, anew: Configure, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache" / "fitted")
    cfg = anew("token_budget=160", "part_size=2")
    run_all(cfg)
    left, right = stored(finished), stored(cfg)
    assert left.keys() == right.keys()
    for name, table in left.items():
        numbers = table.select_dtypes("number").columns
        np.testing.assert_allclose(table[numbers], right[name][numbers], atol=2e-3, err_msg=name)


@pytest.mark.usefixtures("unchecked")
def test_shards_together_equal_one_process(finished: DictConfig, anew: Configure, tmp_path: Path) -> None:
    for stage in (finetune, attribute, degrade):
        stage.run(anew("shard=1/2"))
        # Random scores are the same under all protocols: two processes compute them once as well.
        assert len({path.parts[-3] for path in tmp_path.rglob("random/*/parts/*")}) == (stage is not finetune)
        stage.run(anew("shard=0/2"))
    assert_same(stored(finished), stored(anew()))


@pytest.fixture
def anew(finished: DictConfig, tmp_path: Path) -> Configure:
    """Configures a run in `tmp_path` that has the finished one's classifier, but no results."""
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache")
    return partial(configured, tmp_path)


def copied(finished: DictConfig, folder: Path) -> None:
    for part in ("cache", "results"):
        shutil.copytree(Path(finished.paths.results).parent / part, folder / part)


def test_other_settings_are_another_cell(finished: DictConfig, tmp_path: Path) -> None:
    copied(finished, tmp_path)
    few = ["method=random", "protocol=described"]
    usual, other = configured(tmp_path, *few), configured(tmp_path, *few, "method.random.settings.seed=7")
    assert ("described", "random") not in by_name(other)
    run_all(other)
    first, second = (by_name(cfg)["described", "random"] for cfg in (usual, other))
    assert first.cell != second.cell
    left, right = stored(finished), stored(usual)
    assert_same(left, {name: right[name] for name in left})


def test_a_setting_at_its_own_value_is_not_told(finished: DictConfig) -> None:
    """What a class learns to do later leaves older cells as they are."""
    cell = asked(finished, "described", "iba")
    assert {"class", "layer", "beta"} <= cell.told(2).keys()
    assert not {"n_steps", "noise", "_target_"} & cell.told(2).keys()
    assert replace(cell, settings=cell.settings | {"noise": "layer_input"}).told(2)["noise"] == "layer_input"


def test_a_path_through_the_model_is_recorded_only_where_it_is_forced(finished: DictConfig) -> None:
    folder = Path(finished.paths.results).parent
    usual = Task.open(finished, "planted").running
    assert not {"fast", "layers"} & set(usual)
    for change in ({"fast": False}, {"layers": "bert.encoder.layer"}):
        forced = Task.open(configured(folder, *(f"{k}={v}" for k, v in change.items())), "planted")
        assert forced.running == usual | change
        assert isinstance(forced.classifier.runner, Adapter)


def edited(examples: Examples) -> Examples:
    """The same rows, the last word of the last text another one."""
    *others, last = examples
    return Examples.of([*others, replace(last, text=last.text.rsplit(" ", 1)[0] + " else")])


def with_rows(task: Task, **rows: Examples) -> Task:
    return replace(task, samples=replace(task.samples, **rows), kept={})


def test_other_texts_under_the_same_ids_are_other_cells(finished: DictConfig) -> None:
    task = Task.open(finished, "planted")
    cell = asked(finished, "described", "iba")
    assert (folder_of(task, cell) / SCORES).is_file()
    other = with_rows(task, test=edited(task.samples.test))
    assert classifier_folder(other) != classifier_folder(task)
    assert other.on(cell.rows).samples.test.digest != task.on(cell.rows).samples.test.digest
    trained = with_rows(task, train=edited(task.samples.train))
    assert trained.checkpoint != task.checkpoint


@pytest.mark.parametrize(("before", "after"), [(15, 16), (16, 15)])
def test_parts_of_another_size_are_not_mistaken_for_these(tmp_path: Path, before: int, after: int) -> None:
    """A hundred rows make seven parts of 15 and seven of 16."""

    def split(size: int) -> list[list[int]]:
        return [list(range(100))[start : start + size] for start in range(0, 100, size)]

    def compute(group: Sequence[int]) -> pd.DataFrame:
        if len(list(work.parts.glob("*.parquet"))) == 3 and not resumed:
            raise KeyboardInterrupt
        return pd.DataFrame({"position": group, "row": group})

    path = tmp_path / "rows.parquet"
    work, resumed = Work(path, compute, lambda rows, seconds: write_parquet(path, rows)), False
    with pytest.raises(KeyboardInterrupt):
        compute_in_parts([work], split(before), Shard(0, 1), "")
    resumed = True
    compute_in_parts([work], split(after), Shard(0, 1), "")
    assert read_parquet(path)["row"].tolist() == list(range(100))
    assert not work.parts.exists()


def trained_anew(cache: Path) -> tuple[Path, State]:
    """Puts other weights in the place of the checkpoint's; returns its file and what it held."""
    (weights,) = cache.rglob("model.safetensors")
    kept = load_file(weights)
    save_file({name: value + 0.01 for name, value in kept.items()}, weights, {"format": "pt"})
    return weights, kept


def test_other_weights_of_the_same_recipe_make_other_cells(finished: DictConfig, tmp_path: Path) -> None:
    """As trained again on another machine: their rows stand apart, and the report asks which are meant."""
    copied(finished, tmp_path)
    cfg = configured(tmp_path, "method=random", "protocol=described")
    weights, _ = trained_anew(tmp_path / "cache")
    run_all(cfg)
    left, right = stored(finished), stored(cfg)
    assert_same(left, {name: right[name] for name in left})
    assert len([name for name in right if "random/" in name and name.endswith(SCORES)]) == 2
    with pytest.raises(UserError, match=r"answer to one name \(weights: .*delete one"):
        stored_cells(cfg)
    weights.unlink()
    with pytest.raises(UserError, match=r"no fine-tuned classifier"):
        Task.open(cfg, "planted").weights_digest  # noqa: B018
    shutil.rmtree(next(path for path in tmp_path.rglob("classifiers/seed=*") if path.name not in str(left)))
    assert by_name(cfg)


def test_results_that_came_without_their_classifier_ask_for_it(finished: DictConfig, tmp_path: Path) -> None:
    """A fresh clone holds the stored tables and no checkpoint."""
    shutil.copytree(Path(finished.paths.results), tmp_path / "results")
    cfg = configured(tmp_path)
    for stage, table in ((degrade, "degradation-*.parquet"), (attribute, SCORES)):
        stage.run(cfg)  # nothing is missing, so that no classifier is needed
        next((tmp_path / "results/smoke/planted/iba").rglob(table)).unlink()
        with pytest.raises(UserError, match=r"no fine-tuned classifier in .*; run scripts/finetune.py first"):
            stage.run(cfg)


def test_a_checkpoint_without_its_weights_is_trained_again(finished: DictConfig, tmp_path: Path) -> None:
    copied(finished, tmp_path)
    cfg = configured(tmp_path)
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    weights.unlink()
    next(tmp_path.rglob(f"iba/*/{SCORES}")).unlink()
    with pytest.raises(UserError, match=r"run scripts/finetune.py first"):
        attribute.run(cfg)
    finetune.run(cfg)
    assert weights.is_file()


def test_a_layer_that_the_encoder_lacks_is_named(finished: DictConfig) -> None:
    cfg = configured(Path(finished.paths.results).parent, "method=iba", "method.iba.settings.layer=9")
    with pytest.raises(UserError, match="layer 9 is out of range: this encoder has layers 1 to 4"):
        attribute.run(cfg)


@pytest.mark.parametrize(
    ("model", "change", "expected"),
    [
        (BertModel(BertConfig(**TINY)), "fast=auto", "BertModel is no sequence classifier"),
        (
            ElectraForSequenceClassification(ElectraConfig(**TINY)),
            "fast=true",
            "no architecture of the fast path",
        ),
        (
            ElectraForSequenceClassification(ElectraConfig(**TINY)),
            "layers=electra.none",
            "no stack of layers found at",
        ),
    ],
)
def test_a_model_that_cannot_be_run_is_refused_before_training(
    model: Any, change: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("iba.pipeline.finetune.new_classifier", lambda *_: (model, tiny_tokenizer()))
    monkeypatch.setattr("iba.pipeline.finetune.Tokenised.of", lambda *_: pytest.fail("went on"))
    with pytest.raises(UserError, match=expected):
        finetune.run(configured(tmp_path, change))


def test_texts_longer_than_the_encoder_reads_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_length=513: this encoder has 512 positions"):
        finetune.run(configured(tmp_path, "dataset.planted.max_length=513"))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_weak_classifier_is_refused_until_the_floor_is_lowered(anew: Configure, tmp_path: Path) -> None:
    cfg = anew("dataset.planted.accuracy_floor=1", "method=random", "protocol=described")
    finetune.run(cfg)
    with pytest.raises(UserError, match=r"below the floor 1:"):
        attribute.run(cfg)
    cfg.dataset.planted.accuracy_floor = 0.0
    attribute.run(cfg)
    assert list(tmp_path.rglob(f"random/*/{SCORES}"))


def test_predicted_class_as_target(anew: Configure) -> None:
    cfg = anew("target=predicted", "method=random", "protocol=described")
    finetune.run(cfg)
    attribute.run(cfg)
    degrade.run(cfg)
    predicted = predictions(cfg)["planted", 3].set_index("instance_id").predicted
    rows = scores(by_name(cfg)["described", "random"])
    assert (rows.target.to_numpy() == predicted[rows.instance_id].to_numpy()).all()


def test_a_slow_method_may_take_the_first_instances(finished: DictConfig, anew: Configure) -> None:
    cfg = anew("method=[ig,random]", "protocol=described", "+method.ig.n_test.planted=4")
    run_all(cfg)
    whole, run = by_name(finished), by_name(cfg)
    first = Task.open(cfg, "planted").samples.first(4).drawn
    for table in (scores, StoredCell.degradation):
        few, all_ = (table(found["described", "ig"]) for found in (run, whole))
        assert set(few.instance_id) == set(first)
        numbers = few.select_dtypes("number").columns
        kept = all_[all_.instance_id.isin(first)]
        np.testing.assert_allclose(few[numbers], kept[numbers], atol=2e-3)
    assert len(scores(run["described", "random"])) == 6


def test_no_row_is_read_or_tokenised_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Across the stages of one process; the tokens also by the next one."""
    seen: Counter[str] = Counter()

    def counted(texts: list[str], *others: Any) -> Any:
        seen.update(texts)
        return encode(texts, *others)

    encode = tokens._encoded
    monkeypatch.setattr(tokens, "_encoded", counted)
    few = ["protocol=described", "method=[iba,random]", "dataset.planted.n_accuracy=6"]
    cfg = configured(tmp_path, *few)
    run_all(cfg)
    first, again = Task.open(cfg, "planted").samples, Task.open(cfg, "planted").samples
    for part in ("train", "calibration", "test", "scored"):
        assert getattr(first, part) is getattr(again, part)
    for part in ("train", "test", "scored"):
        assert {seen[example.text] for example in getattr(first, part)} == {1}


def test_all_operators_and_orders(anew: Configure) -> None:
    cfg = anew("degradation.operators=[delete,mask,attention]", "method=random", "protocol=described")
    run_all(cfg)
    rows = by_name(cfg)["described", "random"].degradation()
    assert set(rows.operator) == {"delete", "mask", "attention"}
    untouched = rows[(rows.step == 0) & (rows.grid == "curve")].groupby("instance_id").prob_target
    assert (untouched.max() - untouched.min()).max() < 1e-6


def test_full_disk_is_one_line_and_loses_nothing(
    anew: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = anew("method=random", "protocol=described")
    finetune.run(cfg)
    written: list[Path] = []
    original = Path.replace

    def filling_up(self: Path, target: Path) -> Path:
        if Path(target).parent.parent.name == "parts":
            if len(written) == 1:
                raise OSError(28, "No space left on device")
            written.append(Path(target))
        return original(self, target)

    monkeypatch.setattr(Path, "replace", filling_up)
    with pytest.raises(UserError, match=r"No space left"):
        attribute.run(cfg)
    monkeypatch.undo()
    assert [p.is_file() for p in written] == [True]
    assert not list(tmp_path.rglob(".writing-*")), "temporary files are cleared away"
    attribute.run(cfg)
    assert list(tmp_path.rglob(f"random/*/{SCORES}"))


def test_damaged_files_are_named(finished: DictConfig, tmp_path: Path) -> None:
    copied(finished, tmp_path)
    cfg = configured(tmp_path)
    damaged = next(tmp_path.rglob(f"iba/*/{SCORES}"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    next(damaged.parent.glob("degradation-*.parquet")).unlink()
    with pytest.raises(UserError, match=r"scores.parquet is damaged: delete it"):
        degrade.run(cfg)
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged or cut off"):
        Task.open(cfg, "planted").classifier  # noqa: B018


def test_curves_follow_the_stored_scores_in_both_orders(finished: DictConfig) -> None:
    task = Task.open(finished, "planted")
    cell = by_name(finished)["corrected", "iba"]
    ranked_by = scores(cell).set_index("instance_id").scores
    rows = cell.degradation()
    for one in task.test:
        free = [i for i, special in enumerate(one.special) if not special]
        best = sorted(free, key=lambda i: (-ranked_by[one.id][i], i))
        for order, removal in (("most", best), ("least", best[::-1])):
            mine = rows[(rows.instance_id == one.id) & (rows.order == order)]
            ranked = Ranked(one.input_ids, one.token_type_ids, removal, one.example.label)
            (points,) = after_removing(task.classifier, [ranked], [mine.n_removed.tolist()], "delete")
            np.testing.assert_allclose(mine.prob_target, [p for _, p in points], atol=1e-6)
            assert np.ptp(mine.prob_target) > 1e-5, "the test is blind otherwise"


def test_predictions_and_accuracy_are_the_plain_models(finished: DictConfig) -> None:
    task = Task.open(finished, "planted")
    rows = predictions(finished)["planted", 3].set_index("instance_id")
    record = classifiers(finished)["planted", 3]["provenance"]
    with torch.no_grad():
        said = {
            i.id: int(task.classifier.model(torch.tensor([i.input_ids])).logits.argmax()) for i in task.scored
        }
    right = {i.id: said[i.id] == i.example.label for i in task.scored}
    assert rows.predicted.to_dict() == said
    assert record["accuracy"] == pytest.approx(np.mean(list(right.values())))
    assert record["accuracy_attributed"] == pytest.approx(np.mean([right[i.id] for i in task.test]))
    first = task.dataset.labels[0]
    for part, name in (("scored", "label_distribution"), ("train", "label_distribution_train")):
        labels = [e.label for e in getattr(task.samples, part)]
        assert record[name][first] == pytest.approx(labels.count(0) / len(labels))


class Learner(Unfitted):
    """Counts how often it has to learn."""

    asked = 0

    def fit(self, classifier: Classifier, data: FitData) -> State:
        self.asked += 1
        return {"one": torch.ones(1)}

    def attribute(self, classifier: Classifier, batch: TokenBatch, target: torch.Tensor) -> Attribution:
        return Attribution(batch.input_ids.float())


def test_what_was_learned_elsewhere_is_learned_again(
    finished: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache", ignore=lambda *_: ["fitted"])
    shutil.copytree(Path(finished.paths.results), tmp_path / "results")
    task = Task.open(configured(tmp_path), "planted")
    cell = asked(task.cfg, "described", "iba")
    low = Task.open(configured(tmp_path, "precision=bf16"), "planted")
    classify(low)
    other_rows = with_rows(task, train=edited(task.samples.train))
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    shutil.copytree(weights.parent, other_rows.checkpoint)
    record = other_rows.checkpoint / TRAINED
    write_json(record, read_json(record) | {"recipe": other_rows.recipe.described()})
    classify(other_rows)
    others = [
        (task, replace(cell, rows=replace(cell.rows, max_length=8))),
        (task, replace(cell, weights="random")),
        (other_rows, cell),
        (low, cell),
        (task, replace(cell, settings=cell.settings | {"seed": 4})),
    ]
    learner = Learner()
    monkeypatch.setattr("iba.pipeline.tuning.build", lambda *_: learner)
    for times, (where, what) in enumerate([(task, cell), *others], start=1):
        for _ in range(2):
            prepared(where, what)
        assert learner.asked == times
    trained_anew(task.checkpoint)
    classify(task)
    for _ in range(2):
        prepared(task, cell)
    assert learner.asked == len(others) + 2, "the same recipe may give other weights"
