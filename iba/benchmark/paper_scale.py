"""How long the report takes, and in how much memory, on synthetic rows of the paper's size.

`python -m iba.benchmark.paper_scale FOLDER` writes 52,524 instances × 12 cells below FOLDER and makes every
part of the report from them. It prints and stores seconds, CPU seconds and peak memory of every step, and the
size of the rows.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from iba.benchmark.synthetic import write_cell, write_classifier, write_rows, write_tries
from iba.pipeline.degrade import columns
from iba.pipeline.experiment import cells, run_folder
from iba.report import claims, drawing, figure1, tables
from iba.report.stored import load
from iba.report.text import write_csv
from iba.settings import CONFIGS, plain
from iba.store import provenance, write_json

#: Mean tokens of a text, special ones counted: those of bert-base-uncased's word pieces, cut at 512.
MEAN_TOKENS = {"imdb": 280, "mnli_matched": 40, "mnli_mismatched": 41, "agnews": 53, "rte": 70}


def write(cfg: DictConfig, rng: np.random.Generator) -> None:
    """Random curves and scores of every cell."""
    for name, n in cfg.benchmark.full_rows.items():
        run, ids = run_folder(cfg), [f"test:{i}" for i in range(n)]
        predicted = rng.integers(0, 2, n)
        rows = pd.DataFrame({"instance_id": ids, "label": 1, "predicted": predicted})
        told = write_classifier(cfg, run, name, rows, cfg.finetune.seed, accuracy=0.5, label_distribution={})
        lengths = np.clip(rng.normal(1, 0.4, n) * MEAN_TOKENS[name], 8, 512).astype(int)
        special = [np.isin(np.arange(length), (0, length - 1)) for length in lengths]
        write_rows(run / name, ids, special)
        for asked in cells(cfg, name):
            cell = write_tries(run, asked, told, 0)
            scores = [rng.normal(size=length).astype("float16").astype("float32") for length in lengths]
            orders = [(1 + np.argsort(-one[1:-1], kind="stable")).astype("uint16") for one in scores]
            table = {"instance_id": ids, "target": np.int16(1), "order": orders, "scores": scores}
            curves = rng.beta(0.5, 0.5, (n, len(columns(cell.degradation))))
            seconds = rng.uniform(1, 2)
            write_cell(run, cell, told, pd.DataFrame(table), curves, seconds_per_instance=seconds)


def report(cfg: DictConfig) -> pd.DataFrame:
    """Every part of the report once: seconds, CPU seconds, and the peak of memory so far (MB)."""
    rows = []

    def step(name: str, make: Callable[..., Any], *given: Any) -> Any:
        started, cpu = time.monotonic(), time.process_time()
        made = make(*given)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        rows.append((name, time.monotonic() - started, time.process_time() - cpu, peak))
        print(f"{name:14s} {rows[-1][1]:8.1f} s {rows[-1][2]:8.1f} CPU s {peak:8.0f} MB", flush=True)
        return made

    stored = step("rows", load, cfg)
    step("all pairs", lambda: stored.tests)
    for table in tables.every():
        step(table.name, table.make, stored)
    step("verdicts", claims.judge, stored)
    elsewhere = replace(stored, folder=stored.folder.with_name("drawn"))
    step("figure 1", lambda: drawing.write(elsewhere, figure1.pictures(stored)))
    table = pd.DataFrame(rows, columns=["step", "seconds", "cpu_seconds", "peak_memory_mb"])
    table.loc[len(table)] = ["whole", *table[["seconds", "cpu_seconds"]].sum(), table["peak_memory_mb"].max()]
    return table


def committed(run: Path) -> dict[str, float]:
    """Megabytes of the files of every kind below the run's folder."""
    kinds = ("degradation-*.parquet", "scores.parquet", "rows-*.parquet", "*.json")
    return {kind: sum(path.stat().st_size for path in run.rglob(kind)) / 1e6 for kind in kinds}


def main(folder: Path) -> None:
    """Write what is not there yet, measure, and store `results/benchmark/paper_scale.*`."""
    asked = ("preset=paper", "method=[iba,ig,lime,random]", "degradation.orders=[most]", "device=cpu")
    paths = (f"paths.root={CONFIGS.parent}", f"paths.results={folder}", f"paths.cache={folder}/cache")
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("benchmark", overrides=[*asked, *paths])
    if not run_folder(cfg).is_dir():
        write(cfg, np.random.default_rng(cfg.seed))
    rows, sizes = report(cfg), committed(run_folder(cfg))
    print(*(f"{kind}: {size:.1f} MB" for kind, size in sizes.items()), sep="\n")
    stem = CONFIGS.parent / "results" / "benchmark" / "paper_scale"
    write_csv(stem.with_suffix(".csv"), rows)
    about = {
        "full_rows": plain(cfg.benchmark.full_rows),
        "mean_tokens": MEAN_TOKENS,
        "stats": plain(cfg.stats),
    }
    record = {"settings": about, "megabytes": sizes, "provenance": provenance("cpu")}
    write_json(stem.with_suffix(".json"), record)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
