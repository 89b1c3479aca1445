"""A quarter of an hour of one GPU, in the order of value per second; what is run is in `plan`.

Every part is a script in a process of its own, killed when its time is up. Scripts keep what they finished,
so the same command goes on from there; `<run>/gpu.json` lists the finished parts and the seconds of all.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from iba.devices import resolve_device
from iba.errors import UserError
from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import datasets, run_folder, selected
from iba.settings import CONFIGS
from iba.store import read_json, read_parquet, write_json

ROOT = CONFIGS.parent
#: What only the benchmark's configuration holds, and what only that of this script does.
_OF_BENCHMARK, _OWN = ("benchmark.", "cuda."), "gpu."
#: The share of the time left that the rationed set may take: the rest is for loading it and for the report.
_RATION = 0.75

#: What Python is called with; empty as long as that is not known.
Arguments = tuple[str, ...]


def run(cfg: DictConfig) -> None:
    """Spend `gpu.limit_minutes` on what is not finished yet; `UserError` if something is left."""
    check_settings(cfg)
    if not torch.cuda.is_available():  # where there is one, the parts alone use it
        resolve_device(cfg.device)
    hydra = HydraConfig.get()
    planned = partial(plan, cfg, list(hydra.overrides.task), str(hydra.runtime.choices["preset"]))
    session = Session(run_folder(cfg), 60 * float(cfg.gpu.limit_minutes))
    # What was cut off goes on when all others have had their turn.
    for turns in (cfg.gpu.turn_minutes, DictConfig({})):
        for name in planned(None):
            session.ration(cfg)
            session.work(name, planned(session.texts), 60 * float(turns.get(name, math.inf)))
    if left := session.left(planned(session.texts)):
        raise UserError(f"not finished: {', '.join(left)}. The same command goes on from here.")


def plan(cfg: DictConfig, given: Sequence[str], preset: str, texts: int | None) -> dict[str, Arguments]:
    """The parts in their order.

    `given`: the command line's overrides, which hold for every part that does not set the same itself.
    `texts`: of the rationed set; None while it is not known.
    """
    rationed = str(cfg.gpu.rationed)
    first = [name for name in datasets(cfg) if name != rationed]
    last = [name for name in datasets(cfg) if name == rationed]
    few = [f"++method.{name}.n_test.{rationed}={texts}" for name in selected(cfg.method)]
    protocols = ",".join(name for name in selected(cfg.protocol) if name != "benchmark")
    of_stages = (f"preset={preset}", f"protocol=[{protocols}]", "study=[]")
    of_benchmark = ("--config-name=gpu", "method=[iba,lime,ig]")
    of_shape = ("preset=paper", "model=bert_base_random", "benchmark.classifier=fresh")

    def script(name: str, sets: Sequence[str], own: Sequence[str]) -> Arguments:
        own = (*own, f"dataset=[{','.join(sets)}]")
        set_here = {_key(one) for one in own}
        foreign = [_OWN, *(f"dataset.{other}." for other in datasets(cfg) if other not in sets)]
        foreign += () if own[0] == of_benchmark[0] else _OF_BENCHMARK
        kept = [o for o in given if _key(o) not in set_here and not _key(o).startswith(tuple(foreign))]
        return str(ROOT / "scripts" / f"{name}.py"), *own, *kept

    parts = {
        "tests": ("-m", "pytest", "-n", "0", str(ROOT / "tests" / "test_devices.py")),
        "projection": script("projection", [*first, *last], (*of_benchmark, *of_shape)),
        "finetune": script("finetune", [*first, *last], of_stages),
        "attribute": script("attribute", first, of_stages),
        "degrade": script("degrade", first, of_stages),
        "benchmark": script("benchmark", cfg.gpu.benchmark_datasets, (*of_benchmark, f"preset={preset}")),
    }
    for stage in ("attribute", "degrade") if last else ():
        parts[f"{stage} {rationed}"] = script(stage, last, (*of_stages, *few)) if texts else ()
    return parts | {"report": script("report", [*first, *last], of_stages)}


def _key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


class Session:
    """The clock of one call, which has `seconds`, and what all calls finished of the run in `folder`."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self.folder, self.path = folder, folder / "gpu.json"
        self.end, self.failed = time.monotonic() + seconds, set[str]()
        start: dict[str, Any] = {"finished": {}, "seconds": {}, "texts": None}
        self.record: dict[str, Any] = read_json(self.path) if self.path.is_file() else start

    @property
    def texts(self) -> int | None:
        """How many texts of the rationed set are attributed, once that is decided."""
        texts: int | None = self.record["texts"]
        return texts

    @property
    def remaining(self) -> float:
        """Seconds left of this call."""
        return self.end - time.monotonic()

    def left(self, parts: dict[str, Arguments]) -> list[str]:
        """The parts that are not finished as they are planned now."""
        finished = self.record["finished"]
        unfinished = [name for name in parts if finished.get(name) != list(parts[name])]
        return [f"{name} (failed)" if name in self.failed else name for name in unfinished]

    def work(self, name: str, parts: dict[str, Arguments], most: float) -> None:
        """Call a part, if it is left, for at most `most` seconds of all calls; say what is done and left."""
        before = self.record["seconds"].get(name, 0)
        seconds = min(most - before, self.remaining)
        if name not in self.left(parts) or not parts[name] or seconds <= 0:
            return
        print(f"── {name}", flush=True)
        started = time.monotonic()
        status = call(parts[name], seconds)
        spent = round(time.monotonic() - started, 1)
        if status == 0:
            self.record["finished"][name] = list(parts[name])
        elif status is not None:
            self.failed.add(name)
        self.record["seconds"][name] = before + spent
        write_json(self.path, self.record)
        failed = f"failed with exit status {status} (python {' '.join(parts[name])})"
        how, left = {0: "done", None: "time is up"}.get(status, failed), self.left(parts)
        print(f"── {name}: {how}, {spent:.0f} s; {max(0, self.remaining):.0f} s remain", flush=True)
        done = ", ".join(one for one in parts if one not in left and one not in self.failed)
        print(f"── done: {done or 'nothing'}; left: {', '.join(left) or 'nothing'}", flush=True)

    def ration(self, cfg: DictConfig) -> None:
        """Decide once how many texts of the rationed set time allows, by what a token of the others took."""
        rationed, seconds = str(cfg.gpu.rationed), self.record["seconds"]
        known = {"attribute", "degrade"} <= self.record["finished"].keys()
        if self.texts or rationed not in datasets(cfg) or not known:
            return
        others = sum(self._tokens(name).sum() for name in datasets(cfg) if name != rationed)
        own = self._tokens(rationed)
        of_a_text = (seconds["attribute"] + seconds["degrade"]) / others * own.mean()
        texts = min(len(own), int(_RATION * self.remaining / of_a_text))
        # Where that is too few, a later call decides, which has more time.
        if texts >= min(int(cfg.gpu.least_texts), len(own)):
            self.record["texts"] = texts
            write_json(self.path, self.record)

    def _tokens(self, dataset: str) -> pd.Series:
        """The lengths of a set's test texts."""
        files = (self.folder / dataset).rglob("classifier.parquet")
        rows = read_parquet(max(files, key=lambda path: path.stat().st_mtime), ["n_tokens", "attributed"])
        return rows.loc[rows["attributed"], "n_tokens"]


def call(arguments: Arguments, seconds: float) -> int | None:
    """Exit status of Python with these arguments; None if it was killed after `seconds`."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path, "TEST_CUDA": "1"}
    tied = _die_with_parent if sys.platform == "linux" else None
    try:
        command = [sys.executable, *arguments]
        return subprocess.run(command, env=environment, timeout=seconds, preexec_fn=tied).returncode
    except subprocess.TimeoutExpired:
        return None


def _die_with_parent() -> None:
    """Else a part whose parent was killed would work, and be timed, beside the next call's."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
