"""Stages under `kill -9`: whatever the moment, the same command run again ends with the same files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from composing import PLANTED, ROOT, configured
from omegaconf import DictConfig
from test_pipeline import assert_same, run_all, stored

from iba.cli import main
from iba.pipeline import attribute, degrade, finetune
from iba.report import stage as report
from iba.store import atomic, sweep

OPTIONS = (
    "dataset.planted.finetune.batch_size=8",
    "finetune.save_every=2",
    "dataset.planted.finetune.epochs=2",
    "method=[iba,random]",
    "protocol=[described,released]",
)
#: What a record says of the process; all else it says of the rows.
MEASURED = ("seconds", "seconds_per_instance", "peak_memory_mb", "command")
#: A number that no process has.
NOBODY = 2**30


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    """A run that was never killed."""
    cfg = configured(tmp_path_factory.mktemp("whole"), *OPTIONS)
    run_all(cfg)
    return cfg


def records(cfg: DictConfig) -> dict[str, Any]:
    """Every record of run and cache by its path, without what was measured of the process."""
    found = {}
    for root in (Path(cfg.paths.results), Path(cfg.paths.cache)):
        for path in root.rglob("*.json"):
            record = found[str(path.relative_to(root))] = json.loads(path.read_text())
            for name in MEASURED:
                record.get("provenance", {}).pop(name, None)
    return found


def swept(cfg: DictConfig) -> None:
    """What every script begins with."""
    sweep(Path(cfg.paths.results), Path(cfg.paths.cache))


def leftovers(*roots: Path) -> list[Path]:
    """Folders that only a killed process leaves."""
    return [p for root in roots for name in (".writing-*", "parts", "steps") for p in root.rglob(name)]


class Killed(BaseException):
    """Ends a stage in the middle, as a kill does."""


@contextmanager
def never_cleared(suffix: str, prefix: str, folder: Path, **_: bool) -> Iterator[str]:
    """A temporary folder that stays, as that of a killed process."""
    yield tempfile.mkdtemp(suffix, prefix, folder)


def is_killed(stage: ModuleType, cfg: DictConfig, before: str = "", known: set[Path] | None = None) -> bool:
    """Whether the stage was ended before a file named `before`, or after a table or weights not yet `known`,
    got to its place."""
    replace = Path.replace

    def replacing(self: Path, target: Path) -> Path:
        if target.name == before:
            raise Killed
        replaced = replace(self, target)
        if known is not None and target not in known and target.suffix in (".parquet", ".safetensors"):
            known.add(target)
            raise Killed
        return replaced

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", replacing)
        patch.setattr(tempfile, "TemporaryDirectory", never_cleared)
        patch.setattr(os, "getpid", lambda: NOBODY)
        try:
            stage.run(cfg)
        except Killed:
            return True
    return False


@pytest.mark.usefixtures("unchecked")
def test_a_run_killed_after_every_file_that_it_writes_is_the_same(whole: DictConfig, tmp_path: Path) -> None:
    cfg, fewer = configured(tmp_path, *OPTIONS), configured(tmp_path, *OPTIONS, "method=random")
    known: set[Path] = set()
    for stage in (finetune, attribute, degrade):
        while is_killed(stage, fewer, known=known):
            swept(cfg)
    assert len(known) == 2 + 5 + 3, (
        "weights and predictions; what is learned, parts, rows and scores; parts, curves"
    )
    swept(cfg)
    run_all(cfg)
    assert_same(stored(whole), stored(cfg))
    assert records(whole) == records(cfg)
    assert not leftovers(tmp_path)


def test_the_page_is_a_function_of_the_stored_rows(whole: DictConfig, tmp_path: Path) -> None:
    """Neither a figure that a killed process left half written, nor one of before, gets into it."""
    clean, killed = (configured(tmp_path / name, *OPTIONS) for name in ("clean", "killed"))
    for cfg in (clean, killed):
        shutil.copytree(whole.paths.results, cfg.paths.results)
    report.run(clean)
    assert is_killed(report, killed, before="figure1.png")
    figures = Path(killed.paths.results, "smoke/figures")
    assert len(list(figures.rglob("figure1.png"))) == 1, "left where it was written"
    shutil.copy(next(figures.rglob("figure1.png")), figures / "figure9.png")
    report.run(killed)
    page, other = (Path(cfg.paths.results, "smoke/report.html").read_text() for cfg in (clean, killed))
    assert "data:image/png" in page
    assert page == other


#: Kills the script before its fourth step of training.
KILLER = """
import os, runpy, signal, sys, transformers
step, steps, sys.argv = transformers.Trainer.training_step, [], sys.argv[1:]
def counted(*args, **kwargs):
    steps.append(1)
    if len(steps) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(*args, **kwargs)
transformers.Trainer.training_step = counted
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.usefixtures("unchecked")
def test_kill_9_amid_training_and_resume_gives_the_same_result(whole: DictConfig, tmp_path: Path) -> None:
    cfg = configured(tmp_path, *OPTIONS)
    paths = (f"paths.results={cfg.paths.results}", f"paths.cache={cfg.paths.cache}")
    ended = subprocess.run(
        [sys.executable, "-c", KILLER, "scripts/finetune.py", *PLANTED, *OPTIONS, *paths],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert list(tmp_path.rglob("checkpoint-2")), "the kill came before any work was kept"
    swept(cfg)
    run_all(cfg)
    assert_same(stored(whole), stored(cfg))
    assert records(whole) == records(cfg)
    assert not leftovers(tmp_path)


def test_every_script_sweeps_and_leaves_what_is_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, cache = tmp_path / "results", tmp_path / "cache"
    node = os.uname().nodename
    gone = [
        results / f"smoke/figures/.writing-{node}-{NOBODY}-a1/figure1.png",
        cache / f"fitted/.writing-{node}-{NOBODY}-a1/iba.safetensors",
        cache / f"fitted/.writing-else-where-{os.getpid()}-a1/iba.safetensors",
        results / "smoke/rte/described/ig/parts/attributions/a-00000.parquet",
        cache / "classifiers/rte/steps/checkpoint-2/model.safetensors",
        cache / f"tokens/.writing-{node}-{NOBODY}-a1/a.arrow",
    ]
    kept = [
        results / f"smoke/figures/.writing-{node}-{os.getpid()}-a1/figure1.png",
        cache / f"fitted/.writing-else-where-{NOBODY}-a1/iba.safetensors",
        results / "smoke/rte/described/ig/parts/degradation/a-00000.parquet",
        results / "smoke/rte/described/ig/attributions.parquet",
        results / "smoke/rte/described/ig/attributions.json",
        results / "smoke/rte/described/ig/degradation.json",
        cache / "classifiers/rte/finetuning.json",
        cache / "classifiers/imdb/steps/checkpoint-2/model.safetensors",
        results / "smoke/.keep",
    ]
    for path in (*gone, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.utime(gone[2].parent, (0, 0))
    monkeypatch.setattr(sys, "argv", ["x", *PLANTED, f"paths.results={results}", f"paths.cache={cache}"])
    main(lambda cfg: None)
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == set(kept)


def test_what_a_library_writes_beside_its_file_goes_with_it(tmp_path: Path) -> None:
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
        temporary.with_name(".tmp1").touch()
        assert not (tmp_path / "a.txt").exists()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["whole"]
