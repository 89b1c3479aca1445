"""Run the campaign of results/PREREGISTRATION.md: `scripts/campaign.py paths.data_dir=A paths.model_dir=B`.

The steps of its parts run in the preregistered order, each by its stage's own script. A stopped step goes on
where it ended; one that ended well is not run again. The run's `hours.csv` gets a line for every step that
ran. Words without "=" pick the steps in which all of them stand: `scripts/campaign.py rte corrected …`.
"""

from __future__ import annotations

import csv
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from iba.cli import CONFIGS
from iba.pipeline.experiment import run_folder
from iba.pipeline.views import stored_cells
from iba.store import git_commit

Step = tuple[str, list[str]]
SETS = ("rte", "mnli_matched", "agnews", "imdb", "mnli_mismatched")
TABLE1 = ("attribute", "degrade")
#: What the tries of Table 1's methods change, and how many texts another fine-tuning seed gets.
TRIED = {"iba": ("beta",), "ig": ("n_steps", "baseline"), "lime": ("n_samples", "kernel_width")}
SEEDED = {"mnli_matched": 150, "mnli_mismatched": 150, "agnews": 150, "imdb": 50, "rte": 150}
CHECKS = (
    *("classifiers", "targets", "noise_seeds", "operators", "padding"),
    *("token_layers", "token_betas", "token_classifiers"),
)
MPNET = ("model=mpnet_base", "run=campaign_mpnet", "paths.model_dir=null", "protocol=corrected")
MPNET_SIZES = {
    "mnli_matched": ("n_train=12000", "finetune.epochs=1"),
    "rte": (),
    "imdb": ("n_train=2000", "max_length=128"),
}


def steps(cfg: DictConfig) -> Iterator[Step]:
    """(part, stage and its settings), in the preregistered order; some depend on what earlier ones stored."""
    for name in ("mnli_matched", "rte", "agnews", "imdb"):
        yield "1 classifiers", ["finetune", f"dataset={name}"]
    for name in SETS:
        yield from _each("2 corrected", ("finetune", *TABLE1), f"dataset={name}", "protocol=corrected")
    for name in SETS:
        few = (f"dataset={name}", "protocol=[described,released]", "method=[iba,ig,lime,random]")
        yield from _each("3 described, released", TABLE1, *few)
    for name in SETS:
        yield from _each("4 all methods", TABLE1, f"dataset={name}", "protocol=corrected", "method=all")
    for name in SETS:
        yield "5 random orders", ["orders", f"dataset={name}", "protocol=corrected", "method=all"]
    marked = ("dataset=[mnli_rationales,movies_rationales]", "protocol=corrected", "method=all")
    yield from _each("6 agreement with people", ("finetune", "attribute"), *marked)
    for seed in range(4, 13):
        yield from _seed(cfg, "7 RTE, seeds 4–12", seed, "rte")
    for study, protocol in (("betas", "[described,released]"), ("layers", "described")):
        yield "8 studies", ["study", f"study={study}", "dataset=imdb", f"protocol={protocol}"]
    yield from _seeds(cfg, "9 other seeds", 4, 5)
    asked = ("dataset=[mnli_matched,agnews,rte,imdb]", "protocol=described", "method=[ig_50,lime_1000]")
    yield from _each("10 more steps, more samples", TABLE1, *asked)
    for name, sizes in MPNET_SIZES.items():
        own = [f"dataset.{name}.{size}" for size in ("n_test=150", "n_calibration=16", *sizes)]
        yield from _each("11 mpnet_base", ("finetune", *TABLE1), *MPNET, f"dataset={name}", *own)
    yield from _seeds(cfg, "12 other seeds", 6, 7)
    for study in CHECKS:
        yield "13 checks", ["study", f"study={study}"]
    planted = ("dataset=[planted,planted_pair]", "protocol=corrected", "method=all")
    yield from _each("13 checks", ("finetune", *TABLE1), *planted)


def _each(part: str, stages: tuple[str, ...], *settings: str) -> Iterator[Step]:
    for stage in stages:
        yield part, [stage, *settings]


def _seeds(cfg: DictConfig, part: str, *seeds: int) -> Iterator[Step]:
    for seed in seeds:
        for name in SETS[1:]:
            yield from _seed(cfg, part, seed, name)


def _seed(cfg: DictConfig, part: str, seed: int, name: str) -> Iterator[Step]:
    """Table 1 under `corrected` with another fine-tuning seed and the settings that the run's own chose."""
    own = [f"finetune.seed={seed}", f"dataset.{name}.n_test={SEEDED[name]}"]
    yield part, ["finetune", f"dataset={name}", *own]
    asked = (int(cfg.finetune.seed), None, "corrected", name)
    stored = {
        cell.view.method: cell.record["method"]
        for cell in stored_cells(cfg)
        if (cell.view.seed, cell.view.study, cell.view.protocol, cell.view.dataset) == asked
    }
    for method, names in TRIED.items():
        settings, place = stored.get(method, {}), f"protocol.corrected.methods.{method}"
        own += [f"{place}.tries=[]", *(f"++{place}.{n}={settings[n]}" for n in names if n in settings)]
    given = (f"dataset={name}", "protocol=corrected", "method=[iba,ig,lime,random]", *own)
    yield from _each(part, TABLE1, *given)


def main(given: list[str]) -> int:
    """Run what is not done; the number of steps that failed."""
    words, given = [a for a in given if "=" not in a], [a for a in given if "=" in a]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", ["preset=campaign", f"paths.root={CONFIGS.parent}", *given])
    run = run_folder(cfg)
    hours = run / "hours.csv"
    run.mkdir(parents=True, exist_ok=True)
    failed = 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for part, (stage, *settings) in steps(cfg):
        step = " ".join([stage, *settings])
        if step in _done(hours) or not all(word in f"{part} {step}" for word in words):
            continue
        print(f"{part}: {step}", flush=True)
        failed += bool(
            _timed(hours, part, step, [f"scripts/{stage}.py", "preset=campaign", *given, *settings])
        )
    return failed


def _done(hours: Path) -> set[str]:
    """The steps that ended well."""
    if not hours.is_file():
        return set()
    with hours.open(newline="") as lines:
        return {line["step"] for line in csv.DictReader(lines) if line["status"] == "0"}


def _timed(hours: Path, part: str, step: str, command: list[str]) -> int:
    """Run a command and write down what it took, also where it is stopped."""
    started, before, status = time.time(), resource.getrusage(resource.RUSAGE_CHILDREN), -1
    try:
        status = subprocess.run([sys.executable, *command], cwd=CONFIGS.parent, check=False).returncode
    finally:
        after, new = resource.getrusage(resource.RUSAGE_CHILDREN), not hours.is_file()
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        with hours.open("a", newline="") as lines:
            table = csv.writer(lines)
            if new:
                table.writerow(["part", "step", "wall_seconds", "cpu_seconds", "status", "git_commit"])
            wall = round(time.time() - started, 1)
            table.writerow([part, step, wall, round(cpu, 1), status, git_commit()])
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
