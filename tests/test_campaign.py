"""The campaign's driver: its steps are valid, in order, timed, and not repeated."""

from __future__ import annotations

import csv
import runpy
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from composing import ROOT, composed
from omegaconf import DictConfig

from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import cells
from iba.pipeline.views import View


@pytest.fixture(scope="module")
def driver() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "scripts" / "campaign.py"))


def campaign(*settings: str) -> DictConfig:
    return composed("preset=campaign", *settings)


def test_every_kind_of_step_composes(driver: dict[str, Any], tmp_path: Path) -> None:
    steps = driver["steps"](campaign(f"paths.results={tmp_path}"))
    kinds = dict(steps)
    assert sorted(int(part.split()[0]) for part in kinds) == list(range(1, 14))
    for stage, *settings in kinds.values():
        assert (ROOT / "scripts" / f"{stage}.py").is_file()
        check_settings(campaign(*settings))


def test_other_seeds_take_the_settings_that_the_first_one_chose(
    driver: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    view = View(3, None, None, "corrected", "rte", "ig")
    record = {"method": {"n_steps": 50, "baseline": "mask"}}
    stored = [SimpleNamespace(view=view, record=record)]
    monkeypatch.setitem(driver["_seed"].__globals__, "stored_cells", lambda _: stored)
    *_, (_, (stage, *settings)) = driver["_seed"](campaign(), "7", 4, "rte")
    cfg = campaign(*settings)
    assert stage == "degrade"
    assert cfg.protocol.corrected.methods.ig == {"tries": [], "n_steps": 50, "baseline": "mask"}
    assert (cfg.finetune.seed, cfg.run) == (4, "campaign")


def test_a_method_is_run_under_its_own_protocols_alone() -> None:
    asked = [cell.view for cell in cells(campaign("method=[iba,iba_rule,ig_50]", "dataset=rte"), "rte")]
    found = {(view.protocol, view.method) for view in asked}
    every = {(protocol, "iba") for protocol in ("described", "released", "corrected")}
    assert found == every | {("corrected", "iba_rule"), ("described", "ig_50")}


def test_steps_are_timed_and_those_that_ended_well_are_not_run_again(
    driver: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    stops = [KeyboardInterrupt]

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        ran.append(" ".join(command[1:]))
        if len(ran) == 3 and stops:
            raise stops.pop()
        return SimpleNamespace(returncode=len(ran) - 1)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setitem(driver["main"].__globals__, "git_commit", lambda: "a commit")
    given = [f"paths.results={tmp_path}", "rte", "corrected"]
    with pytest.raises(KeyboardInterrupt):
        driver["main"](given)
    with (tmp_path / "campaign" / "hours.csv").open(newline="") as lines:
        assert [line["status"] for line in csv.DictReader(lines)] == ["0", "1", "-1"]
    first, *others = ran
    ran.clear()
    assert driver["main"](given) > 0
    assert first not in ran
    assert ran[:2] == others
