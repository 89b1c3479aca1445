"""The tables, from small stored results whose numbers are known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_results import (
    DROPS,
    configured,
    falling,
    ids,
    scored,
    write_attributions,
    write_cell,
    write_classifier,
    write_first_steps,
    write_run,
)
from scipy import stats

from iba.benchmark import synthetic
from iba.pipeline.attribute import SCORES
from iba.report import tables, text
from iba.report.notes import dataset_notes, method_notes
from iba.report.pairs import significantly_best
from iba.report.stored import CELL, Stored, load
from iba.report.tables import faithfulness, planted, random_orders, rationales, right, table1, table2, tries
from iba.store import write_parquet

SMALL = ("dataset=[imdb,agnews]", "protocol=[released,corrected]")
N = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    write_run(root, datasets=("imdb", "agnews"), protocols=("released", "corrected"))
    return root


@pytest.fixture(scope="module")
def stored(folder: Path) -> Stored:
    return load(configured(folder, *SMALL))


def with_rows(stored: Stored, rows: pd.DataFrame) -> Stored:
    """The same run with other rows."""
    return replace(stored, frame=replace(stored.frame, rows=rows))


# --- Table 1 ------------------------------------------------------------------------------------------


def test_table1_has_the_known_drops_and_the_papers(stored: Stored, tmp_path: Path) -> None:
    table1.TABLE.make(stored).write(tmp_path)
    rows = pd.read_csv(tmp_path / "table1.csv").set_index(CELL)
    assert len(rows) == 2 * 2 * 4
    for (_, _, method), row in rows.iterrows():
        assert row["drop_11"] == pytest.approx(DROPS[method], abs=1e-5)
        assert row["ci_low"] < row["drop_11"] < row["ci_high"]
        assert (row["n"], row["accuracy"]) == (20, 0.5)
    assert rows.loc[("corrected", "imdb", "iba"), "paper_drop_11"] == 0.229
    assert rows.loc[("corrected", "agnews", "ig"), "difference"] == pytest.approx(0.2 - 0.036)
    whole = rows.groupby("protocol", sort=False).size()
    assert list(whole.index) == ["released", "corrected"], "in the configuration's order"


def test_a_rising_probability_keeps_its_sign(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), drops={"iba": -0.05})
    found = table1.table1_rows(load(configured(tmp_path, "dataset=imdb", "protocol=corrected")))
    assert found["drop_11"].item() == pytest.approx(-0.05)
    assert text.number(found["drop_11"].item()) == "−0.050"


def test_only_a_significant_best_is_bold(stored: Stored) -> None:
    lines = table1.TABLE.make(stored).grids[0].rows
    bold = {(line[0], line[1]) for line in lines if "**" in line[3]}
    assert bold == {("IMDB", "IBA"), ("AG News", "IBA")}
    rows = stored.frame.rows
    alike = with_rows(stored, rows.assign(drop_11=rows["drop_11"] - 0.1 * (rows["method"] == "iba")))
    grids = table1.TABLE.make(alike).grids
    assert not any("**" in cell for grid in grids for row in grid.rows for cell in row)


def test_bold_needs_the_corrected_p() -> None:
    row = {
        "first": "a",
        "second": "b",
        "difference": 0.1,
        "effect_size": 1.0,
        "ci_low": 0.05,
        "ci_high": 0.15,
    }
    tests = pd.DataFrame([row | {"p_value": 0.03, "p_holm": 0.06}])
    assert significantly_best(tests, 0.05) is None
    assert significantly_best(tests.assign(p_holm=0.04), 0.05) == "a"


def test_a_method_that_was_not_run_is_a_dash(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb",), protocols=("released",))
    write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), drops={"iba": 0.1, "ig": 0.2})
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=[released,corrected]"))
    lines = {row[1]: row for row in table1.TABLE.make(stored).grids[0].rows}
    assert lines["LIME"][2] == "0.038"
    assert lines["LIME"][-1] == "–"


def test_two_measures_are_two_families(stored: Stored) -> None:
    tests = stored.tests
    sizes = tests.groupby(["protocol", "dataset", "measure"], sort=False).size()
    assert list(sizes.index.get_level_values("measure")) == ["drop_11", "area_over"] * 4
    assert (sizes == 6).all()
    assert list(tests.columns[:5]) == ["protocol", "dataset", "measure", "first", "second"]


def test_a_run_of_one_instance_has_no_p_values_and_no_trace(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb", "agnews"), protocols=("released", "corrected"), n=1)
    stored = load(configured(tmp_path, *SMALL))
    tests = stored.tests
    assert tests[["p_value", "p_holm", "ci_low"]].isna().all(axis=None)
    assert table1.TABLE.make(stored).grids[0].rows[0][0] == "IMDB"


def test_the_notes_say_what_the_records_say(stored: Stored) -> None:
    """The rule and rows of β, the numerics, and on which data sets two protocols share their scores."""
    records: dict[Any, Any] = {key: dict(record) for key, record in stored.records().items()}
    assert any("computed in fp32." in note for note in dataset_notes(stored, records))
    for (protocol, dataset, method), record in records.items():
        record["settings"] = record["settings"] | {"precision": "bf16"}
        if (protocol, method) == ("corrected", "iba"):
            tried = [{"beta": 0.1}, {"beta": 1.0}]
            record["tuning"] = {"settings": tried, "chosen": 1, "key": {"rows": {"n": 64}}}
        if (dataset, method) == ("imdb", "ig"):
            record["settings"] |= {"numerics": 1}
    found = "\n".join([*dataset_notes(stored, records), *method_notes(stored, records)])
    assert "by the mean drop at 11 % on 64 held-out training rows: `tries.md`" in found
    assert "Attributions and probabilities computed in bf16." in found
    assert "older version of the numerics" in found
    assert "IG (`released`): IMDB; IG (`corrected`): IMDB." in found
    assert "the same scores: Random under `corrected` and `released` (IMDB, AG News)." in found


def test_the_tries_name_what_differs_and_which_was_taken(stored: Stored) -> None:
    found = tries.TABLE.make(stored)
    rows = found.rows[found.rows["dataset"] == "imdb"]
    assert set(zip(rows["protocol"], rows["method"], strict=True)) == {("corrected", "iba")}
    assert rows.loc[rows["chosen"], "settings"].to_list() == ["β 1"]
    (line,) = [line for line in found.grids[0].rows if line[1] == "β 1"]
    assert line[0] == "IBA"
    assert all(cell.startswith("**") for cell in line[2:])
    ig = [{"n_steps": 10, "seed": 3}, {"n_steps": 50, "seed": 3, "baseline": "mask"}]
    assert tries.varied(ig) == ["n_steps 10", "n_steps 50, baseline mask"]


# --- where the classifier is right --------------------------------------------------------------------


@pytest.fixture
def two_kinds(tmp_path: Path) -> Stored:
    """IBA has the larger drop on the odd texts, which the classifier gets right, IG on the even ones."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), n=N)
    for method, on_right, on_wrong in (("iba", 0.5, 0.1), ("ig", 0.4, 0.7)):
        curves = np.where(np.arange(N)[:, None] % 2, falling(N, on_right), falling(N, on_wrong))
        write_cell(run, "imdb", "corrected", method, curves)
    return load(configured(tmp_path, "dataset=imdb", "protocol=corrected"))


def test_only_the_texts_count_that_the_classifier_gets_right(two_kinds: Stored) -> None:
    means = two_kinds.matrix("corrected", "imdb")[["iba", "ig"]].mean()
    assert means.to_list() == pytest.approx([0.3, 0.55], abs=0.02)
    found = right.TABLE.make(two_kinds)
    drops = found.rows.set_index("method")
    assert drops.loc["iba", "drop_11"] == pytest.approx(0.5, abs=0.02)
    assert drops.loc["ig", "drop_11"] == pytest.approx(0.4, abs=0.02)
    assert set(drops["n"]) == {N // 2} == set(found.beside["tests_right"]["n"])
    assert "IMDB 10 of 20" in found.grids[0].notes[0]
    (line,) = [row for row in found.grids[1].rows if row[1] == "IBA − IG"]
    assert line[2].startswith("0.1"), "IBA is ahead there, and behind over all texts"


def test_there_is_no_such_table_where_the_predicted_class_is_explained(two_kinds: Stored) -> None:
    assert not right.TABLE.make(with_rows(two_kinds, two_kinds.frame.rows.assign(right=True))).grids


# --- faithfulness, data sets, evidence ----------------------------------------------------------------


def test_faithfulness_has_the_known_means(stored: Stored) -> None:
    """The fixture's curves fall by the drop in one step, then straight to 0.1; both orders are the same."""
    rows = faithfulness.TABLE.make(stored).rows
    assert (rows["n"] == 20).all()
    assert (rows["ci_low"] <= rows["estimate"]).all()
    assert (rows["estimate"] <= rows["ci_high"]).all()
    assert set(rows["operator"]) == {"delete"}
    number = {method: place for place, method in enumerate(DROPS)}
    cells = rows.groupby(CELL, observed=True)
    assert len(cells) == 2 * 2 * 4
    for (_, _, method), cell in cells:
        drop = DROPS[method]
        later = (0.8 - drop) / 8
        first = falling(20, drop, number[method])[:, 1]
        area = (9 * (drop + 0.8) / 2 - 0.8 / 2) / 9
        assert cell.set_index("measure")["estimate"].to_dict() == pytest.approx(
            {
                "drop_11": drop,
                "area_over": area,
                "area_over_least": area,
                "comprehensiveness": (9 * drop * (0.01 + 0.05 + 0.1) + 2 * drop + (0.8 + 3.5) * later) / 5,
                "sufficiency": drop + later * (7.91 + 7.55 + 7.1 + 6.2 + 3.5) / 5,
                "log_odds_11": np.log(9) - np.log(first / (1 - first)).mean(),
            }
        )


def test_faithfulness_as_text_has_a_dash_where_an_order_was_not_run(stored: Stored) -> None:
    rows = stored.frame.rows
    few = with_rows(stored, rows.assign(sufficiency=rows["sufficiency"].mask(rows["method"] == "lime")))
    released, corrected = faithfulness.TABLE.make(few).grids
    assert "`released`" in released.caption
    assert "mean over the top 1, 5, 10, 20 and 50 % of" in corrected.notes[-1]
    assert "`corrected`" in corrected.caption
    lines = {(line[0], line[2]): dict(zip(corrected.heads, line, strict=True)) for line in corrected.rows}
    assert list(lines) == [(d, m) for d in ("IMDB", "AG News") for m in ("IBA", "IG", "LIME", "Random")]
    assert {line["operator"] for line in lines.values()} == {"delete"}
    assert lines["IMDB", "LIME"]["sufficiency ↓"] == "–"
    assert lines["IMDB", "IBA"]["sufficiency ↓"].startswith("0.703 [0.")
    assert lines["AG News", "IG"]["drop at 11 % ↑"].startswith("0.200 [0.")


def test_table2_says_what_the_records_say(stored: Stored) -> None:
    records = {key: dict(record) for key, record in stored.all_classifiers.items()}
    told = records["imdb", 3]
    told["provenance"] = told["provenance"] | {"n_accuracy": 30, "accuracy": 0.875}
    found = table2.TABLE.make(replace(stored, all_classifiers=records))
    assert found.rows[["dataset", "n", "paper_n", "n_accuracy", "n_train"]].to_numpy().tolist() == [
        ["imdb", 20, 25000, 30, 4000],
        ["agnews", 20, 7600, 20, 12000],
    ]
    (imdb, agnews) = found.grids[0].rows
    assert imdb == [
        "IMDB",
        "20",
        "25000",
        "4000",
        "87.5 %",
        "30 rows",
        "256 tokens",
        "25.0 %",
        "neg 0.000; pos 1.000",
    ]
    assert agnews[4:8] == ["50.0 %", "20 rows", "128 tokens", "25.0 %"]


def test_a_planted_set_has_no_paper_number_and_a_recall(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("planted",), protocols=("corrected",))
    for method in DROPS:
        write_attributions(run, "planted", "corrected", method, 20, planted=True)
    stored = load(configured(tmp_path, "dataset=planted", "protocol=corrected"))
    assert table1.table1_rows(stored)["paper_drop_11"].isna().all()
    assert table2.TABLE.make(stored).rows["paper_n"].isna().all()
    rows = planted.planted_rows(stored).set_index("method")
    assert rows["recall"].to_dict() == {"iba": 1.0, "ig": 1.0, "lime": 1.0, "random": 0.0}
    assert rows["chance"].to_list() == pytest.approx([0.2] * 4)
    (line, *_) = planted.TABLE.make(stored).grids[0].rows
    assert line[1:] == ["IBA", "20", "0.200", "1.000 [1.000, 1.000]"]


def test_recalls_whose_scores_are_gone_stay_as_they_are_stored(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("planted",), protocols=("corrected",))
    for method in DROPS:
        write_attributions(run, "planted", "corrected", method, 20, planted=True)
    cfg = configured(tmp_path, "dataset=planted", "protocol=corrected")
    planted.TABLE.make(load(cfg)).write(run)
    before = (run / "planted.csv").read_bytes()
    write_cell(run, "planted", "corrected", "ig", falling(20, 0.2))
    planted.TABLE.make(load(cfg)).write(run)
    assert (run / "planted.csv").read_bytes() == before


# --- random orders ------------------------------------------------------------------------------------


@pytest.fixture
def ordered(tmp_path: Path) -> Stored:
    """Of four random orders of a text 0.2, 0.4, 0.6 and 0.8 are left; what the methods leave is constant."""
    run = write_run(tmp_path, datasets=("rte",), protocols=("corrected",), n=40)
    random = np.array([0.2, 0.4, 0.6, 0.8])[None].repeat(40, 0)
    alternating = np.where(np.arange(40) % 2, 0.3, 0.7)
    own = {
        "iba": {"delete": 0.1, "mask": 0.3, "attention": 0.1},
        "ig": {"delete": 0.4, "mask": 0.1, "attention": 0.4},
        "lime": {"delete": 0.9, "mask": 0.9, "attention": 0.9},
        "random": dict.fromkeys(("delete", "mask", "attention"), alternating),
    }
    write_first_steps(run, "rte", own, dict.fromkeys(("delete", "mask", "attention"), random))
    return load(configured(tmp_path, "dataset=rte", "protocol=corrected"))


def test_win_rates_by_hand(ordered: Stored) -> None:
    rows = random_orders.win_rows(ordered)
    rows = rows[rows["operator"] != "attention"].set_index(["operator", "method"])
    assert rows["estimate"].to_dict() == pytest.approx(
        {
            ("delete", "iba"): 1.0,
            ("delete", "ig"): 0.625,  # 0.6 and 0.8, and half of the tie
            ("delete", "lime"): 0.0,
            ("delete", "random"): 0.5,
            ("mask", "iba"): 0.75,
            ("mask", "ig"): 1.0,
            ("mask", "lime"): 0.0,
            ("mask", "random"): 0.5,
        }
    )
    assert (rows["n"] == 40).all()
    assert (rows["p_holm"] < 0.001).to_list() == [True, True, True, False] * 2
    assert rows.loc[("delete", "random"), "p_holm"] == 1
    low, high = rows.loc[("delete", "random"), ["ci_low", "ci_high"]]
    assert low < 0.5 < high
    grid = random_orders.TABLE.make(ordered).grids[0]
    assert grid.caption == "Random orders beaten (RTE, corrected, n = 40)"
    assert [row[0] for row in grid.rows] == ["IBA", "IG", "Random", "LIME"]
    assert grid.heads == ["method", "delete", "mask", "attention"]
    assert grid.rows[1][:3] == ["IG", "**0.625** [0.625, 0.625]", "**1.000** [1.000, 1.000]"]
    assert "**" not in grid.rows[3][1], "below 0.5"


def test_the_operators_rank_the_methods_with_a_tau(ordered: Stored) -> None:
    """Left under delete 0.1, 0.4, 0.9, 0.5; mask 0.3, 0.1, 0.9, 0.5: one of six pairs is turned."""
    assert random_orders.operator_rows(replace(ordered, methods_protocol="described")).empty
    row, same, _ = random_orders.operator_rows(ordered).itertuples()
    assert (same.first, same.second, same.tau) == ("delete", "attention", 1)
    assert (row.first, row.second, row.n, row.n_methods) == ("delete", "mask", 40, 4)
    assert row.tau == pytest.approx(4 / 6)
    assert row.ci_low <= row.tau <= row.ci_high
    means = np.random.default_rng(0).integers(0, 6, (3, 2, 8)).astype(float)
    expected = [stats.kendalltau(*draw).statistic for draw in means]
    np.testing.assert_allclose(random_orders.taus(means)[:, 0], expected)


def test_without_random_orders_there_is_no_table(stored: Stored, tmp_path: Path) -> None:
    random_orders.TABLE.make(stored).write(tmp_path)
    rationales.TABLE.make(stored).write(tmp_path)
    assert not list(tmp_path.iterdir())


# --- words marked by people ---------------------------------------------------------------------------


def test_scores_without_curves_are_compared_with_what_people_marked(tmp_path: Path) -> None:
    """Premise `a b c`, hypothesis `d e`; marked are a, b and, where it does not count, d. Class 0 is scored
    on the premise (class 1, on the hypothesis, is not here); a text without a mark is left out."""
    run = write_run(tmp_path, datasets=("rte",), protocols=("corrected",))
    write_classifier(run, "mnli_rationales", 20)
    special = [True, False, False, False, True, False, False, True]
    evidence = [False, True, True, False, False, True, False, False]
    for method, order in {"iba": [5, 2, 1, 3, 6], "ig": [3, 6, 5, 1, 2]}.items():
        folder = write_cell(run, "mnli_rationales", "corrected", method, falling(20, 0.2))
        for path in folder.glob("degradation-*"):
            path.unlink()
        rows = scored(ids(20), [0.5] * 8).assign(order=[order] * 20)
        write_parquet(folder / SCORES, rows)
    marks = [evidence] * 19 + [[False] * 8]
    synthetic.write_rows(run / "mnli_rationales", ids(20), [special] * 20, evidence=marks, label=0)
    stored = load(configured(tmp_path, "dataset=rte", "protocol=corrected"))
    assert stored.datasets == ["rte"], "not in Table 1"
    rows = rationales.rationale_rows(stored).set_index(["method", "measure"])
    assert (rows["n"] == 19).all()
    assert rows["estimate"].to_dict() == pytest.approx(
        {
            ("iba", "auprc"): 1.0,
            ("iba", "token_f1"): 1.0,
            ("iba", "overlap"): 1.0,
            ("ig", "auprc"): (1 / 2 + 2 / 3) / 2,
            ("ig", "token_f1"): 1 / 2,
            ("ig", "overlap"): 1 / 3,
        }
    )
    assert rows.loc[("ig", "token_f1"), "chance"] == pytest.approx(2 / 3)
    assert set(planted.planted_rows(stored)["dataset"]) == set(), "people's marks are another table"
    assert rationales.rationale_rows(replace(stored, methods_protocol="described")).empty
    (grid,) = rationales.TABLE.make(stored).grids
    assert grid.notes[0].startswith("Agreement with people is plausibility, not faithfulness")
    assert any("Pairs of MNLI matched with words marked by people" in note for note in grid.notes)
    assert [row[0] for row in grid.rows] == ["IBA", "IG", "a random order, on average"]
    assert grid.rows[-1][2:] == ["0.806", "0.667", "0.556"]


# --- text ---------------------------------------------------------------------------------------------


def test_a_new_table_is_a_new_file(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found, placed, written, and says what the run is, without being named anywhere else."""
    (tmp_path / "lengths.py").write_text(
        "import pandas as pd\n"
        "from iba.report.tables import Spec\n"
        "from iba.report.text import listed\n"
        "rows = lambda stored: pd.DataFrame({'dataset': stored.datasets})\n"
        "grids = lambda stored, rows: [listed('Lengths', stored.say, rows, ['dataset'], {})]\n"
        "TABLE = Spec('lengths', 15, rows, grids)\n"
    )
    monkeypatch.setattr(tables, "__path__", [*tables.__path__, str(tmp_path)])
    specs = tables.every()
    assert [spec.name for spec in specs][:3] == ["table1", "lengths", "table1_right"]
    specs[1].make(replace(stored, note="a quick run")).write(tmp_path)
    assert pd.read_csv(tmp_path / "lengths.csv")["dataset"].to_list() == ["imdb", "agnews"]
    page = (tmp_path / "lengths.md").read_text()
    assert page.count("IMDB") == page.count("a quick run") == 1


def test_tex_escapes_what_latex_reads() -> None:
    grid = text.Grid("100 % of p̄", ["a_b"], [["**0.5** & `x_y`"]], ["β − 1"])
    found = text.latex(grid, "t")
    for part in (r"100 \% of $\bar{p}$", r"a\_b", r"\textbf{0.5} \& \texttt{x\_y}", r"$\beta$ $-$ 1"):
        assert part in found


def test_lines_are_crossed_with_columns_and_dashes() -> None:
    rows = pd.DataFrame([("a", "x", 1), ("b", "y", 2), ("a", "y", 3)], columns=["dataset", "at", "n"])
    say = lambda key, value: f"{value}!"  # noqa: E731
    found = text.crossed("t", say, rows, ["dataset"], "at", lambda row: str(row.n))
    assert found.heads == ["data set", "x!", "y!"]
    assert found.rows == [["a!", "1", "3"], ["b!", "–", "2"]]
