"""Several fine-tuning seeds in one table, from stored rows whose means are known."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_results import configured, falling, write_cell, write_run

from iba.evaluation.stats import Resampling, mean_interval
from iba.report.stored import Stored, load
from iba.report.tables.seeds import TABLE, seeds_rows


def write_seed(root: Path, seed: int, drops: dict[str, float], n: int = 20) -> Path:
    return write_run(root, datasets=("rte",), protocols=("described",), drops=drops, n=n, seed=seed)


def loaded(root: Path) -> Stored:
    return load(configured(root, "dataset=rte", "protocol=described", "method=[iba,random]"))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """RTE under three seeds: IBA's drop is 0.30, 0.20 and 0.10, random's always 0.05."""
    root = tmp_path_factory.mktemp("seeds")
    for seed, drop in ((3, 0.30), (4, 0.20), (5, 0.10)):
        write_seed(root, seed, {"iba": drop, "random": 0.05})
    return loaded(root)


def test_means_and_differences_over_seeds(stored: Stored) -> None:
    rows = seeds_rows(stored).set_index(["method", "second"])
    assert set(rows.index) == {("iba", ""), ("random", ""), ("iba", "random")}
    iba = rows.loc[("iba", "")]
    assert (iba.n_seeds, iba.n, iba.seeds) == (3, 20, "3 4 5")
    assert iba.drop_11 == pytest.approx(0.20)
    assert [float(v) for v in iba.per_seed.split()] == pytest.approx([0.30, 0.20, 0.10])
    assert rows.loc[("iba", "random")].drop_11 == pytest.approx(0.15)


def test_the_interval_covers_the_spread_between_seeds(stored: Stored) -> None:
    row = seeds_rows(stored).set_index(["method", "second"]).loc[("iba", "")]
    alone = mean_interval(falling(20, 0.2)[0, 0] - falling(20, 0.2)[:, 1], Resampling())
    assert row.ci_high - row.ci_low > 2 * (alone.high - alone.low)
    # Three seeds at 0.1, 0.2 and 0.3: at least t(0.975; 2) = 4.30 standard errors of 0.0577 to each side.
    assert row.ci_high - 0.2 == pytest.approx(0.248, abs=0.01)
    assert 0.2 - row.ci_low == pytest.approx(0.248, abs=0.01)


def test_a_seed_that_lacks_a_method_is_left_out(tmp_path: Path) -> None:
    write_seed(tmp_path, 3, {"iba": 0.3, "random": 0.0})
    run = write_seed(tmp_path, 4, {"random": 0.1})
    rows = seeds_rows(loaded(tmp_path))
    assert list(rows.method) == ["random"]
    assert rows.ci_low.isna().all(), "two seeds"
    assert "[" not in TABLE.make(loaded(tmp_path)).grids[0].rows[0][5]
    write_cell(run, "rte", "described", "iba", falling(20, 0.1), seed=4)
    assert set(seeds_rows(loaded(tmp_path)).second) == {"", "random"}


def test_what_is_written(stored: Stored, tmp_path: Path) -> None:
    (grid,) = TABLE.make(stored).grids
    assert "IBA − Random" in [row[2] for row in grid.rows]
    assert "None for fewer than 3 seeds" in grid.notes[0]
    assert not any("**" in cell for row in grid.rows for cell in row), "nothing is settled"
    assert grid.rows[0][3:5] == ["3 · 4 · 5", "20"]
    assert grid.rows[0][-1] == "50.0 % · 50.0 % · 50.0 %"
    write_seed(tmp_path, 3, {"iba": 0.3, "random": 0.0})
    assert not TABLE.make(loaded(tmp_path)).grids, "one seed is all there is"


def test_other_seeds_may_have_fewer_texts(tmp_path: Path) -> None:
    """All numbers are of the 12 texts that every seed has; IBA is ahead by 0.2 to 0.22 under each of them."""
    for seed, drop, n in ((3, 0.30, 20), (4, 0.31, 12), (5, 0.32, 12)):
        write_seed(tmp_path, seed, {"iba": drop, "random": 0.1}, n)
    stored = loaded(tmp_path)
    rows = seeds_rows(stored).set_index(["method", "second"])
    assert (rows["n"] == 12).all()
    first = falling(20, 0.30)[:12, 0] - falling(20, 0.30)[:12, 1]
    assert float(rows.loc[("iba", "")].per_seed.split()[0]) == pytest.approx(first.mean(), abs=1e-4)
    assert rows.loc[("iba", "random")].ci_low > 0
    (grid,) = TABLE.make(stored).grids
    assert [row[2] for row in grid.rows if "**" in row[5]] == ["IBA − Random"]


def test_methods_of_different_seeds_are_not_paired(tmp_path: Path) -> None:
    for seed, drops in ((3, {"iba": 0.3, "random": 0.0}), (4, {"iba": 0.2}), (5, {"random": 0.1})):
        write_seed(tmp_path, seed, drops)
    rows = seeds_rows(loaded(tmp_path))
    assert rows.drop_11.notna().all()
    assert set(rows.second) == {""}, "one common seed is no sample"
