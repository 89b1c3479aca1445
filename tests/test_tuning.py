"""Equal care: seven tries on held-out training rows, all of them stored, and the settings that win."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composing import composed
from composing import configured as smoke
from omegaconf import DictConfig

from iba.attributor import attribute_rows
from iba.errors import UserError
from iba.evaluation.degradation import first_step_drops
from iba.pipeline import finetune, tuning
from iba.pipeline.attribute import cell_key
from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import Cell, candidates, cells, datasets
from iba.pipeline.studies import study_cells
from iba.pipeline.task import Task
from iba.pipeline.tuning import prepared, tries, tuned
from iba.store import read_parquet

IBA = "protocol.corrected.methods.iba"
GRID = f"{IBA}.tries=[{{beta: 0.1}},{{beta: 10.0}},{{beta: 0.1, layer: 1}}]"


def configured(folder: Path, *overrides: str) -> DictConfig:
    return smoke(folder, GRID, *overrides)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Task:
    cfg = configured(tmp_path_factory.mktemp("tuning"))
    finetune.run(cfg)
    return Task.open(cfg, "planted")


@pytest.fixture
def task(trained: Task, tmp_path: Path) -> Task:
    """The trained classifier, in a run without a try."""
    folder = Path(trained.cfg.paths.cache).parent
    shutil.copytree(folder / "results", tmp_path / "results")
    return replace(trained, cfg=configured(folder, f"paths.results={tmp_path}/results"), kept={})


def of(task: Task, protocol: str = "corrected", method: str = "iba") -> Cell:
    return next(
        c for c in cells(task.cfg, "planted") if (c.view.protocol, c.view.method) == (protocol, method)
    )


def stored(task: Task) -> list[Path]:
    return sorted(Path(task.cfg.paths.results).rglob("tuning/planted/*.parquet"))


def by_hand(monkeypatch: pytest.MonkeyPatch, *drops: float) -> list[int]:
    """Lets the tries, in their order, have these drops on every row; says how many rows each had."""
    asked: list[int] = []

    def said(attributed: Any, classifier: Any, rows: Any) -> Any:
        asked.append(len(rows))
        return np.full(len(rows), drops[len(asked) - 1])

    monkeypatch.setattr(tuning, "first_step_drops", said)
    return asked


@pytest.mark.parametrize(
    ("drops", "best"), [((0.1, 0.3, 0.2), 1), ((0.2, 0.2, 0.1), 0), ((0.0, 0.1, 0.1), 1)]
)
def test_the_largest_drop_wins_and_of_equals_the_first(
    task: Task, monkeypatch: pytest.MonkeyPatch, drops: tuple[float, ...], best: int
) -> None:
    asked, cell = by_hand(monkeypatch, *drops), of(task)
    found = tuned(task, cell)
    assert found == replace(cell, settings=candidates(cell.settings)[best])
    assert "tries" not in found.settings
    assert asked == [len(task.calibration)] * 3
    assert tuned(task, cell) == found
    assert len(asked) == 3, "the tries are computed once"


def test_every_rows_drop_is_stored_and_is_that_of_the_method_alone(task: Task) -> None:
    cell = of(task)
    record = tries(task, cell)
    (path,) = stored(task)
    table = read_parquet(path)
    held_out = [row.id for row in task.calibration]
    assert not set(held_out) & {e.id for e in (*task.samples.train, *task.samples.test)}
    for trial, settings in enumerate(candidates(cell.settings)):
        method, _ = prepared(task, replace(cell, settings=settings))
        drops = first_step_drops(
            attribute_rows(method, task.classifier, task.calibration), task.classifier, task.calibration
        )
        mine = table[table.trial == trial]
        assert mine.instance_id.tolist() == held_out
        np.testing.assert_allclose(mine.drop_11, drops, atol=1e-7)
    assert table.trial.nunique() == len(record["key"]["tries"]) == 3
    assert record["drop_11"] == pytest.approx(table.groupby("trial").drop_11.mean().tolist())
    assert record["chosen"] == int(np.argmax(record["drop_11"]))


def test_killed_tries_go_on_where_they_ended(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = by_hand(monkeypatch, 0.1, 0.3)  # the third finds nothing more to say
    with pytest.raises(IndexError):
        tuned(task, of(task))
    asked.clear()
    asked = by_hand(monkeypatch, 0.2)
    assert tuned(task, of(task)).settings["beta"] == 10.0
    assert len(asked) == 1


def test_tries_depend_on_the_held_out_rows_and_the_method_alone(task: Task) -> None:
    cell = of(task)
    changes = ({}, {"n": 2}, {"n_calibration": 3}, {"max_length": 8})
    found = [tries(task, replace(cell, rows=replace(cell.rows, **change))) for change in changes]
    assert len(stored(task)) == 3
    assert found[0] == found[1]
    assert [record["key"]["rows"]["n"] for record in found] == [4, 4, 3, 4]
    described = of(task, "described")
    assert tuned(task, described) == described, "where nothing is tried nothing changes"
    assert cell_key(task, tuned(task, cell))["method"]["beta"] in (0.1, 10.0)


def test_what_a_study_varies_is_not_tuned_away(tmp_path: Path) -> None:
    cfg = configured(tmp_path, "study=[ig_steps,layers]", "study.ig_steps.datasets=[planted]")
    steps = [c for c in study_cells(cfg, cfg.study.ig_steps, "planted", 4) if c.view.protocol == "corrected"]
    assert [c.settings["n_steps"] for c in steps] == [10, 50]
    assert not any("tries" in c.settings for c in steps)
    cfg.protocol.corrected.methods.iba.tries = [{"beta": 0.1}, {"beta": 1.0}]
    layers = [c for c in study_cells(cfg, cfg.study.layers, "planted", 4) if c.view.protocol == "corrected"]
    assert [len(candidates(c.settings)) for c in layers if c.view.method == "iba"] == [2] * 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("dataset.planted.n_calibration=0", r"n_calibration=0: method iba chooses its settings .* corrected"),
        (f"{IBA}.tries=[{','.join(['{beta: 1}'] * 8)}]", "protocol.corrected must have at most 7 tries"),
        (f"{IBA}.tries=[{{beta: -1}}]", r"method\.iba\.settings\.beta=-1 must be"),
        (f"{IBA}.tries=[{{betta: 1}}]", r"method\.iba\.settings\.betta: there is no such setting"),
    ],
)
def test_mistakes_are_found_before_any_work(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_settings(configured(tmp_path, change))


def test_every_method_of_table_1_has_at_most_as_many_tries_as_iba() -> None:
    cfg = composed("preset=campaign", "method=all")
    check_settings(cfg)
    for name in datasets(cfg):
        corrected = [c for c in cells(cfg, name) if c.view.protocol == "corrected"]
        tried = {c.view.method: len(candidates(c.settings)) for c in corrected}
        assert {tried[method] for method in ("iba", "ig", "lime")} == {7} == {max(tried.values())}
        sizes = {(c.view.protocol, c.view.method): c.rows.n for c in cells(cfg, name)}
        assert sizes["released", "lime"] == sizes["described", "iba"]
