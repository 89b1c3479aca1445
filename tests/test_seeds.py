"""Several fine-tuning seeds in one table, from stored rows whose means are known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fake_results import configured, falling, write_cell, write_run

from iba.evaluation.stats import Resampling, mean_interval
from iba.pipeline.store import write_json
from iba.report import seeds
from iba.report.rows import load


def with_seed(run: Path, seed: int) -> None:
    path = run / "rte" / "classifier.json"
    record = json.loads(path.read_text())
    record["settings"]["recipe"]["seed"] = seed
    write_json(path, record)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RTE under three seeds: IBA's drop is 0.30, 0.20 and 0.10, random's always 0.05."""
    root = tmp_path_factory.mktemp("seeds")
    for seed, drop in ((3, 0.30), (4, 0.20), (5, 0.10)):
        run = "bge_small" if seed == 3 else f"bge_small/seeds/{seed}"
        drops = {"iba": drop, "random": 0.05}
        with_seed(write_run(root, run, ("rte",), ("described",), drops), seed)
    return root


def cfg_of(folder: Path):
    return configured(folder, "dataset=rte", "protocol=described", "method=[iba,random]")


def test_means_and_differences_over_seeds(folder: Path) -> None:
    rows = seeds.table(load(cfg_of(folder))).set_index(["method", "second"])
    assert set(rows.index) == {("iba", ""), ("random", ""), ("iba", "random")}
    iba = rows.loc[("iba", "")]
    assert (iba.n_seeds, iba.n, iba.seeds) == (3, 20, "3 4 5")
    assert iba.drop_11 == pytest.approx(0.20)
    assert [float(v) for v in iba.per_seed.split()] == pytest.approx([0.30, 0.20, 0.10])
    assert rows.loc[("iba", "random")].drop_11 == pytest.approx(0.15)


def test_the_interval_covers_the_spread_between_seeds(folder: Path) -> None:
    row = seeds.table(load(cfg_of(folder))).set_index(["method", "second"]).loc[("iba", "")]
    alone = mean_interval(falling(20, 0.2)[0, 0] - falling(20, 0.2)[:, 1], Resampling())
    assert row.ci_high - row.ci_low > 2 * (alone.high - alone.low)
    # Three seeds at 0.1, 0.2 and 0.3: at least t(0.975; 2) = 4.30 standard errors of 0.0577 to each side.
    assert row.ci_high - 0.2 == pytest.approx(0.248, abs=0.01)
    assert 0.2 - row.ci_low == pytest.approx(0.248, abs=0.01)


def test_a_seed_that_lacks_a_method_is_left_out(folder: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path, "bge_small", ("rte",), ("described",), {"iba": 0.3, "random": 0.0})
    with_seed(run, 3)
    other = write_run(tmp_path, "bge_small/seeds/4", ("rte",), ("described",), {"random": 0.1})
    with_seed(other, 4)
    rows = seeds.table(load(cfg_of(tmp_path)))
    assert list(rows.method) == ["random"]
    assert rows.ci_low.isna().all(), "two seeds"
    assert "[" not in seeds.grid(load(cfg_of(tmp_path)), rows).rows[0][4]
    write_cell(other, "rte", "described", "iba", falling(20, 0.1))
    assert set(seeds.table(load(cfg_of(tmp_path))).second) == {"", "random"}


def test_files_and_accuracies(folder: Path, tmp_path: Path) -> None:
    paths = seeds.report(load(cfg_of(folder))).write(folder)
    text = next(p for p in paths if p.suffix == ".md").read_text()
    assert "IBA − Random" in text
    assert "None for fewer than 3 seeds" in text
    assert "seeds 3, 4, 5: accuracy 50.0 %, 50.0 %, 50.0 %" in text
    single = write_run(
        tmp_path, datasets=("rte",), protocols=("described",), drops={"iba": 0.3, "random": 0.0}
    )
    with_seed(single, 3)
    assert seeds.report(load(cfg_of(tmp_path))).write(single) == []
    assert np.all([not (single / f"seeds.{kind}").exists() for kind in ("csv", "md", "tex")])


def test_methods_of_different_seeds_are_not_paired(tmp_path: Path) -> None:
    for seed, drops in ((3, {"iba": 0.3, "random": 0.0}), (4, {"iba": 0.2}), (5, {"random": 0.1})):
        run = "bge_small" if seed == 3 else f"bge_small/seeds/{seed}"
        with_seed(write_run(tmp_path, run, ("rte",), ("described",), drops), seed)
    rows = seeds.table(load(configured(tmp_path, "dataset=rte", "protocol=described")))
    assert rows.drop_11.notna().all()
    assert set(rows.second) == {""}, "one common seed is no sample"
