"""Sanity checks and rank agreement, from stored rows whose numbers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_results import (
    configured,
    degradation,
    falling,
    write_attributions,
    write_cell,
    write_point,
    write_run,
    write_study_scores,
)

from iba.evaluation.stats import Resampling
from iba.pipeline.store import read_parquet, write_parquet
from iba.report import agreement, sanity, sanity_rows
from iba.report.claims.order import larger
from iba.report.comparisons import all_pairs
from iba.report.rows import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on IMDB; explaining an untrained classifier takes IBA's drop from 0.30 to 0.05."""
    root = tmp_path_factory.mktemp("sanity")
    run = write_run(root, datasets=("imdb",), protocols=("described",))
    for weights, drop in (("fine-tuned", 0.30), ("random", 0.05)):
        write_point(run, "classifiers", "described", f"iba/weights={weights}", falling(20, drop))
    write_point(run, "classifiers", "described", "random/reference", falling(20, 0.02))
    for method in ("iba", "random"):
        write_attributions(run, "imdb", "described", method, 20)
    return root


def test_an_untrained_classifier_costs_the_method_its_power(folder: Path) -> None:
    stored = load(configured(folder, "dataset=imdb", "protocol=described"))
    rows = sanity.table(stored).set_index("point")
    assert list(rows.index) == ["fine-tuned", "random", "reference"]
    assert rows.drop_11.to_list() == pytest.approx([0.30, 0.05, 0.02])
    assert rows.loc["random", "difference"] == pytest.approx(-0.25)
    assert rows.loc[["fine-tuned", "reference"], "difference"].isna().all()
    texts = [p.read_text() for p in sanity.report(stored).write(stored.folder) if p.suffix == ".md"]
    assert "an untrained classifier is explained" in texts[0]


def test_points_are_compared_by_deletion_where_the_operators_are_no_points(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",))
    for weights, drop in (("fine-tuned", 0.30), ("random", 0.05)):
        write_point(run, "classifiers", "described", f"iba/weights={weights}", falling(20, drop))
        path = run / "studies/classifiers/imdb/described/iba" / f"weights={weights}" / "degradation.parquet"
        masked = degradation("described", "imdb", "iba", falling(20, 0.7), operators=("mask",))
        write_parquet(path, pd.concat([read_parquet(path), masked]))
    rows = sanity.table(load(configured(tmp_path, "dataset=imdb", "protocol=described")))
    assert rows["drop_11"].to_list() == pytest.approx([0.30, 0.05])


def test_more_steps_of_ig_are_compared_and_their_completeness_gap_is_told(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    gaps = []
    for steps, drop, gap in ((10, 0.30, 0.04), (100, 0.35, 0.01), (50, 0.34, 0.02)):
        write_point(run, "ig_steps", "corrected", f"ig/n_steps={steps}", falling(20, drop))
        point = {"protocol": "corrected", "dataset": "imdb", "method": "ig", "point": f"n_steps={steps}"}
        gaps += [point | {"instance_id": f"i{k:04d}", "completeness_gap": gap * (-1) ** k} for k in range(20)]
    write_parquet(run / "studies" / "ig_steps" / "diagnostics.parquet", pd.DataFrame(gaps))
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=corrected"))
    (grid,) = sanity.grids(stored, sanity.table(stored))
    assert [line[3] for line in grid.rows] == ["10 steps", "50 steps", "100 steps"]
    assert grid.heads[-3:] == ["completeness gap", "drop changes by", "drop minus IBA's"]
    assert [line[-3] for line in grid.rows] == ["0.040", "0.020", "0.010"]
    assert [line[-2].split(" ")[0] for line in grid.rows] == ["–", "0.040", "0.050"]


def test_the_points_are_compared_with_the_rival_of_table_1_on_the_instances_of_both(tmp_path: Path) -> None:
    """IBA drops by 0.30 on the 40 instances of Table 1; the study has 20 of them, with less and with more."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    write_cell(run, "imdb", "corrected", "iba", falling(40, 0.30, spread=0.0))
    for steps, drop in ((10, 0.25), (50, 0.40)):
        write_point(run, "ig_steps", "corrected", f"ig/n_steps={steps}", falling(20, drop))
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=corrected", "method=iba"))
    rows = sanity.table(stored)
    assert rows["over_rival"].to_list() == pytest.approx([-0.05, 0.10])
    assert (rows["over_rival_low"] < rows["over_rival"]).all()
    (grid,) = sanity.grids(stored, rows)
    assert grid.heads[-1] == "drop minus IBA's"
    assert [line[-1].split(" ")[0] for line in grid.rows] == ["−0.050", "0.100"]


def test_the_claims_tell_what_more_steps_of_ig_change_and_decide_nothing_by_it(tmp_path: Path) -> None:
    """IBA drops by 0.30, IG by 0.20 in Table 1 and by 0.40 with 50 steps, on 250 instances."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), n=250)
    for method, drop in (("iba", 0.30), ("ig", 0.20)):
        write_cell(run, "imdb", "corrected", method, falling(250, drop, spread=0.0))
    for steps, drop in ((10, 0.20), (50, 0.40)):
        write_point(run, "ig_steps", "corrected", f"ig/n_steps={steps}", falling(250, drop))
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=corrected"))
    tests = all_pairs(stored)
    ahead, behind = (larger(stored, tests, "corrected", "imdb", *p) for p in (("iba", "ig"), ("ig", "iba")))
    assert (ahead.state, behind.state) == ("holds", "fails")
    assert "IBA − IG = 0.100" in ahead.text
    assert "; with 50 steps of IG −0.100 [−0.10" in ahead.text
    assert "; with 50 steps of IG 0.100 [0.09" in behind.text
    assert "10 steps" not in behind.text
    assert "steps" not in larger(stored, tests, "corrected", "imdb", "iba", "lime").text


def test_a_check_without_the_point_to_compare_with_shows_its_levels(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    for steps in (50, 100):
        write_point(run, "ig_steps", "corrected", f"ig/n_steps={steps}", falling(20, 0.3))
    rows = sanity.table(load(configured(tmp_path, "dataset=imdb", "protocol=corrected")))
    assert rows["drop_11"].to_list() == pytest.approx([0.3, 0.3])
    assert "difference" not in rows


def test_the_level_of_random_scores_is_tested(folder: Path) -> None:
    """0.30 and 0.05 against 0.02 on the same 20 instances, two comparisons in the family."""
    stored = load(configured(folder, "dataset=imdb", "protocol=described"))
    rows = sanity.table(stored).set_index("point")
    assert rows.loc[["fine-tuned", "random"], "over_random"].to_list() == pytest.approx([0.28, 0.03])
    assert np.isnan(rows.loc["reference", "over_random"])
    # The curves differ by constants, so every sign pattern but two is less extreme: p = 2 × 2 / 2^20 at best.
    assert (rows.loc[["fine-tuned", "random"], "over_random_p_holm"] < 0.001).all()
    (grid,) = sanity.grids(stored, sanity.table(stored))
    assert grid.heads[-1] == "drop minus random's"
    assert [line[-1] for line in grid.rows][1:] == ["0.030 [0.030, 0.030], p < 0.001", "–"]


def test_random_is_compared_under_the_same_operator(folder: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.1, (2, 40))
    ids = [f"i{k}" for k in range(40)]
    drops = {
        "iba": pd.DataFrame({"delete": 0.3 + noise[0], "mask": 0.1 + noise[0]}, index=ids),
        "random": pd.DataFrame({"delete": noise[1] - noise[1].mean(), "mask": 0.1 + noise[0]}, index=ids),
    }
    found = sanity_rows._over_random(drops, Resampling(0.95, 300, 3))
    assert set(found) == {("iba", "delete"), ("iba", "mask")}
    assert found["iba", "mask"]["over_random"] == 0
    assert found["iba", "mask"]["over_random_p_holm"] == 1
    assert found["iba", "delete"]["over_random_p_holm"] < 0.001
    assert sanity_rows._over_random({"iba": drops["iba"]}, Resampling()) == {}


def test_kendall_by_hand() -> None:
    first, special = np.array([9.0, 1, 2, 3, 4]), np.array([True, False, False, False, False])
    # One of six pairs is turned round: (5 − 1) / 6.
    assert agreement.kendall(first, np.array([0.0, 1, 2, 4, 3]), special) == pytest.approx(4 / 6)
    assert agreement.kendall(first, -first, special) == pytest.approx(-1)
    assert np.isnan(agreement.kendall(first, np.ones(5), special))


def test_agreement_of_methods_is_kept_where_the_scores_are_gone(folder: Path) -> None:
    stored = load(configured(folder, "dataset=imdb", "protocol=described"))
    agreement.report(stored).write(stored.folder)
    path = stored.folder / "agreement.csv"
    (row,) = pd.read_csv(path).itertuples()
    assert (row.kind, row.first, row.second, row.n) == ("methods", "iba", "random", 20)
    # a very good film ##s: 0.1 0.4 0.9 0.3 −0.2 against 0.9 0.1 0.2 0.3 0.4.
    assert row.tau == pytest.approx(-0.6)
    before = path.read_bytes()
    for scores in stored.folder.rglob("attributions.parquet"):
        scores.unlink()
    agreement.report(stored).write(stored.folder)
    assert path.read_bytes() == before


def test_agreement_computed_anew_takes_its_old_place(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",))
    for method in ("iba", "random"):
        write_attributions(run, "imdb", "described", method, 20)
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=described"))
    agreement.report(stored).write(stored.folder)
    path = stored.folder / "agreement.csv"
    row = pd.read_csv(path)
    elsewhere = row.assign(dataset="rte", n=277)
    pd.concat([row.assign(n=3, tau=0.0), elsewhere]).to_csv(path, index=False)
    found = agreement.table(stored)
    assert found.dataset.to_list() == ["imdb", "rte"]
    assert found.n.to_list() == [20, 277]
    assert found.tau.to_list() == pytest.approx([-0.6, -0.6])


def test_over_random_is_one_holm_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sanity_rows, "sign_flip_test", lambda differences, how: np.full(len(differences), 0.03)
    )
    drops = {
        "iba": pd.DataFrame({"delete": [0.3, 0.2], "mask": [0.1, 0.2]}),
        "random": pd.DataFrame({"reference": [0.0, 0.1]}),
    }
    found = sanity_rows._over_random(drops, Resampling(0.95, 300, 3))
    assert [f["over_random_p_holm"] for f in found.values()] == pytest.approx([0.06, 0.06])


def test_a_study_without_the_point_to_compare_with(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",))
    for seed, drop in ((4, 0.3), (5, 0.2)):
        write_point(run, "noise_seeds", "described", f"iba/seed={seed}", falling(20, drop))
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=described"))
    rows = sanity.table(stored)
    assert rows.drop_11.to_list() == pytest.approx([0.3, 0.2])
    assert "difference" not in rows or rows["difference"].isna().all()
    assert len(sanity.grids(stored, rows)) == 1


def test_rankings_are_paired_by_instance_and_neighbours_by_value(tmp_path: Path) -> None:
    first = pd.DataFrame(
        {
            "instance_id": ["a", "b"],
            "special": [np.zeros(3, bool)] * 2,
            "scores": [np.array([1.0, 2, 3]), np.array([3.0, 2, 1])],
        }
    )
    assert agreement.agree(first, first.iloc[::-1].reset_index(drop=True)).tolist() == [1, 1]
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",))
    bits = {"layer=1": [0.0, 1, 2, 3, 0], "layer=2": [0.0, 1, 2, 3, 0], "layer=10": [0.0, 3, 2, 1, 0]}
    write_study_scores(run, "layers", "described", bits, 4)
    rows = agreement.table(load(configured(tmp_path, "dataset=imdb", "protocol=described")))
    found = rows[rows.kind == "layers"]
    pairs = list(zip(found["first"], found["second"], strict=True))
    assert pairs == [("layer=1", "layer=2"), ("layer=2", "layer=10")]
    assert found.tau.tolist() == pytest.approx([1, -1])
