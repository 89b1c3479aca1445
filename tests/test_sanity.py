"""Sanity checks and rank agreement, from stored rows whose numbers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_results import (
    cell_place,
    configured,
    falling,
    ids,
    write_attributions,
    write_cell,
    write_numbers,
    write_run,
    write_study,
    write_study_scores,
)
from scipy import stats

from iba.evaluation.stats import Resampling
from iba.report import frame
from iba.report.stored import Stored, load
from iba.report.tables import agreement, sanity
from iba.report.tables.agreement import agreement_rows, kendall, taus
from iba.report.tables.sanity import sanity_rows

HOW = Resampling(0.95, 300, 3)


def run_on(root: Path, *datasets: str) -> Path:
    return write_run(root, datasets=datasets, protocols=("corrected",))


def loaded(root: Path, *datasets: str) -> Stored:
    return load(configured(root, f"dataset=[{','.join(datasets)}]", "protocol=corrected"))


def write_steps(run: Path, drops: dict[int, float], n: int = 20) -> None:
    """IG on IMDB with these numbers of steps."""
    curves = {steps: falling(n, drop) for steps, drop in drops.items()}
    write_study(run, "ig_steps", "corrected", curves, method="ig")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """A run on RTE; explaining an untrained classifier takes IBA's drop from 0.30 to 0.05."""
    root = tmp_path_factory.mktemp("sanity")
    points = {"fine-tuned": falling(20, 0.30), "random": falling(20, 0.05)}
    write_study(
        run_on(root, "rte"), "classifiers", "corrected", points, {"random": falling(20, 0.02)}, dataset="rte"
    )
    return loaded(root, "rte")


def test_an_untrained_classifier_costs_the_method_its_power(stored: Stored) -> None:
    rows = sanity_rows(stored).set_index("point")
    assert list(rows.index) == ["fine-tuned", "random", "reference"]
    assert rows.drop_11.to_list() == pytest.approx([0.30, 0.05, 0.02], abs=1e-6)
    assert rows.loc["random", "difference"] == pytest.approx(-0.25)
    assert rows.loc[["fine-tuned", "reference"], "difference"].isna().all()
    assert "an untrained classifier is explained" in sanity.TABLE.make(stored).grids[0].caption


def test_the_level_of_random_scores_is_tested(stored: Stored) -> None:
    """0.30 and 0.05 against 0.02 on the same 20 instances, two comparisons in the family."""
    rows = sanity_rows(stored).set_index("point")
    assert rows.loc[["fine-tuned", "random"], "over_random"].to_list() == pytest.approx([0.28, 0.03])
    assert np.isnan(rows.loc["reference", "over_random"])
    # The curves differ by constants, so every sign pattern but two is less extreme: p = 2 × 2 / 2^20 at best.
    assert (rows.loc[["fine-tuned", "random"], "over_random_p_holm"] < 0.001).all()
    (grid,) = sanity.TABLE.make(stored).grids
    assert grid.heads[-1] == "drop minus random's"
    assert [line[-1] for line in grid.rows][1:] == ["0.030 [0.030, 0.030], p < 0.001", "–"]


def test_the_operators_are_points_and_elsewhere_only_deletion_counts(tmp_path: Path) -> None:
    """The points of `operators` are the operators of one cell each; random is compared under the same."""
    run = run_on(tmp_path, "mnli_matched")
    for method, drop in (("iba", 0.3), ("random", 0.1)):
        write_cell(run, "mnli_matched", "corrected", method, falling(20, drop), study="operators")
    stored = loaded(tmp_path, "mnli_matched")
    rows = sanity_rows(stored)
    iba = rows[rows["method"] == "iba"].set_index("point")
    assert list(iba.index) == ["delete", "attention", "mask"]
    assert iba["over_random"].to_list() == pytest.approx([0.2] * 3)
    assert iba["difference"].iloc[1:].to_list() == pytest.approx([0, 0])
    assert set(stored.frame.of(study="operators").rows["operator"]) == {"delete", "attention", "mask"}


def test_more_steps_of_ig_are_compared_and_their_completeness_gap_is_told(tmp_path: Path) -> None:
    run = run_on(tmp_path, "imdb")
    write_steps(run, {10: 0.30, 50: 0.34})
    for steps, gap in ((10, 0.04), (50, 0.02)):
        folder, _, _ = cell_place(run, "imdb", "corrected", "ig", "ig_steps", steps)
        write_numbers(folder, 20, completeness_gap=[gap * (-1) ** k for k in range(20)])
    (grid,) = sanity.TABLE.make(loaded(tmp_path, "imdb")).grids
    assert [line[3] for line in grid.rows] == ["10 steps", "50 steps"]
    assert grid.heads[-3:] == ["completeness gap", "drop changes by", "drop minus IBA's"]
    assert [line[-3] for line in grid.rows] == ["0.040", "0.020"]
    assert [line[-2].split(" ")[0] for line in grid.rows] == ["–", "0.040"]


def test_the_points_are_compared_with_the_rival_of_table_1_on_the_instances_of_both(tmp_path: Path) -> None:
    """IBA drops by 0.30 on the 40 instances of Table 1; the study has 20 of them, with less and with more."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), n=40)
    write_cell(run, "imdb", "corrected", "iba", falling(40, 0.30, spread=0.0))
    write_steps(run, {10: 0.25, 50: 0.40})
    stored = loaded(tmp_path, "imdb")
    rows = sanity_rows(stored)
    assert rows["over_rival"].to_list() == pytest.approx([-0.05, 0.10])
    assert (rows["over_rival_low"] < rows["over_rival"]).all()
    (grid,) = sanity.TABLE.make(stored).grids
    assert grid.heads[-1] == "drop minus IBA's"
    assert [line[-1].split(" ")[0] for line in grid.rows] == ["−0.050", "0.100"]


def test_a_check_without_the_point_to_compare_with_shows_its_levels(tmp_path: Path) -> None:
    write_steps(run_on(tmp_path, "imdb"), {50: 0.3})
    rows = sanity_rows(loaded(tmp_path, "imdb"))
    assert rows["drop_11"].to_list() == pytest.approx([0.3])
    assert "difference" not in rows


def test_differences_are_tested_as_one_family() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 40)
    differences = {
        ("iba", "delete"): pd.Series(0.3 + noise - noise.mean(), ids(40)),
        ("iba", "mask"): pd.Series(0.0, ids(40)),
    }
    found = sanity._over("over_random", differences, HOW)
    assert found.loc[("iba", "mask"), ["over_random", "over_random_p_holm"]].to_list() == [0, 1]
    assert found.loc[("iba", "delete"), "over_random"] == pytest.approx(0.3)
    assert found.loc[("iba", "delete"), "over_random_p_holm"] < 0.001
    assert sanity._over("over_random", {}, HOW).empty


def test_tests_of_means_are_one_holm_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "sign_flip_test", lambda differences, how: np.full(len(differences), 0.03))
    found = frame.means_tested(pd.DataFrame({"a": [0.3, 0.2], "b": [0.1, 0.2]}), HOW)
    assert found["p_holm"].to_list() == pytest.approx([0.06, 0.06])
    assert found["estimate"].to_list() == pytest.approx([0.25, 0.15])


# --- rank agreement -----------------------------------------------------------------------------------


def test_kendall_by_hand_and_by_scipy() -> None:
    first = np.array([1.0, 2, 3, 4])
    found = kendall(np.stack([first, [1, 2, 4, 3], -first, np.ones(4)]))
    # One of six pairs is turned round: (5 − 1) / 6.
    np.testing.assert_allclose(found[0, :3], [1, 4 / 6, -1])
    assert np.isnan(found[3]).all()
    ties = np.random.default_rng(0).integers(0, 9, (3, 40)).astype(float)
    expected = [[stats.kendalltau(a, b).statistic for b in ties] for a in ties]
    np.testing.assert_allclose(kendall(ties), expected)


def test_rankings_are_paired_by_instance_and_special_tokens_do_not_count() -> None:
    rows = {
        "instance_id": ["a", "b", "c"],
        "special": [np.array([True, False, False, False])] * 3,
        "scores": list(np.array([[9.0, 1, 2, 3], [0.0, 3, 2, 1], [0.0, 1, 2, 3]])),
    }
    first = pd.DataFrame(rows)
    second = first.iloc[[1, 0]].reset_index(drop=True)
    assert taus({"x": first, "y": second})[:, 0, 1].tolist() == [1, 1]


def test_agreement_of_methods_is_kept_where_the_scores_are_gone(tmp_path: Path) -> None:
    run = run_on(tmp_path, "imdb")
    for method in ("iba", "random"):
        write_attributions(run, "imdb", "corrected", method, 20)
    path = run / "agreement.csv"
    agreement.TABLE.make(loaded(tmp_path, "imdb")).write(run)
    (row,) = pd.read_csv(path).itertuples()
    assert (row.kind, row.first, row.second, row.n) == ("methods", "iba", "random", 20)
    # a very good film ##s: 0.1 0.4 0.9 0.3 −0.2 against 0.9 0.1 0.2 0.3 0.4.
    assert row.tau == pytest.approx(-0.6)
    before = path.read_bytes()
    write_cell(run, "imdb", "corrected", "iba", falling(20, 0.3))
    agreement.TABLE.make(loaded(tmp_path, "imdb")).write(run)
    assert path.read_bytes() == before


def test_neighbouring_points_of_a_study_agree_by_value(tmp_path: Path) -> None:
    run = run_on(tmp_path, "imdb")
    bits = {1: [0.0, 1, 2, 3, 0], 2: [0.0, 1, 2, 3, 0], 10: [0.0, 3, 2, 1, 0]}
    write_study(run, "layers", "corrected", {layer: falling(20, 0.2) for layer in bits})
    write_study_scores(run, "layers", "corrected", bits, 20)
    rows = agreement_rows(loaded(tmp_path, "imdb"))
    found = rows[rows.kind == "layers"]
    pairs = list(zip(found["first"], found["second"], strict=True))
    assert pairs == [("layer=1", "layer=2"), ("layer=2", "layer=10")]
    assert found.tau.tolist() == pytest.approx([1, -1])
