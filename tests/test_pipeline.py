"""The stages as a user runs them: end to end, sharded, with other batch sizes."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertModel,
    ElectraConfig,
    ElectraForSequenceClassification,
    PreTrainedTokenizerFast,
)

from iba.attributor import Attribution, FitData, State, Unfitted
from iba.data.examples import Example
from iba.data.tokens import TokenBatch, tokenise
from iba.degradation import Ranked, after_removing
from iba.encoder import Classifier
from iba.errors import UserError
from iba.experiment import cells
from iba.models.adapter import Adapter
from iba.parts import Shard, StageTable, Work, compute_in_parts
from iba.stages import attribute, degrade, finetune, study
from iba.stages.attribute import attributions
from iba.stages.bench import Bench
from iba.stages.degrade import degradations
from iba.store import read_json
from iba.tiny import tiny_tokenizer
from iba.tuning import prepared, tuned

ROOT = Path(__file__).resolve().parent.parent
TINY = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
PLANTED = ("preset=smoke", "dataset=planted", "precision=fp32", "finetune.precision=fp32")


def configured(folder: Path, *overrides: str) -> DictConfig:
    """The composed configuration with results and cache below `folder`."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        paths = (f"paths.root={ROOT}", f"paths.results={folder}/results", f"paths.cache={folder}/cache")
        return compose("config", overrides=[*PLANTED, *paths, *overrides])


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


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    """A smoke run carried to the end without interruption."""
    cfg = configured(tmp_path_factory.mktemp("finished"))
    run_all(cfg)
    return cfg


def test_tables_hold_what_the_schema_promises(finished: DictConfig) -> None:
    tables = stored(finished)
    assert len([name for name in tables if name.endswith("degradation.parquet")]) == 3 * 4
    rows = tables["planted/corrected/iba/degradation.parquet"]
    wanted = {"protocol", "dataset", "method", "instance_id", "step", "fraction", "n_removed", "prob_target"}
    assert wanted <= set(rows.columns)
    curve = rows[(rows.grid == "curve") & (rows.order == "most")]
    assert (curve.groupby("instance_id").size() == 10).all()
    shares = rows[rows.grid == "eraser"].pivot(
        index=["instance_id", "step"], columns="order", values="n_removed"
    )
    emptied = curve[curve.step == 9].set_index("instance_id").n_removed
    np.testing.assert_array_equal(shares.sum(axis=1), emptied[shares.index.get_level_values(0)])
    starts = curve[curve.step == 0].set_index("instance_id").prob_target
    predictions = tables["planted/classifier.parquet"].set_index("instance_id").prob_gold
    np.testing.assert_allclose(starts, predictions[starts.index], atol=1e-6)


def test_every_method_ends_at_the_same_emptied_text(finished: DictConfig) -> None:
    tables = [t for name, t in stored(finished).items() if name.endswith("degradation.parquet")]
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


def test_methods_that_a_protocol_does_not_change_are_computed_once(finished: DictConfig) -> None:
    tables = stored(finished)
    pd.testing.assert_frame_equal(
        tables["planted/described/random/attributions.parquet"],
        tables["planted/corrected/random/attributions.parquet"],
    )
    iba = [
        tables[f"planted/{p}/iba/attributions.parquet"].scores.map(tuple) for p in ("described", "corrected")
    ]
    assert not iba[0].equals(iba[1])


@pytest.mark.parametrize(
    "change", ["token_budget=64", "part_size=1"], ids=["other batch sizes", "other part sizes"]
)
def test_results_do_not_depend_on_batching(finished: DictConfig, tmp_path: Path, change: str) -> None:
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache")
    shutil.rmtree(tmp_path / "cache" / "fitted")
    cfg = configured(tmp_path, change)
    run_all(cfg)
    left, right = stored(finished), stored(cfg)
    assert left.keys() == right.keys()
    for name, table in left.items():
        numbers = table.select_dtypes("number").columns
        np.testing.assert_allclose(table[numbers], right[name][numbers], atol=2e-3, err_msg=name)


def test_shards_together_equal_one_process(finished: DictConfig, tmp_path: Path) -> None:
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache")
    for stage in (finetune, attribute, degrade):
        stage.run(configured(tmp_path, "shard=1/2"))
        # Random scores are the same under all protocols: two processes compute them once as well.
        working = {path.parts[-4] for path in tmp_path.rglob("random/parts/*")}
        assert working == (set() if stage is finetune else {"described"})
        stage.run(configured(tmp_path, "shard=0/2"))
    assert_same(stored(finished), stored(configured(tmp_path)))


def test_other_settings_are_refused(finished: DictConfig) -> None:
    folder = Path(finished.paths.results).parent
    with pytest.raises(UserError, match=r"other settings \(method.n_copies: 10 → 3\).*run=NAME"):
        attribute.run(configured(folder, "method.iba.settings.n_copies=3"))


def test_a_path_through_the_model_is_recorded_only_where_it_is_forced(finished: DictConfig) -> None:
    folder = Path(finished.paths.results).parent
    usual = Bench.open(finished, "planted").inputs
    assert not {"fast", "layers"} & set(usual)
    for change in ({"fast": False}, {"layers": "bert.encoder.layer"}):
        forced = Bench.open(configured(folder, *(f"{k}={v}" for k, v in change.items())), "planted")
        assert forced.inputs == usual | change
        assert isinstance(forced.classifier.runner, Adapter)


def edited(examples: list[Example]) -> list[Example]:
    """The same rows, the last word of the last text another one."""
    *others, last = examples
    return [*others, replace(last, text=last.text.rsplit(" ", 1)[0] + " else")]


def test_other_texts_under_the_same_ids_are_refused(finished: DictConfig) -> None:
    bench = Bench.open(finished, "planted")
    cell = next(c for c in cells(finished, "planted") if c.protocol == "described")
    assert attributions(bench, cell).is_finished()
    other = replace(bench, samples=replace(bench.samples, test=edited(bench.samples.test)))
    with pytest.raises(UserError, match="test_digest"):
        attributions(other, cell).is_finished()
    trained = replace(bench, samples=replace(bench.samples, train=edited(bench.samples.train)))
    assert trained.checkpoint != bench.checkpoint


@pytest.mark.parametrize(("before", "after"), [(15, 16), (16, 15)])
def test_parts_of_another_size_are_not_mistaken_for_these(tmp_path: Path, before: int, after: int) -> None:
    """A hundred rows make seven parts of 15 and seven of 16."""
    table = StageTable(tmp_path, "rows", {})

    def split(size: int) -> list[list[int]]:
        return [list(range(100))[start : start + size] for start in range(0, 100, size)]

    def compute(group: Sequence[int]) -> pd.DataFrame:
        if len(list(table.parts.glob("*.parquet"))) == 3 and not resumed:
            raise KeyboardInterrupt
        return pd.DataFrame({"position": group, "row": group})

    work, resumed = Work(table, compute, lambda seconds: {}), False
    with pytest.raises(KeyboardInterrupt):
        compute_in_parts([work], split(before), Shard(0, 1), "")
    resumed = True
    compute_in_parts([work], split(after), Shard(0, 1), "")
    assert table.read()["row"].tolist() == list(range(100))
    assert not table.parts.exists()


def test_other_settings_are_refused_before_training(
    finished: DictConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("iba.stages.finetune.train", lambda _: pytest.fail("trained"))
    folder = Path(finished.paths.results).parent
    with pytest.raises(UserError, match=r"classifier made with other settings.*run=NAME"):
        finetune.run(configured(folder, "finetune.seed=4"))


def trained_anew(cache: Path) -> tuple[Path, State]:
    """Puts other weights in the place of the checkpoint's; returns its file and what it held."""
    (weights,) = cache.rglob("model.safetensors")
    kept = load_file(weights)
    save_file({name: value + 0.01 for name, value in kept.items()}, weights, {"format": "pt"})
    return weights, kept


def test_other_weights_of_the_same_recipe_are_refused(finished: DictConfig, tmp_path: Path) -> None:
    """As trained again on another machine: no rows of theirs may stand beside the stored ones."""
    for part in ("cache", "results"):
        shutil.copytree(Path(finished.paths.results).parent / part, tmp_path / part)
    cfg = configured(tmp_path, "study=layers", "study.layers.datasets=[planted]")
    weights, kept = trained_anew(tmp_path / "cache")
    shutil.rmtree(tmp_path / "results/smoke/planted/corrected")
    for stage in (finetune, attribute, degrade, study):
        with pytest.raises(UserError, match=r"made with other fine-tuned weights .* run=NAME"):
            stage.run(cfg)
    save_file(kept, weights, {"format": "pt"})
    run_all(cfg)
    assert_same(stored(finished), stored(cfg), 2e-3)


def test_what_was_degraded_goes_when_it_is_attributed_anew(finished: DictConfig, tmp_path: Path) -> None:
    """As by a later version of the code, whose scores the old curves are not of."""
    for part in ("cache", "results"):
        shutil.copytree(Path(finished.paths.results).parent / part, tmp_path / part)
    cfg = configured(tmp_path)
    cell = tmp_path / "results/smoke/planted/corrected/iba"
    other = cell.with_name("ig") / "degradation.parquet"
    before = other.stat().st_mtime_ns
    (cell / "attributions.parquet").unlink()
    attribute.run(cfg)
    assert not list(cell.glob("degradation.*"))
    degrade.run(cfg)
    assert_same(stored(finished), stored(cfg), 2e-3)
    assert other.stat().st_mtime_ns == before


def test_results_that_came_without_their_classifier_ask_for_it(finished: DictConfig, tmp_path: Path) -> None:
    """A fresh clone holds the stored tables and no checkpoint."""
    shutil.copytree(Path(finished.paths.results), tmp_path / "results")
    cfg = configured(tmp_path)
    for stage, table in ((degrade, "degradation"), (attribute, "attributions")):
        stage.run(cfg)  # nothing is missing, so that no classifier is needed
        (tmp_path / f"results/smoke/planted/described/iba/{table}.parquet").unlink()
        with pytest.raises(UserError, match=r"no fine-tuned classifier in .*; run scripts/finetune.py first"):
            stage.run(cfg)


def test_a_checkpoint_without_its_weights_is_trained_again(finished: DictConfig, tmp_path: Path) -> None:
    for part in ("cache", "results"):
        shutil.copytree(Path(finished.paths.results).parent / part, tmp_path / part)
    cfg = configured(tmp_path)
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    weights.unlink()
    (tmp_path / "results/smoke/planted/described/iba/attributions.parquet").unlink()
    with pytest.raises(UserError, match=r"run scripts/finetune.py first"):
        attribute.run(cfg)
    finetune.run(cfg)
    assert weights.is_file()


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
    monkeypatch.setattr("iba.stages.finetune.new_classifier", lambda *_: (model, tiny_tokenizer()))
    monkeypatch.setattr("iba.stages.finetune.tokenise", lambda *_: pytest.fail("went on"))
    with pytest.raises(UserError, match=expected):
        finetune.run(configured(tmp_path, change))


def test_texts_longer_than_the_encoder_reads_are_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_length=513: this encoder has 512 positions"):
        finetune.run(configured(tmp_path, "dataset.planted.max_length=513"))
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


def test_a_table_counts_as_finished_only_with_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two files that a stage ends with, it has to be run again."""
    rows = pd.DataFrame({"row": [1]})
    for killed in ("json", "parquet"):
        table = StageTable(tmp_path / killed, "rows", {"a": 1})
        table.claim()
        with monkeypatch.context() as patched:
            patched.setattr(f"iba.parts.write_{killed}", raise_interrupt)
            with pytest.raises(KeyboardInterrupt):
                table.finish(rows, {"seconds": 2})
        assert not table.is_finished()
        table.finish(rows, {"seconds": 2})
        assert table.is_finished()
        assert read_json(table.record)["provenance"] == {"seconds": 2}


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_weak_classifier_is_refused_until_the_floor_is_lowered(
    finished: DictConfig, tmp_path: Path
) -> None:
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache")
    cfg = configured(tmp_path, "dataset.planted.accuracy_floor=1", "method=random", "protocol=described")
    finetune.run(cfg)
    with pytest.raises(UserError, match=r"below the floor 1:"):
        attribute.run(cfg)
    cfg.dataset.planted.accuracy_floor = 0.0
    attribute.run(cfg)
    assert "planted/described/random/attributions.parquet" in stored(cfg)


def test_predicted_class_as_target(finished: DictConfig, tmp_path: Path) -> None:
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache")
    cfg = configured(tmp_path, "target=predicted", "method=random", "protocol=described")
    finetune.run(cfg)
    attribute.run(cfg)
    bench = Bench.open(cfg, "planted")
    (cell,) = cells(cfg, "planted")
    predicted = (
        pd.read_parquet(bench.run / "planted" / "classifier.parquet").set_index("instance_id").predicted
    )
    rows = attributions(bench, cell).read(["instance_id", "target"])
    assert (rows.target.to_numpy() == predicted[rows.instance_id].to_numpy()).all()


def test_a_slow_method_may_take_the_first_instances(finished: DictConfig, tmp_path: Path) -> None:
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache")
    cfg = configured(tmp_path, "method=[ig,random]", "protocol=described", "+method.ig.n_test.planted=4")
    run_all(cfg)
    whole, run = stored(finished), stored(cfg)
    for table in ("attributions", "degradation"):
        few, all_ = (rows[f"planted/described/ig/{table}.parquet"] for rows in (run, whole))
        first = Bench.open(cfg, "planted").first(4).samples.drawn
        assert set(few.instance_id) == set(first)
        numbers = few.select_dtypes("number").columns
        kept = all_[all_.instance_id.isin(first)]
        np.testing.assert_allclose(few[numbers], kept[numbers], atol=2e-3)
    assert len(run["planted/described/random/attributions.parquet"]) == 6


def test_training_rows_are_tokenised_when_a_method_asks_for_them(
    finished: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of a large training split takes minutes and gigabytes."""
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache", ignore=lambda *_: ["fitted"])
    seen: list[str] = []

    def counted(examples: list[Example], tokenizer: PreTrainedTokenizerFast, max_length: int) -> object:
        seen.extend(e.id for e in examples)
        return tokenise(examples, tokenizer, max_length)

    for user in ("iba.stages.bench", "iba.stages.finetune", "iba.data.tokens"):
        monkeypatch.setattr(f"{user}.tokenise", counted)
    few = ["protocol=described", "method=[iba,random]", "method.iba.settings.n_statistics=5"]
    cfg = configured(tmp_path, *few)
    for stage in (finetune, attribute):
        stage.run(cfg)
    train = [e.id for e in Bench.open(cfg, "planted").samples.train]
    assert set(train[:5]) <= set(seen)
    assert len(set(train) & set(seen)) < len(train) / 2, "type checks of the tests look at a few more"


def test_all_operators_and_orders(finished: DictConfig, tmp_path: Path) -> None:
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache")
    cfg = configured(
        tmp_path, "degradation.operators=[delete,mask,attention]", "method=random", "protocol=described"
    )
    run_all(cfg)
    bench = Bench.open(cfg, "planted")
    (cell,) = cells(cfg, "planted")
    rows = degradations(bench, cell).read()
    assert set(rows.operator) == {"delete", "mask", "attention"}
    untouched = rows[(rows.step == 0) & (rows.grid == "curve")].groupby("instance_id").prob_target
    assert (untouched.max() - untouched.min()).max() < 1e-6


def test_full_disk_is_one_line_and_loses_nothing(
    finished: DictConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache")
    cfg = configured(tmp_path, "method=random", "protocol=described")
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
    assert "planted/described/random/attributions.parquet" in stored(cfg)


def test_damaged_files_are_named(finished: DictConfig, tmp_path: Path) -> None:
    shutil.copytree(Path(finished.paths.cache), tmp_path / "cache")
    shutil.copytree(Path(finished.paths.results), tmp_path / "results")
    cfg = configured(tmp_path)
    scores = tmp_path / "results/smoke/planted/described/iba/attributions.parquet"
    scores.write_bytes(scores.read_bytes()[:100])
    (tmp_path / "results/smoke/planted/described/iba/degradation.parquet").unlink()
    with pytest.raises(UserError, match=r"attributions.parquet is damaged: delete it"):
        degrade.run(cfg)
    (weights,) = (tmp_path / "cache").rglob("model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="damaged or cut off"):
        Bench.open(cfg, "planted").classifier  # noqa: B018


def test_curves_follow_the_stored_scores_in_both_orders(finished: DictConfig) -> None:
    bench = Bench.open(finished, "planted")
    cell = next(c for c in cells(finished, "planted") if (c.protocol, c.method) == ("corrected", "iba"))
    cell = tuned(bench, cell)
    scores = attributions(bench, cell).read().set_index("instance_id").scores
    rows = degradations(bench, cell).read()
    for one in bench.test:
        free = [i for i, special in enumerate(one.special) if not special]
        best = sorted(free, key=lambda i: (-scores[one.id][i], i))
        for order, removal in (("most", best), ("least", best[::-1])):
            mine = rows[(rows.instance_id == one.id) & (rows.order == order)]
            ranked = Ranked(one.input_ids, one.token_type_ids, removal, one.example.label)
            (points,) = after_removing(bench.classifier, [ranked], [mine.n_removed.tolist()], "delete")
            np.testing.assert_allclose(mine.prob_target, [p for _, p in points], atol=1e-6)
            assert np.ptp(mine.prob_target) > 1e-5, "the test is blind otherwise"


def test_predictions_and_accuracy_are_the_plain_models(finished: DictConfig) -> None:
    bench = Bench.open(finished, "planted")
    rows = stored(finished)["planted/classifier.parquet"].set_index("instance_id")
    record = read_json(bench.run / "planted" / "classifier.json")["provenance"]
    with torch.no_grad():
        said = {
            i.id: int(bench.classifier.model(torch.tensor([i.input_ids])).logits.argmax())
            for i in bench.scored
        }
    right = {i.id: said[i.id] == i.example.label for i in bench.scored}
    assert rows.predicted.to_dict() == said
    assert record["accuracy"] == pytest.approx(np.mean(list(right.values())))
    assert record["accuracy_attributed"] == pytest.approx(np.mean([right[i.id] for i in bench.test]))
    first = bench.dataset.labels[0]
    for part, name in (("scored", "label_distribution"), ("train", "label_distribution_train")):
        labels = [e.label for e in getattr(bench.samples, part)]
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
    bench = Bench.open(configured(tmp_path), "planted")
    cell = next(c for c in cells(bench.cfg, "planted") if (c.protocol, c.method) == ("corrected", "iba"))
    others = [
        (replace(bench, cut=8), cell),
        (replace(bench, weights="random"), cell),
        (replace(bench, cfg=configured(tmp_path, "precision=bf16")), cell),
        (bench, replace(cell, settings=cell.settings | {"seed": 4})),
    ]
    learner = Learner()
    monkeypatch.setattr("iba.tuning.build", lambda *_: learner)
    for asked, (where, what) in enumerate([(bench, cell), *others], start=1):
        for _ in range(2):
            prepared(where, what)
        assert learner.asked == asked
    trained_anew(tmp_path / "cache")
    for _ in range(2):
        prepared(bench, cell)
    assert learner.asked == len(others) + 2, "the same recipe may give other weights"
