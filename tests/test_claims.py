"""The verdicts on the paper's claims, from small stored results whose numbers are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_results import DROPS, PAPER_SETS, configured, falling, write_cell, write_run, write_study

from baselines.integrated_gradients import IntegratedGradients
from baselines.integrated_gradients_released import IntegratedGradientsReleased
from iba.evaluation.stats import Resampling
from iba.pipeline.views import StoredCell, View
from iba.report import claims, reproduction
from iba.report.claims import checks, rule
from iba.report.claims.checks import cost_between, keeps_prediction, larger, layer_checks
from iba.report.claims.verdict import ALIKE, Check, Outcome, State, Verdict, conclude, overall
from iba.report.pairs import winners
from iba.report.stored import Stored, load
from iba.report.timed import _methods, read_timed
from iba.store import write_json

HOW = Resampling(0.95, 300, 3)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """All data sets with 200 instances under one protocol; IBA wins everywhere."""
    root = tmp_path_factory.mktemp("large")
    write_run(root, protocols=("corrected",), n=200)
    return load(configured(root, "protocol=corrected"))


def with_records(stored: Stored, records: dict[tuple[str, str], dict[str, Any]]) -> Stored:
    """The same run with these records of its cells under `corrected`, by data set and method."""
    views = {(d, m): View(3, None, None, "corrected", d, m) for d, m in records}
    cells = {
        views[key]: StoredCell(views[key], record, "", Path(), Path()) for key, record in records.items()
    }
    return replace(stored, cells=cells)


def with_numbers(stored: Stored, **numbers: Any) -> Stored:
    """The same run with other numbers per instance."""
    return replace(stored, frame=replace(stored.frame, rows=stored.frame.rows.assign(**numbers)))


@pytest.mark.parametrize(
    ("states", "outcome"),
    [
        (["holds", "holds"], "reproduced"),
        (["holds", "fails", "open", "missing"], "not reproduced"),
        (["holds", "open"], "undecided"),
        (["holds", "open", "missing"], "not enough data"),
        ([], "not enough data"),
    ],
)
def test_one_failed_check_refutes_and_all_must_hold(states: list[State], outcome: str) -> None:
    assert conclude("corrected", [Check(state, "") for state in states]).outcome == outcome


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ("+++", "reproduced"),
        ("---", "not reproduced"),
        ("???", "not enough data"),
        ("ooo", "undecided"),
        ("/", "does not apply"),
        ("-/-", "not reproduced"),
        ("-+-", "reproduced only under `released`"),
        ("?+-", "reproduced only under `released`; not enough data under `described`"),
        ("++-", "reproduced only under `described` and `released`"),
        ("?+?", "reproduced under `released`; not enough data under `described` and `corrected`"),
        ("?-?", "not reproduced under `released`; not enough data under `described` and `corrected`"),
        ("-o-", "not reproduced under `described` and `corrected`; undecided under `released`"),
    ],
)
def test_a_claim_over_its_protocols(outcomes: str, words: str) -> None:
    meaning: dict[str, Outcome] = {
        "+": "reproduced",
        "-": "not reproduced",
        "?": "not enough data",
        "o": "undecided",
        "/": "does not apply",
    }
    protocols = ("described", "released", "corrected")
    verdicts = [Verdict(p, meaning[o], "") for p, o in zip(protocols, outcomes, strict=False)]
    assert overall(verdicts) == words


def compared(difference: float, low: float, high: float, p_holm: float, n: int = 300) -> pd.DataFrame:
    """One stored comparison of IBA with IG on IMDB under `corrected`."""
    row = {"protocol": "corrected", "dataset": "imdb", "measure": "drop_11", "first": "iba", "second": "ig"}
    row |= {"n": n}
    numbers = {"difference": difference, "ci_low": low, "ci_high": high, "p_value": p_holm, "p_holm": p_holm}
    return pd.DataFrame([row | numbers | {"effect_size": 0.5}])


@pytest.mark.parametrize(
    ("tests", "state"),
    [
        (compared(0.1, 0.05, 0.15, 0.001), "holds"),
        (compared(-0.1, -0.15, -0.05, 0.001), "fails"),
        (compared(0.01, 0.005, 0.015, 0.001), "holds"),  # small, but the claim is one of order
        (compared(0.01, -0.02, 0.04, 0.5), "open"),  # excluding the paper's 0.139 decides nothing
        (compared(0.1, 0.05, 0.15, 0.06).assign(p_value=0.02), "open"),  # the corrected p decides
        (compared(0.028, -0.001, 0.058, 0.116), "open"),
        (compared(0.028, 0.001, 0.058, 0.116), "open"),  # nor does an interval that just leaves 0
        (compared(-0.01, -0.03, 0.019, 0.5), "fails"),  # at most as large as what does not matter
        (compared(-0.01, -0.03, 0.02, 0.5), "open"),
        (compared(0.1, 0.05, 0.15, 0.001, n=199), "missing"),
        (compared(0.1, 0.05, 0.15, 0.001).assign(second="lime"), "missing"),
    ],
)
def test_a_comparison_of_two_methods(large: Stored, tests: pd.DataFrame, state: str) -> None:
    assert larger(large, tests, "corrected", "imdb", "iba", "ig").state == state


def with_drops(stored: Stored, **drops: float) -> Stored:
    """The same run with other drops at 11 % for some methods (their differences keep their noise)."""
    rows = stored.frame.rows
    shift = rows["method"].astype(str).map({m: d - DROPS[m] for m, d in drops.items()}).fillna(0.0)
    return with_numbers(stored, drop_11=rows["drop_11"] + shift)


def outcomes(stored: Stored) -> dict[str, str]:
    return {j.claim.name: j.verdicts[0].outcome for j in claims.judge(stored, stored.tests)}


def test_c1_to_c3_on_a_run_where_iba_wins_everywhere(large: Stored) -> None:
    assert outcomes(large) == {
        "C1": "reproduced",
        "C2": "not reproduced",
        "C3": "reproduced",
        "C4": "not enough data",
        "C5": "does not apply",
        "C6": "not reproduced",  # the fixture times IBA as faster than IG
        "C7": "not enough data",
    }


def test_c1_to_c3_on_a_run_where_ig_wins_and_lime_is_worse_than_random(large: Stored) -> None:
    found = outcomes(with_drops(large, ig=0.4, lime=0.01))
    assert (found["C1"], found["C2"], found["C3"]) == ("not reproduced", "reproduced", "not reproduced")


# --- C6, C7 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iba_seconds", "device", "outcome"),
    [
        ((2.0, 2.1, 2.2, 2.3, 2.4), "a", "reproduced"),
        ((8.0, 9.0, 8.0, 9.0, 8.0), "a", "not reproduced"),  # slower than LIME
        ((2.0, 9.0, 2.0, 9.0, 5.0), "a", "undecided"),  # sometimes slower than LIME
        ((2.0, 2.1, 2.2, 2.3, 2.4), "b", "not enough data"),
    ],
)
def test_c6_needs_the_order_on_one_device(
    large: Stored, iba_seconds: tuple[float, ...], device: str, outcome: str
) -> None:
    records = {
        (dataset, method): {"provenance": {"seconds_per_instance": value, "device": where}}
        for dataset, seconds in zip(PAPER_SETS, iba_seconds, strict=True)
        for method, value, where in (("ig", 1.0, "a"), ("iba", seconds, device), ("lime", 5.0, "a"))
    }
    found = cost_between(with_records(large, records), pd.DataFrame(), "corrected")
    assert found.outcome == outcome


@pytest.mark.parametrize(
    ("iba_ms", "n_samples", "layer", "n_sets", "outcome"),
    [
        (20.0, 100, 9, 5, "reproduced"),
        (60.0, 100, 9, 5, "not reproduced"),  # slower than LIME
        (20.0, 75, 9, 5, "not enough data"),  # another LIME was timed, and the cells tell nothing
        (20.0, 100, 3, 5, "not enough data"),  # IBA was timed after another layer
        (20.0, 100, 9, 4, "not enough data"),
    ],
)
def test_c6_takes_the_times_of_a_benchmark_of_the_same_methods(
    large: Stored, tmp_path: Path, iba_ms: float, n_samples: int, layer: int, n_sets: int, outcome: str
) -> None:
    ig, released = (
        f"{c.__module__}.{c.__name__}" for c in (IntegratedGradients, IntegratedGradientsReleased)
    )
    timed = {
        "iba": {"n_steps": 10, "beta": 1.0, "noise": "statistics", "layer": 0.75},
        "ig": {"_target_": ig, "normalise": False},
        "lime": {"n_samples": 100},
    }
    run = {  # the same work, of a released kind
        "iba": {"n_steps": 10, "beta": 1e-5, "noise": "layer_input", "layer": layer},
        "ig": {"_target_": released, "normalise": True},
        "lime": {"n_samples": n_samples},
    }
    rows = [
        {"operation": method, "dataset": dataset, "layer": at, "precision": precision, "ours_ms": ms * slower}
        | {
            "n": 4,
            "mean_tokens": 40.0 + number,
            "reference_ms": {"ig": 8.0, "iba": 50.0, "lime": 40.0}[method],
        }
        for number, dataset in enumerate(PAPER_SETS[:n_sets])
        for method, ms, at in (("ig", 10.0, None), ("iba", iba_ms + number, 9), ("lime", 40.0, None))
        for precision, slower in (("fp32", 9.0), ("bf16", 1.0))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "cpu.csv", index=False)
    pd.DataFrame(rows).drop(columns="ours_ms").to_csv(tmp_path / "cpu_scaling.csv", index=False)
    for name in ("cpu", "cpu_scaling"):
        of_sets = {dataset: {"methods": timed} for dataset in PAPER_SETS}
        settings = {"model": {"name": "m"}, "dataset": of_sets, "device": "a CPU"}
        write_json(tmp_path / f"{name}.json", {"settings": settings})
    assert read_timed(tmp_path, {"name": "other"}) == []
    records = {
        (dataset, method): {"settings": {"method": settings}}
        for dataset in PAPER_SETS
        for method, settings in run.items()
    }
    run_rows = replace(with_records(large, records), timed=read_timed(tmp_path, {"name": "m"}))
    verdict = cost_between(run_rows, pd.DataFrame(), "corrected")
    assert verdict.outcome == outcome
    said = verdict.checks[1].text
    assert ("benchmark on a CPU in bf16, 4 texts per data set, of 40 to 44 tokens" in said) == (
        outcome != "not enough data"
    )
    if outcome != "not enough data":
        own = f"IMDB alone {40 / iba_ms:.2f} (paper, 25,000 instances: 1.30)"
        assert own in said
        assert "geometric mean over 5 data sets" in said
        assert "(of its straightforward reference, on IMDB 0.80)" in said


def test_a_benchmark_of_older_code_holds_one_set_of_methods_for_all_data_sets() -> None:
    new, old = {"n_steps": 5}, {"n_steps": 10}
    settings = {"methods": {"iba": old}, "dataset": {"rte": {"methods": {"iba": new}}}}
    assert _methods(settings, ["rte", "imdb"]) == {("rte", "iba"): new, ("imdb", "iba"): old}


def test_times_of_two_precisions_are_not_mixed(tmp_path: Path) -> None:
    """IBA is faster in bf16, LIME in fp32; fp32 is faster over both, so both times are fp32's."""
    times = {("iba", "fp32"): 30.0, ("iba", "bf16"): 20.0, ("lime", "fp32"): 40.0, ("lime", "bf16"): 90.0}
    rows = [
        {
            "operation": m,
            "dataset": "imdb",
            "layer": 9,
            "precision": p,
            "ours_ms": ms,
            "reference_ms": 99.0,
            "n": 4,
        }
        for (m, p), ms in times.items()
    ]
    pd.DataFrame(rows).assign(mean_tokens=50.0).to_csv(tmp_path / "cpu.csv", index=False)
    settings = {"model": {"name": "m"}, "methods": {}, "device": "a CPU"}
    write_json(tmp_path / "cpu.json", {"settings": settings})
    (timed,) = read_timed(tmp_path, {"name": "m"})
    assert (timed.precision, timed.ratios(["imdb"], "iba", "lime")) == ("fp32", {"imdb": 40 / 30})


@pytest.mark.parametrize(
    ("probability", "bits", "outcome"),
    [
        (0.88, 10.0, "reproduced"),
        (0.88, 90.0, "not reproduced"),
        (0.5, 10.0, "not reproduced"),
        (0.99, 10.0, "not reproduced"),
    ],
)
def test_c7_reads_what_the_bottleneck_reported(
    large: Stored, probability: float, bits: float, outcome: str
) -> None:
    told = with_numbers(large, prob_bottleneck=probability, bits_per_token=bits, bits_per_token_start=100.0)
    verdict = keeps_prediction(told, pd.DataFrame(), "corrected")
    assert verdict.outcome == outcome
    assert "predicts the target, n = 100" in verdict.checks[0].text


# --- C4, C5 -------------------------------------------------------------------------------------------


def test_layers_are_one_holm_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "sign_flip_test", lambda differences, how: np.full(len(differences), 0.01))
    drops = pd.DataFrame({n: np.full(200, {8: 0.5, 9: 0.5, 1: 0.3}.get(n, 0.2)) for n in range(1, 13)})
    found = layer_checks(drops, HOW)
    assert {check.state for check in found} == {"open"}
    assert all("p = 0.290" in check.text for check in found)


def test_large_differences_of_layers_have_the_smallest_p_value_that_is_printed() -> None:
    """With 300 resamples the smallest p-value of 29 comparisons would be 0.19."""
    drops = pd.DataFrame({n: np.random.default_rng(n).normal(0, 0.01, 200) for n in range(1, 13)})
    drops += pd.Series({8: 0.5, 9: 0.5, 1: 0.3}).reindex(drops.columns, fill_value=0.0)
    assert all("p < 0.001" in check.text for check in layer_checks(drops, HOW))


# --- what the claims print beside their checks, and where verdicts go ----------------------------------


def test_the_drop_decides_claims_and_bold_whatever_the_area_says(large: Stored) -> None:
    tests = large.tests
    turned = tests.assign(difference=tests["difference"].where(tests["measure"] == "drop_11", -1.0))
    for order in (turned, turned.iloc[::-1]):
        assert larger(large, order, "corrected", "imdb", "iba", "ig").text.startswith(
            "IMDB: IBA − IG = 0.100"
        )
        assert {*winners(large, order).values()} == {"iba"}


def test_the_claims_tell_what_more_steps_of_ig_change_and_decide_nothing_by_it(tmp_path: Path) -> None:
    """IBA drops by 0.30, IG by 0.20 in Table 1 and by 0.40 with 50 steps, on 250 instances."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), n=250)
    for method, drop in (("iba", 0.30), ("ig", 0.20)):
        write_cell(run, "imdb", "corrected", method, falling(250, drop, spread=0.0))
    points = {10: falling(250, 0.20), 50: falling(250, 0.40)}
    write_study(run, "ig_steps", "corrected", points, method="ig")
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=corrected"))
    tests = stored.tests
    ahead, behind = (larger(stored, tests, "corrected", "imdb", *p) for p in (("iba", "ig"), ("ig", "iba")))
    assert (ahead.state, behind.state) == ("holds", "fails")
    assert "IBA − IG = 0.100" in ahead.text
    assert "; with 50 steps of IG −0.100 [−0.10" in ahead.text
    assert "; with 50 steps of IG 0.100 [0.09" in behind.text
    assert "10 steps" not in behind.text
    assert "steps" not in larger(stored, tests, "corrected", "imdb", "iba", "lime").text


def test_the_page_of_verdicts_has_every_claim_and_no_single_check(large: Stored, tmp_path: Path) -> None:
    judged = claims.judge(large, large.tests)
    elsewhere, run = tmp_path / "REPRODUCTION.md", replace(large, folder=tmp_path / "run")
    reproduction.write(run, judged, elsewhere)
    page = elsewhere.read_text()
    assert (run.folder / "REPRODUCTION.md").read_text() == page == reproduction.render(run, judged)
    for one in judged:
        assert f"## {one.claim.name}. {one.claim.title}" in page
        assert one.claim.test in page
    assert page.count("**`corrected`: ") == 7
    assert page.count(rule(large.how)) == 1
    assert page.index("## C7") < page.index("## Where the paper's text") < page.index("Eq. 5")
    assert "IMDB: IBA − IG" not in page
    stored = pd.read_csv(run.folder / "checks.csv")
    assert len(stored) == sum(len(v.checks) for one in judged for v in one.verdicts)
    assert stored["check"].str.startswith("IMDB: IBA − IG = 0.100").any()


def test_the_words_of_the_claims_hold_the_limits_of_their_checks() -> None:
    words = claims.words()
    assert words["claims"].keys() == claims.TESTS.keys()
    text = " ".join(claim.test for claim in words["claims"].values()) + " ".join(words["outcomes"].values())
    assert "{" not in text
    assert f"below {ALIKE}, too small" in rule(HOW)
    assert "p < 0.05" in rule(HOW)
