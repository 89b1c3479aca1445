"""The frame of stored rows, its measures, `summarise` and `compare`, from numbers that are known."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_results import (
    FRACTIONS,
    change_curves,
    configured,
    falling,
    ids,
    write_cell,
    write_classifier,
    write_run,
    write_study,
)

from iba.errors import UserError
from iba.evaluation.measures import MEASURES, Outcome, area_over, log_odds_drop, mean_drop, measured_in
from iba.evaluation.stats import Resampling, mean_interval
from iba.report.frame import compare, summarise
from iba.report.pairs import signed
from iba.report.stored import load
from iba.report.text import p_value
from iba.store import read_json, write_json

HOW = Resampling(0.95, 300, 3)


def score(name: str, outcome: Outcome) -> float:
    """One measure of the first instance."""
    found = MEASURES[name].score(outcome)
    assert found is not None
    return float(found[0])


def outcome(**curves: np.ndarray | pd.DataFrame) -> Outcome:
    return Outcome(FRACTIONS, **curves)


# --- measures -----------------------------------------------------------------------------------------


def test_measures_by_hand() -> None:
    """A straight line from 1 to 0: drop 1/9 at the first step, area ½; ERASER's means of the shares."""
    line = outcome(
        most=np.linspace(1, 0, 10)[None], without=np.array([[0.9, 0.5]]), alone=np.array([[0.2, 0.6]])
    )
    assert score("drop_11", line) == pytest.approx(1 / 9)
    assert score("area_over", line) == pytest.approx(0.5)
    assert score("comprehensiveness", line) == pytest.approx(0.3)
    assert score("sufficiency", line) == pytest.approx(0.6)
    assert MEASURES["area_over_least"].score(line) is None, "an order that was not run is missing, not zero"


def test_the_two_orders_and_the_log_odds_by_hand() -> None:
    """Least first a straight line from 0.8 to 0.2 loses 0.3 on average; log-odds fall from ln 4 to 0."""
    both = outcome(most=np.array([[0.8, 0.5, *[0.2] * 8]]), least=np.linspace(0.8, 0.2, 10)[None])
    assert (score("prob_start", both), score("drop_11", both)) == pytest.approx((0.8, 0.3))
    assert score("log_odds_11", both) == pytest.approx(np.log(4))
    assert score("area_over", both) == pytest.approx((0.3 + 0.6 * 7 + 0.6 / 2) / 9)
    assert score("area_over_least", both) == pytest.approx(0.3)


def test_the_drop_at_11_percent_is_read_at_that_step_of_a_finer_curve() -> None:
    fractions = np.linspace(0, 1, 19)
    assert score("drop_11", Outcome(fractions, (1 - fractions**2)[None])) == pytest.approx((1 / 9) ** 2)


def test_areas_by_hand() -> None:
    """p falls 1 → 0.5 → 0 at 0, ¼, 1: under = ¼·0.75 + ¾·0.25 = 0.375, over = 1 − 0.375."""
    curves = np.array([[1.0, 0.5, 0.0], [0.2, 0.2, 0.2], [0.2, 0.4, 0.4]])
    np.testing.assert_allclose(area_over(np.array([0, 0.25, 1]), curves), [0.625, 0.0, -0.175])
    with pytest.raises(ValueError, match="start at 0"):
        area_over(np.array([0.1, 1.0]), np.array([[1.0, 0.0]]))


def test_eraser_and_log_odds_by_hand() -> None:
    start, after = np.array([0.9, 0.5]), np.array([[0.8, 0.6], [0.5, 0.7]])
    np.testing.assert_allclose(mean_drop(start, after), [0.2, -0.1])
    np.testing.assert_allclose(log_odds_drop(start, np.array([0.5, 0.5])), [np.log(9), 0.0])
    assert np.isfinite(log_odds_drop(np.array([1.0]), np.array([0.0]))).all()


def test_recall_by_hand() -> None:
    """Two evidence tokens of three; the two that are removed first are 1 and 2, or 1 and 3."""
    evidence = [[False, True, False, True]] * 2 + [[False] * 4, None]
    rows = pd.DataFrame({"evidence": evidence, "order": [[1, 2, 3], [1, 3, 2]] * 2})
    planted = outcome(most=np.ones((4, 10)), planted=rows)
    np.testing.assert_allclose(MEASURES["planted_recall"].score(planted), [0.5, 1.0, np.nan, np.nan])
    np.testing.assert_allclose(MEASURES["planted_chance"].score(planted), [2 / 3, 2 / 3, np.nan, np.nan])


def test_agreement_with_people_by_hand() -> None:
    """Of five tokens, ranked 3 0 4 1 2, people marked 3 and 4: ranks 1 and 3, one of them in the top two."""
    rows = pd.DataFrame({"evidence": [[False, False, False, True, True]], "order": [[3, 0, 4, 1, 2]]})
    marked = outcome(most=np.full((1, 10), np.nan), marked=rows)
    found = {name: score(name, marked) for name in measured_in("rationales")}
    assert found == pytest.approx({"auprc": (1 + 2 / 3) / 2, "token_f1": 1 / 2, "overlap": 1 / 3})
    assert MEASURES["planted_recall"].score(marked) is None, "another kind of evidence"
    assert np.isnan(score("drop_11", marked))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_the_level_of_a_random_order_is_the_mean_over_all_orders(k: int) -> None:
    rows = pd.DataFrame({"order": list(permutations(range(5)))})
    rows["evidence"] = [[place < k for place in range(5)]] * len(rows)
    marked = outcome(most=np.full((len(rows), 10), np.nan), marked=rows)
    for name in measured_in("rationales"):
        found, chance = (MEASURES[n].score(marked) for n in (name, f"{name}_chance"))
        assert found is not None
        np.testing.assert_allclose(chance, found.mean())


def test_a_measure_has_one_entry_and_stands_where_it_says() -> None:
    assert measured_in("methods").keys() >= {"drop_11", "planted_recall"}
    assert "planted_recall" not in measured_in("faithfulness")
    assert MEASURES["sufficiency"].heading == "sufficiency ↓"


# --- what is read -------------------------------------------------------------------------------------


def test_cells_of_different_steps_are_refused(tmp_path: Path) -> None:
    """Read at the steps of another cell, a curve would give a wrong drop without a sign of it."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    (record, *_) = sorted(run.glob("imdb/ig/*/degradation-*.json"))
    for change in ({"n_points": 19}, {"eraser_shares": [0.2, 0.1, 0.05, 0.01, 0.5]}):
        settings = read_json(record)["settings"] | change
        write_json(record, {"settings": settings})
        change_curves(
            record.parent,
            lambda wide: wide.assign(
                **{f"delete/{o}/curve/{i}": 0.5 for o in ("most", "least") for i in range(19)}
            ),
        )
        with pytest.raises(UserError, match=r"degraded at different steps.*one eraser_shares"):
            load(configured(tmp_path, "dataset=imdb"))


def test_methods_on_different_instances_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    write_cell(run, "imdb", "corrected", "ig", falling(19, 0.2))
    with pytest.raises(UserError, match="different instances"):
        load(configured(tmp_path, "dataset=imdb"))


def test_numbers_predictions_and_studies_stand_in_one_frame(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    write_study(
        run, "layers", "corrected", {2: falling(20, 0.1), 10: falling(20, 0.2)}, {"random": falling(20, 0)}
    )
    frame = load(configured(tmp_path, "dataset=imdb")).frame
    assert "layers" in frame.present("study")
    points = frame.of(study="layers", method="iba")
    assert points.present("value") == [2, 10]
    assert points.matrix("drop_11", "value").mean().to_list() == pytest.approx([0.1, 0.2])
    values, curves = points.stacked("value")
    assert (values, curves.shape) == ([2, 10], (20, 2, 10))
    assert frame.of(study="layers", value=None).present("method") == ["random"]
    main = frame.of(study=None, protocol="corrected", method=["iba", "ig"])
    assert main.rows["right"].mean() == 0.5
    assert list(main.matrix("drop_11").columns) == ["iba", "ig"]


# --- summarise and compare ----------------------------------------------------------------------------


def test_summarise_is_the_interval_of_every_group(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=corrected"))
    rows = summarise(stored.deletion, ["dataset", "method"], ["drop_11", "area_over"], stored.how)
    assert list(rows["method"].cat.categories[:2]) == ["iba", "ig"]
    one = rows[(rows["method"] == "ig") & (rows["measure"] == "area_over")].iloc[0]
    alone = mean_interval(stored.matrix("corrected", "imdb", "area_over")["ig"].to_numpy(), stored.how)
    assert (one["n"], one["estimate"]) == (20, pytest.approx(alone.estimate))
    assert (one["ci_low"], one["ci_high"]) == pytest.approx((alone.low, alone.high))


def test_pairs_are_one_holm_family() -> None:
    table = pd.DataFrame({"a": np.linspace(0.5, 0.6, 12), "b": np.linspace(0, 0.1, 12) ** 2, "c": 0.3})
    found = compare({("x",): table, ("y",): table[["a"]]}, ["set"], HOW)
    assert set(found["set"]) == {"x"}, "one method has nobody to be compared with"
    assert list(zip(found["first"], found["second"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert (found["p_holm"] >= found["p_value"]).all()
    assert found["p_holm"].iloc[0] == pytest.approx(min(1.0, 3 * found["p_value"].min()))
    turned = signed(found, "c", "a")
    assert turned is not None
    assert turned["difference"] == pytest.approx(0.3 - 0.55)
    assert turned["ci_low"] < turned["difference"] < turned["ci_high"]


def test_a_large_difference_has_the_smallest_p_value_that_is_printed() -> None:
    """With 300 resamples the smallest p-value of six pairs would be 0.04."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: place + rng.normal(0, 0.1, 60) for place, name in enumerate("abcd")})
    assert {p_value(p) for p in compare({(): table}, [], HOW)["p_holm"]} == {"p < 0.001"}


# --- another model, another configuration -------------------------------------------------------------


def test_rows_of_another_model_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    (record,) = run.glob("imdb/classifiers/*/classifier.json")
    stored = read_json(record)
    stored["settings"]["recipe"]["model"] = {"name": "tiny"}
    write_json(record, stored)
    with pytest.raises(UserError, match=r"model.*tiny"):
        load(configured(tmp_path, "dataset=imdb"))


def test_an_empty_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run scripts/degrade\.py first"):
        load(configured(tmp_path))
    write_classifier(tmp_path / "bge_small", "imdb", 4)
    with pytest.raises(UserError, match=r"run scripts/degrade\.py first"):
        load(configured(tmp_path))
    assert ids(2) == ["i0000", "i0001"]
