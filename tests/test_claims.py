"""The verdicts on the paper's claims, from small stored results whose numbers are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_results import DROPS, PAPER_SETS, configured, falling, write_run, write_study

from iba.evaluation.stats import Resampling
from iba.pipeline.views import StoredCell, View
from iba.report import claims, frame, reproduction
from iba.report.claims import checks, rule
from iba.report.claims.checks import (
    beats,
    best_layers,
    cost_between,
    keeps_prediction,
    layer_checks,
    small_beta,
)
from iba.report.claims.verdict import ALIKE, MARKS, OVER, Check, State, conclude, larger
from iba.report.pairs import winners
from iba.report.stored import Stored, load

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


def state_of(found: Iterable[Check], part: str, dataset: str = "imdb") -> State:
    """What the checks of one part and data set come to."""
    return conclude(check.state for check in found if (check.part, check.dataset) == (part, dataset))


@pytest.mark.parametrize(
    ("states", "state"),
    [
        (["holds", "holds"], "holds"),
        (["holds", "fails", "open", "not run", "cannot be decided"], "fails"),
        (["holds", "open", "cannot be decided"], "open"),
        (["holds", "open", "not run"], "not run"),
        (["holds", "cannot be decided"], "cannot be decided"),
    ],
)
def test_one_failed_check_refutes_a_part_and_all_must_hold(states: list[State], state: State) -> None:
    assert conclude(states) == state


@pytest.mark.parametrize(
    ("difference", "p_holm", "papers", "p_below", "state"),
    [
        (0.1, 0.001, 0.1, 1.0, "holds"),
        (-0.1, 0.001, 0.1, 0.001, "fails"),
        (0.01, 0.001, 0.1, 0.001, "holds"),  # small, but the claim is one of order
        (0.01, 0.5, 0.1, 1.0, "open"),
        (-0.01, 0.5, 0.1, 0.06, "open"),
        (-0.01, 0.5, None, 0.04, "fails"),  # smaller than what matters, by a test as strict
        (-0.01, 0.5, 0.007, 0.04, "cannot be decided"),  # the paper's own difference is smaller than that
        (0.01, 0.001, 0.007, 1.0, "holds"),
        (-0.01, 0.001, 0.007, 0.001, "fails"),
    ],
)
def test_whether_one_method_is_larger(
    difference: float, p_holm: float, papers: float | None, p_below: float, state: State
) -> None:
    assert larger(difference, p_holm, 0.05, papers, lambda: p_below) == state


@pytest.mark.parametrize(("mean", "p_value"), [(-0.08, 0.001), (0.3, 1.0)])
def test_below_the_margin_is_tested_in_the_whole_family(mean: float, p_value: float) -> None:
    """Six pairs: the smallest p-value of 12,000 signs times six."""
    rng = np.random.default_rng(0)
    drops = pd.DataFrame({"iba": rng.normal(mean, 0.1, 300), "ig": 0.0, "lime": 1.0, "random": 1.0})
    found = checks._below_margin(drops, "iba", "ig", HOW)
    assert found == pytest.approx(p_value, rel=0.01)


def test_too_few_instances_are_no_test(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), n=199)
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=corrected"))
    found = beats(stored, "C1", "corrected", "imdb", "iba", "ig")
    assert (found.state, found.text.endswith("fewer than 200 instances")) == ("not run", True)


def with_drops(stored: Stored, **drops: float) -> Stored:
    """The same run with other drops at 11 % for some methods (their differences keep their noise)."""
    rows = stored.frame.rows
    shift = rows["method"].astype(str).map({m: d - DROPS[m] for m, d in drops.items()}).fillna(0.0)
    return with_numbers(stored, drop_11=rows["drop_11"] + shift)


def marks(stored: Stored) -> dict[str, list[str]]:
    """The matrix by the part's name."""
    grid = claims.matrix(stored, claims.judge(stored))
    assert grid.heads[1:] == ["IMDB", "MNLI matched", "MNLI mismatched", "AG News", "RTE", "over sets"]
    return {title.split(".")[0]: cells for title, *cells in grid.rows}


def test_the_matrix_of_a_run_where_iba_wins_everywhere(large: Stored) -> None:
    assert marks(large) == {
        "C1": ["✓", "✓", "✓", "", "✓", ""],
        "C2": ["", "", "", "✗", "", ""],
        "C3": ["✓", "✓", "✓", "✓", "✓", ""],
        **{part: ["○", "", "", "", "", ""] for part in ("C4a", "C4b", "C4c")},
        "C6": ["", "", "", "", "", "✗"],  # the fixture times IBA as faster than IG; β was tuned: no C5
        **{part: ["○", "○", "○", "○", "○", ""] for part in ("C7a", "C7b")},
    }


def test_the_matrix_where_ig_wins_and_lime_is_worse_than_random(large: Stored) -> None:
    found = marks(with_drops(large, ig=0.4, lime=0.01))
    assert found["C1"] == ["✗", "✗", "✗", "", "✗", ""]
    assert found["C2"] == ["", "", "", "✓", "", ""]
    assert found["C3"] == ["✗", "✗", "✗", "✗", "✗", ""]


# --- C6, C7 -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("iba_seconds", "device", "outcome"),
    [
        ((2.0, 2.1, 2.2, 2.3, 2.4), "a", "holds"),
        ((8.0, 9.0, 8.0, 9.0, 8.0), "a", "fails"),  # slower than LIME
        ((2.0, 9.0, 2.0, 9.0, 5.0), "a", "open"),  # sometimes slower than LIME
        ((1.1, 1.4, 1.6, 1.7, 1.8), "a", "holds"),
        ((1.06, 1.6, 1.1, 1.7, 1.6), "a", "open"),  # slower than IG, but not without any one of them
        ((2.0, 2.1, 2.2, 2.3, 2.4), "b", "not run"),
    ],
)
def test_c6_needs_the_order_on_one_device(
    large: Stored, iba_seconds: tuple[float, ...], device: str, outcome: str
) -> None:
    records = {
        (dataset, method): {"n": 20, "provenance": {"seconds_per_instance": value, "device": where}}
        for dataset, seconds in zip(PAPER_SETS, iba_seconds, strict=True)
        for method, value, where in (("ig", 1.0, "a"), ("iba", seconds, device), ("lime", 5.0, "a"))
    }
    found = [*cost_between(with_records(large, records), "corrected")]
    assert state_of(found, "C6", OVER) == outcome
    own = f"20 texts per data set, whatever ran beside them; IMDB alone {5 / iba_seconds[0]:.2f}"
    assert (f"{own} (paper, 25,000 instances: 1.30)" in found[1].text) == (outcome != "not run")


@pytest.mark.parametrize(
    ("probability", "bits", "states"),
    [
        (0.88, 10.0, ("holds", "holds")),
        (0.88, 90.0, ("holds", "fails")),
        (0.5, 10.0, ("fails", "holds")),
        (0.99, 10.0, ("holds", "holds")),  # a rise is no loss
    ],
)
def test_c7_reads_what_the_bottleneck_reported(
    large: Stored, probability: float, bits: float, states: tuple[State, State]
) -> None:
    told = with_numbers(large, prob_bottleneck=probability, bits_per_token=bits, bits_per_token_start=100.0)
    found = [*keeps_prediction(told, "corrected")]
    assert tuple(state_of(found, part) for part in ("C7a", "C7b")) == states
    assert "predicts the target" in found[0].text
    assert "n = 100" in found[0].text


# --- C4, C5 -------------------------------------------------------------------------------------------


def test_layers_are_one_holm_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame, "sign_flip_test", lambda differences, how: np.full(len(differences), 0.01))
    drops = pd.DataFrame({n: np.full(200, {8: 0.5, 9: 0.5, 1: 0.3}.get(n, 0.2)) for n in range(1, 13)})
    found = [*layer_checks(drops, HOW)]
    assert len(found) == 33
    assert {check.state for check in found} == {"open"}
    assert all("p = 0.330" in check.text for check in found)


def test_large_differences_of_layers_have_the_smallest_p_value_that_is_printed() -> None:
    """With 300 resamples the smallest p-value of 33 comparisons would be 0.22."""
    drops = pd.DataFrame({n: np.random.default_rng(n).normal(0, 0.01, 200) for n in range(1, 13)})
    drops += pd.Series({8: 0.5, 9: 0.5, 1: 0.3}).reindex(drops.columns, fill_value=0.0)
    others = [check for check in layer_checks(drops, HOW) if not check.text.startswith("layer 9 − layer 8")]
    assert all("p < 0.001" in check.text for check in others)


def study_checks(
    tmp_path: Path,
    study: str,
    points: dict[Any, np.ndarray],
    references: dict[str, np.ndarray] | None = None,
) -> list[Check]:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",), drops={"iba": 0.3}, n=200)
    write_study(run, study, "described", points, references)
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=described"))
    judge = best_layers if study == "layers" else small_beta
    return [*judge(replace(stored, how=Resampling(0.95, 2000, 3)), "described")]


@pytest.mark.parametrize(
    ("changed", "n", "states"),
    [
        ({}, 200, ("fails", "holds", "holds")),  # 8 is as good as 9
        ({9: 0.7}, 200, ("holds", "holds", "holds")),
        ({9: 0.7, 12: 0.6}, 200, ("holds", "fails", "fails")),
        ({9: 0.7}, 199, ("not run", "not run", "not run")),
    ],
)
def test_c4_by_layer(tmp_path: Path, changed: dict[int, float], n: int, states: tuple[State, ...]) -> None:
    drops = dict.fromkeys(range(1, 13), 0.2) | {8: 0.5, 9: 0.5, 1: 0.35} | changed
    points = {layer: falling(n, drop, layer, 0.05) for layer, drop in drops.items()}
    found = study_checks(tmp_path, "layers", points, {"random": falling(n, 0.02)})
    assert tuple(state_of(found, part) for part in ("C4a", "C4b", "C4c")) == states
    assert "layer 9 − the mean of 11 others = " in found[0].text
    assert "texts cut at 64 tokens" in found[0].text


def test_c4_needs_all_twelve_layers(tmp_path: Path) -> None:
    found = study_checks(tmp_path, "layers", {layer: falling(200, 0.2) for layer in (8, 9)})
    assert {check.state for check in found} == {"not run"}
    assert found[0].text == "layers run: 8, 9"


@pytest.mark.parametrize(
    ("drops", "n", "states"),
    [
        ((0.2, 0.2), 200, ("holds", "holds")),
        ((0.5, 0.5), 200, ("holds", "fails")),
        ((0.2, 0.5), 200, ("fails", "fails")),
        ((0.2, 0.2), 199, ("not run", "not run")),
    ],
)
def test_c5_tells_a_plateau_from_x_alone(
    tmp_path: Path, drops: tuple[float, float], n: int, states: tuple[State, State]
) -> None:
    """The two βs up to 1e-6 are judged, the larger one is not."""
    points = {1e-7: falling(n, drops[0]), 1e-6: falling(n, drops[1]), 0.1: falling(n, 0.8)}
    found = study_checks(tmp_path, "betas", points, {"hidden_norm": falling(n, 0.2)})
    assert tuple(state_of(found, part) for part in ("C5a", "C5b")) == states
    assert [check.part for check in found] == ["C5a", "C5b", "C5b"]
    assert "texts cut at 64 tokens" in found[0].text


def test_c5_needs_two_betas_and_x_alone(tmp_path: Path) -> None:
    found = study_checks(tmp_path, "betas", {1e-7: falling(200, 0.2)}, {"random": falling(200, 0.2)})
    assert {check.state for check in found} == {"not run"}
    assert "nothing for “X alone”" in found[1].text


def test_claims_on_studies_without_any(tmp_path: Path) -> None:
    for study, parts in (("layers", 3), ("betas", 2)):
        assert [check.state for check in study_checks(tmp_path, study, {})] == ["not run"] * parts


# --- what the claims print beside their checks, and where verdicts go ----------------------------------


def test_the_drop_decides_claims_and_bold_whatever_the_area_says(large: Stored) -> None:
    rows = large.frame.rows
    turned = with_numbers(large, area_over=1 - rows["drop_11"])
    found = beats(turned, "C1", "corrected", "imdb", "iba", "ig")
    assert found.state == "holds"
    assert found.text.startswith("IBA − IG = 0.100")
    assert "; by the area −0.100" in found.text
    assert "the other way" in found.text
    assert "the other way" not in beats(large, "C1", "corrected", "imdb", "iba", "ig").text
    assert {*winners(turned).values()} == {"iba"}


def test_the_checks_say_how_many_steps_ig_takes(large: Stored) -> None:
    texts = [check.text for check in checks.iba_wins(large, "corrected")]
    assert [("; IG takes 10 steps" in text) for text in texts] == ["− IG" in text for text in texts]


def test_a_run_without_ig_is_judged(large: Stored) -> None:
    without = replace(large, cells={v: c for v, c in large.cells.items() if v.method != "ig"})
    assert beats(without, "C1", "corrected", "imdb", "iba", "lime").state == "holds"


def test_the_page_of_verdicts_has_the_matrix_and_the_checks_that_turn_round(
    large: Stored, tmp_path: Path
) -> None:
    run = replace(with_numbers(large, area_over=1 - large.frame.rows["drop_11"]), folder=tmp_path / "run")
    judged, elsewhere = claims.judge(run), tmp_path / "REPRODUCTION.md"
    reproduction.write(run, judged, elsewhere)
    page = elsewhere.read_text()
    assert (run.folder / "REPRODUCTION.md").read_text() == page
    for name, claim in claims.words()["claims"].items():
        assert f"## {name}. {claim['title']}\n\n{claim['test']}" in page
    assert "| C1. IBA beats LIME and IG | ✓ | ✓ | ✓ |  | ✓ |  |" in page
    assert page.count(rule(large.how)) == 1
    assert page.index("## C7") < page.index("## Where the paper's text") < page.index("Eq. 5")
    assert "- `corrected`, IMDB: IBA − IG = 0.100" in page
    stored = pd.read_csv(run.folder / "checks.csv")
    assert len(stored) == len(judged)
    assert stored["check"].str.startswith("IBA − IG = 0.100").any()


def test_the_words_of_the_claims_hold_the_limits_of_their_checks() -> None:
    words = claims.words()
    assert words["claims"].keys() == claims.TESTS.keys()
    assert words["states"].keys() == {*MARKS}
    text = " ".join(claim["test"] for claim in words["claims"].values()) + claims.legend() + rule(HOW)
    assert "{" not in text
    assert f"a − b is below {ALIKE}, too little" in rule(HOW)
    assert "p < 0.05" in rule(HOW)
