"""Tables, figures, verdicts and the page, drawn from small stored results whose numbers are known."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from fake_results import (
    DROPS,
    configured,
    degradation,
    falling,
    write_attributions,
    write_cell,
    write_classifier,
    write_run,
)
from matplotlib.figure import Figure

from baselines.integrated_gradients import IntegratedGradients
from baselines.integrated_gradients_released import IntegratedGradientsReleased
from iba.errors import UserError
from iba.evaluation.stats import Resampling
from iba.pipeline import report, reproduce
from iba.pipeline.store import read_parquet, write_json, write_parquet
from iba.report import (
    claims,
    collect,
    comparisons,
    drawing,
    examples,
    faithfulness,
    figure1,
    html,
    reproduction,
    table1,
    table2,
    terminal,
    text,
)
from iba.report.claims import studies
from iba.report.claims.cost import cost_between
from iba.report.claims.kept import keeps_prediction
from iba.report.claims.order import larger
from iba.report.claims.verdict import (
    ALIKE,
    PAPER_SETS,
    Check,
    Outcome,
    State,
    Verdict,
    conclude,
    overall,
    rule,
)
from iba.report.rows import CELL, Stored, load, per_instance
from iba.report.timed import _methods, read_timed

SMALL = ("dataset=[imdb,agnews]", "protocol=[released,corrected]")
HOW = Resampling(0.95, 300, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run: two data sets, two protocols, attributions only for IMDB."""
    root = tmp_path_factory.mktemp("stored")
    run = write_run(root, datasets=("imdb", "agnews"), protocols=("released", "corrected"))
    for method in DROPS:
        write_attributions(run, "imdb", "corrected", method, 20, planted=True)
    report.run(configured(root, *SMALL))
    return root


@pytest.fixture(scope="module")
def stored(folder: Path) -> Stored:
    return load(configured(folder, *SMALL))


# --- rows ---------------------------------------------------------------------------------------------


def test_per_instance_scores_by_hand() -> None:
    """A straight line from 1 to 0: drop 1/9 at the first step, areas ½, ERASER's means of the shares."""
    rows = degradation("corrected", "imdb", "iba", np.linspace(1, 0, 10)[None])
    one = per_instance(rows).iloc[0]
    assert one["drop_11"] == pytest.approx(1 / 9)
    assert (one["area_under"], one["area_over"]) == pytest.approx((0.5, 0.5))
    assert one["comprehensiveness"] == pytest.approx((0.01 + 0.05 + 0.1 + 0.2 + 0.5) / 5)
    assert one["sufficiency"] == pytest.approx((0.99 + 0.95 + 0.9 + 0.8 + 0.5) / 5)


def test_the_two_orders_and_the_log_odds_by_hand() -> None:
    """Least first a straight line from 0.8 to 0.2 loses 0.3 on average; log-odds fall from ln 4 to 0."""
    most = degradation("corrected", "imdb", "iba", np.array([[0.8, 0.5, *[0.2] * 8]]), orders=("most",))
    least = degradation("corrected", "imdb", "iba", np.linspace(0.8, 0.2, 10)[None], orders=("least",))
    one = per_instance(pd.concat([most, least])).iloc[0]
    assert (one["prob_start"], one["prob_11"], one["drop_11"]) == pytest.approx((0.8, 0.5, 0.3))
    assert one["log_odds_11"] == pytest.approx(np.log(4))
    assert one["area_over"] == pytest.approx((0.3 + 0.6 * 7 + 0.6 / 2) / 9)
    assert one["area_over_least"] == pytest.approx(0.3)
    assert one["sufficiency"] == pytest.approx(0.6 * (0.99 + 0.95 + 0.9 + 0.8 + 0.5) / 5)


def test_the_drop_at_11_percent_is_read_at_that_step_of_a_finer_curve() -> None:
    rows = degradation("corrected", "imdb", "iba", np.linspace(1, 0, 10)[None])
    finer = rows[(rows["grid"] == "curve") & (rows["order"] == "most")].iloc[np.repeat(np.arange(10), 2)[:-1]]
    fractions = np.linspace(0, 1, 19)
    finer = finer.assign(step=range(19), fraction=fractions, prob_target=1 - fractions**2)
    assert per_instance(finer).iloc[0]["drop_11"] == pytest.approx((1 / 9) ** 2)


def test_cells_of_different_steps_are_refused() -> None:
    """Read at the steps of another cell, a curve would give a wrong drop without a sign of it."""
    ten = degradation("corrected", "imdb", "iba", np.linspace(1, 0, 10)[None])
    ten = ten[(ten["grid"] == "curve") & (ten["order"] == "most")]
    finer = ten.iloc[np.repeat(np.arange(10), 2)[:-1]].assign(step=range(19), method="ig")
    for other in (
        finer.assign(fraction=np.linspace(0, 1, 19)),
        ten.assign(method="ig", fraction=ten["fraction"] / 2),
    ):
        with pytest.raises(UserError, match="degraded at different steps"):
            per_instance(pd.concat([ten, other]))


def test_cells_of_different_eraser_shares_are_refused() -> None:
    one, other = (degradation("corrected", "imdb", m, np.linspace(1, 0, 10)[None]) for m in ("iba", "ig"))
    half = other.assign(fraction=other["fraction"].where(other["grid"] == "curve", other["fraction"] / 2))
    with pytest.raises(UserError, match="one eraser_shares"):
        per_instance(pd.concat([one, half]))


def test_rows_of_another_model_are_refused(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    record = tmp_path / "bge_small/imdb/classifier.json"
    stored = json.loads(record.read_text())
    stored["settings"]["recipe"]["model"] = {"name": "tiny"}
    write_json(record, stored)
    with pytest.raises(UserError, match="made with model=tiny, not with bge_small"):
        load(configured(tmp_path, "dataset=imdb"))


def test_scores_of_an_order_that_was_not_run_are_missing_not_zero() -> None:
    rows = degradation("corrected", "imdb", "iba", np.linspace(1, 0, 10)[None], orders=("most",))
    one = per_instance(rows).iloc[0]
    assert np.isnan(one["sufficiency"])
    assert np.isnan(one["area_over_least"])
    assert one["comprehensiveness"] > 0


def test_methods_on_different_instances_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    write_cell(run, "imdb", "corrected", "ig", falling(19, 0.2))
    with pytest.raises(UserError, match="different instances"):
        load(configured(tmp_path, "dataset=imdb"))


def test_an_empty_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run scripts/degrade\.py first"):
        report.run(configured(tmp_path))


def test_an_unknown_section_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"only\.0=tabels must be 'tables'"):
        report.run(configured(folder, "only=[tabels]", *SMALL))


# --- tables -------------------------------------------------------------------------------------------


def test_table1_has_the_known_drops_and_the_papers(folder: Path) -> None:
    rows = pd.read_csv(folder / "bge_small" / "table1.csv").set_index(CELL)
    wanted = ["n", "drop_11", "ci_low", "ci_high", "paper_drop_11", "accuracy"]
    assert set(wanted) <= set(rows.columns)
    assert len(rows) == 2 * 2 * 4
    for (_, _, method), row in rows.iterrows():
        assert row["drop_11"] == pytest.approx(DROPS[method], abs=1e-5)
        assert row["ci_low"] < row["drop_11"] < row["ci_high"]
        assert row["n"] == 20
    assert rows.loc[("corrected", "imdb", "iba"), "paper_drop_11"] == 0.229
    assert rows.loc[("corrected", "agnews", "ig"), "difference"] == pytest.approx(0.2 - 0.036)


def test_a_rising_probability_keeps_its_sign(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), drops={"iba": -0.05})
    found = table1.table(load(configured(tmp_path, "dataset=imdb")))
    assert found["drop_11"].item() == pytest.approx(-0.05)
    assert text.number(found["drop_11"].item()) == "−0.050"


def test_only_a_significant_best_is_bold(stored: Stored, tmp_path: Path) -> None:
    tests = comparisons.all_pairs(stored)
    lines = table1.grids(stored, table1.table(stored), tests)[0].rows
    bold = {(line[0], line[1]) for line in lines if "**" in line[3]}
    assert bold == {("IMDB", "IBA"), ("AG News", "IBA")}
    alike = DROPS | {"iba": 0.2}
    write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), drops=alike)
    other = load(configured(tmp_path, "dataset=imdb"))
    grids = table1.grids(other, table1.table(other), comparisons.all_pairs(other))
    assert not any("**" in cell for grid in grids for row in grid.rows for cell in row)


def test_faithfulness_has_the_known_means(stored: Stored, folder: Path) -> None:
    """The fixture's curves fall by the drop in one step, then straight to 0.1; both orders are the same."""
    rows = faithfulness.table(stored)
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
    kept = pd.read_csv(folder / "bge_small" / "faithfulness.csv")
    pd.testing.assert_frame_equal(kept, rows, check_dtype=False, check_categorical=False, rtol=1e-5)


def test_faithfulness_as_text_has_a_dash_where_an_order_was_not_run(stored: Stored) -> None:
    of_lime = stored.scores["method"] == "lime"
    few = replace(stored, scores=stored.scores.assign(sufficiency=stored.scores["sufficiency"].mask(of_lime)))
    released, corrected = faithfulness.grids(few, faithfulness.table(few))
    assert "`released`" in released.caption
    assert "mean over the top 1, 5, 10, 20 and 50 % of" in corrected.notes[-1]
    assert "`corrected`" in corrected.caption
    lines = {(line[0], line[2]): dict(zip(corrected.heads, line, strict=True)) for line in corrected.rows}
    assert list(lines) == [(d, m) for d in ("IMDB", "AG News") for m in ("IBA", "IG", "LIME", "Random")]
    assert {line["operator"] for line in lines.values()} == {"delete"}
    assert lines["IMDB", "LIME"]["sufficiency ↓"] == "–"
    assert lines["IMDB", "IBA"]["sufficiency ↓"].startswith("0.703 [0.")
    assert lines["AG News", "IG"]["drop at 11 % ↑"].startswith("0.200 [0.")


def test_table2_says_what_the_records_say(stored: Stored, folder: Path) -> None:
    records = {name: dict(record) for name, record in stored.classifiers.items()}
    records["imdb"]["provenance"] = records["imdb"]["provenance"] | {"n_accuracy": 30, "accuracy": 0.875}
    other = replace(stored, classifiers=records)
    rows = table2.table(other)
    assert rows[["dataset", "n", "paper_n", "n_accuracy", "n_train"]].to_numpy().tolist() == [
        ["imdb", 20, 25000, 30, 100],
        ["agnews", 20, 7600, 20, 100],
    ]
    labels = "no 0.000; yes 1.000"
    assert table2.grid(other, rows).rows == [
        ["IMDB", "20", "25000", "100", "87.5 %", "30 rows", "64 tokens", "25.0 %", labels],
        ["AG News", "20", "7600", "100", "50.0 %", "20 rows", "64 tokens", "25.0 %", labels],
    ]
    kept = pd.read_csv(folder / "bge_small" / "table2.csv")
    pd.testing.assert_frame_equal(kept, table2.table(stored), check_dtype=False)


def test_a_method_that_was_not_run_is_a_dash(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb",), protocols=("released",))
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), drops={"iba": 0.1, "ig": 0.2})
    report.run(configured(tmp_path, "dataset=imdb", "only=[tables]"))
    lines = (run / "table1.md").read_text().splitlines()
    lime = next(line for line in lines if line.startswith("| IMDB | LIME | 0.038"))
    assert lime.endswith("| – |")


def test_a_planted_set_has_no_paper_number(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("planted",), protocols=("corrected",))
    for method in DROPS:
        write_attributions(run, "planted", "corrected", method, 20, planted=True)
    report.run(configured(tmp_path, "dataset=planted", "only=[tables]"))
    assert pd.read_csv(run / "table1.csv")["paper_drop_11"].isna().all()
    assert table2.table(load(configured(tmp_path, "dataset=planted")))["paper_n"].isna().all()


def test_pairs_are_one_holm_family() -> None:
    table = pd.DataFrame({"a": np.linspace(0.5, 0.6, 12), "b": np.linspace(0, 0.1, 12) ** 2, "c": 0.3})
    found = comparisons.pairs(table, HOW)
    assert list(zip(found["first"], found["second"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert (found["p_holm"] >= found["p_value"]).all()
    assert found["p_holm"].iloc[0] == pytest.approx(min(1.0, 3 * found["p_value"].min()))
    turned = comparisons.signed(found, "c", "a")
    assert turned is not None
    assert turned["difference"] == pytest.approx(0.3 - 0.55)
    assert turned["ci_low"] < turned["difference"] < turned["ci_high"]


def test_two_measures_are_two_families(stored: Stored, folder: Path) -> None:
    tests = comparisons.all_pairs(stored)
    sizes = tests.groupby(["protocol", "dataset", "measure"], sort=False).size()
    assert list(sizes.index.get_level_values("measure")) == ["drop_11", "area_over"] * 4
    assert (sizes == 6).all()
    alone = comparisons.pairs(stored.matrix("corrected", "imdb", "area_over"), stored.how)
    cell = tests[(tests["protocol"] == "corrected") & (tests["dataset"] == "imdb")]
    kept = cell[cell["measure"] == "area_over"]
    np.testing.assert_allclose(kept["difference"], alone["difference"])
    np.testing.assert_allclose(kept["p_holm"], alone["p_holm"])
    csv = pd.read_csv(folder / "bge_small" / "tests.csv")
    assert list(csv.columns[:5]) == ["protocol", "dataset", "measure", "first", "second"]
    assert len(csv) == len(tests)


def test_the_drop_decides_claims_and_bold_whatever_the_area_says(stored: Stored) -> None:
    tests = comparisons.all_pairs(stored)
    turned = tests.assign(difference=tests["difference"].where(tests["measure"] == "drop_11", -1.0))
    for order in (turned, turned.iloc[::-1]):
        check = larger(stored, order, "corrected", "imdb", "iba", "ig")
        assert check.text.startswith("IMDB: IBA − IG = 0.100")
        lines = table1.grids(stored, table1.table(stored), order)[0].rows
        assert {line[1] for line in lines if "**" in line[3]} == {"IBA"}


def test_a_large_difference_has_the_smallest_p_value_that_is_printed() -> None:
    """With 300 resamples the smallest p-value of six pairs would be 0.04, of 29 layers 0.19."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({name: place + rng.normal(0, 0.1, 60) for place, name in enumerate("abcd")})
    found = comparisons.pairs(table, HOW)
    assert {text.p_value(p) for p in found["p_holm"]} == {"p < 0.001"}
    drops = pd.DataFrame({layer: rng.normal(0, 0.01, 200) for layer in range(1, 13)})
    drops += pd.Series({8: 0.5, 9: 0.5, 1: 0.3}).reindex(drops.columns, fill_value=0.0)
    assert all("p < 0.001" in check.text for check in studies.layer_checks(drops, HOW))


def test_a_run_of_one_instance_has_no_p_values_and_no_trace(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb", "agnews"), protocols=("released", "corrected"), n=1)
    report.run(configured(tmp_path, *SMALL))
    assert pd.read_csv(run / "tests.csv")[["p_value", "p_holm", "ci_low"]].isna().all(axis=None)
    assert "IMDB" in (run / "table1.md").read_text()


def test_the_notes_say_what_the_records_say(stored: Stored, folder: Path, tmp_path: Path) -> None:
    """The rule and rows of β, the precision, and on which data sets two protocols share their scores."""
    cells = {key: dict(record) for key, record in stored.cells.items()}
    for (protocol, dataset, method), record in cells.items():
        record["settings"] = record["settings"] | {"precision": "bf16"}
        if (protocol, method) == ("corrected", "iba"):
            learned = {"beta": 1.0, "beta_grid": [0.1, 1.0], "n_calibration": 64}
            record["provenance"] = record["provenance"] | {"learned": learned}
        if (protocol, method) == ("corrected", "random") or (protocol, dataset, method) == (
            "corrected", "imdb", "ig"
        ):  # fmt: skip
            record["same_as"] = f"{dataset}/released/{method}"
    found = "\n".join(table1.notes(replace(stored, cells=cells)))
    assert "the largest mean drop at 11 %, Table 1's own measure, on 64 held-out training rows" in found
    assert "IBA (`corrected`): IMDB 1*, AG News 1*. Methods not named here, IG and LIME among them" in found
    assert "Attributions and probabilities computed in bf16." in found
    assert (
        "the same scores: IG under `corrected` and `released` (IMDB); "
        "Random under `corrected` and `released` (IMDB, AG News)."
    ) in found
    assert "computed in" not in "\n".join(table1.notes(stored)), "nothing is recorded there"
    page = reproduction.render(replace(stored, cells=cells), [])
    assert "largest mean drop at 11 % on 64 held-out training rows" in page
    assert "IG and LIME have nothing tuned this way" in page
    path = tmp_path / "imdb" / "corrected" / "iba" / "degradation.json"
    write_json(path, {"settings": {"precision": "fp32"}})
    both = "\n".join(table1.notes(replace(stored, cells=cells, folder=tmp_path)))
    assert "computed in bf16 and fp32" in both


def test_tex_escapes_what_latex_reads() -> None:
    grid = text.Grid("100 % of p̄", ["a_b"], [["**0.5** & `x_y`"]], ["β − 1"])
    found = text.latex(grid, "t")
    for part in (r"100 \% of $\bar{p}$", r"a\_b", r"\textbf{0.5} \& \texttt{x\_y}", r"$\beta$ $-$ 1"):
        assert part in found


# --- figures ------------------------------------------------------------------------------------------


def test_the_normalised_drop_by_hand() -> None:
    """o = 0.9, m = 0.1 (the lower end), so (0.5 − 0.1)/0.8 = 0.5 and the other end is (0.3 − 0.1)/0.8."""
    means = np.array([[0.9, 0.5, 0.1], [0.9, 0.9, 0.3]])
    np.testing.assert_allclose(figure1.normalised(means), [[1, 0.5, 0], [1, 1, 0.25]])
    assert np.isnan(figure1.normalised(np.full((2, 3), 0.5))).all()


def test_intervals_of_the_normalised_drop_start_with_no_width() -> None:
    rng = np.random.default_rng(0)
    curves = np.concatenate([np.full((30, 2, 1), 0.9), rng.uniform(0.1, 0.5, (30, 2, 4))], axis=2)
    curves[:, :, 0] = rng.uniform(0.7, 0.9, (30, 1))
    found = figure1.panel_of(np.linspace(0, 1, 5), curves, ["a", "b"], HOW, figure1.normalised)
    np.testing.assert_allclose(found.low[:, 0], 1)
    np.testing.assert_allclose(found.high[:, 0], 1)
    assert (found.low[:, 1:-1] < found.curve[:, 1:-1]).all()
    assert (found.curve[:, 1:-1] < found.high[:, 1:-1]).all()


@pytest.mark.parametrize(("lost", "low", "small"), [(0.2, 0.11, False), (0.2, 0.1, True), (0.2, -0.1, True),
                                                     (0.0, 0.0, True), (-0.2, -0.3, True)])  # fmt: skip
def test_when_too_little_is_lost_for_the_normalised_drop(lost: float, low: float, small: bool) -> None:
    nothing = np.zeros((1, 2))
    assert figure1.Panel(["iba"], nothing[0], nothing, nothing, nothing, 9, lost, low).too_small is small


def test_a_panel_knows_how_much_is_lost() -> None:
    """o = 0.9, m = 0.3; the instances lose 0.7 and 0.5 in turn, so no resample loses less than 0.5."""
    curves = np.array([[[0.9, 0.4], [0.9, 0.2]], [[0.9, 0.4], [0.9, 0.4]]] * 8)
    for scale in (figure1.normalised, figure1.unscaled):
        found = figure1.panel_of(np.array([0.0, 1.0]), curves, ["a", "b"], HOW, scale)
        assert found.lost == pytest.approx(0.6)
        assert 0.5 < found.lost_low < 0.6


def test_where_too_little_is_lost_all_protocols_show_the_probability(tmp_path: Path) -> None:
    """On AG News half the texts gain by being emptied (0.9 to 0.1, 0.1 to 0.8)."""
    run = write_run(tmp_path, datasets=("imdb", "agnews"), protocols=("released", "corrected"))
    gains = np.vstack([falling(10, 0.3), np.linspace(0.1, 0.8, 10)[None].repeat(10, 0)])
    for method in DROPS:
        write_cell(run, "agnews", "corrected", method, gains)
    stored = load(configured(tmp_path, *SMALL))
    shown = figure1._readable(stored)
    plain = {
        protocol: figure1.panel(stored, protocol, "agnews", figure1.unscaled) for protocol in stored.protocols
    }
    for protocol, found in plain.items():
        assert found is not None
        np.testing.assert_array_equal(shown[protocol, "agnews"].curve, found.curve)
        assert shown[protocol, "imdb"].curve[0, 0] == 1
        assert not shown[protocol, "imdb"].remark
    assert "o − m = 0.05" in shown["corrected", "agnews"].remark
    assert "(AG News: the probability itself" in figure1.caption(stored)
    with drawing.look():
        figure = figure1.draw(stored, ["corrected"], shown, "d")
    assert [axes.texts[0].get_text() != "" for axes in figure.axes] == [False, True]


def test_nothing_is_said_where_enough_is_lost(stored: Stored) -> None:
    assert "the probability itself" not in figure1.caption(stored)


# --- the terminal ---------------------------------------------------------------------------------------


def test_the_report_ends_with_table_1_and_where_things_lie(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.run(configured(folder, *SMALL, "only=[tables]"))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    rows = [line.split() for line in lines if re.search(r"\d\.\d{3}", line)]
    drops = pd.read_csv(folder / "bge_small" / "table1.csv")
    printed = [float(cell.strip("*")) for row in rows for cell in row[-2:]]
    wide = drops.pivot(index=["dataset", "method"], columns="protocol", values="drop_11")
    expected = [
        wide.loc[(d, m), p] for d in ("imdb", "agnews") for m in DROPS for p in ("released", "corrected")
    ]
    assert printed == pytest.approx(expected, abs=5e-4)
    assert [row[-1].startswith("*") for row in rows] == [True, False, False, False] * 2
    assert [Path(line).name for line in lines[-3:]] == ["table1.md", "report.html", "figure1.png"]


def test_a_column_of_dashes_is_left_out(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    grid = text.Grid(
        "Table 1", ["data set", "method", "paper", "corrected"], [["a", "IBA", "–", "**0.300** [0.2, 0.4]"]]
    )
    terminal.show(tmp_path, grid)
    printed = capsys.readouterr().out
    assert "paper" not in printed
    assert re.search(r"a +IBA +\*0\.300 *$", printed, re.MULTILINE)


def test_figures_are_written_with_real_text(folder: Path) -> None:
    figures = folder / "bge_small" / "figures"
    names = {p.name for p in figures.iterdir()}
    stems = ("figure1", "figure1_released", "figure1_corrected", "figure1_probability", "methods")
    assert names == {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".pdf")}
    for path in figures.glob("*.pdf"):
        assert b"/FontFile2" in path.read_bytes()
        assert b"/Type3" not in path.read_bytes()


# --- what is kept of the attributions -------------------------------------------------------------------


def test_recall_by_hand() -> None:
    """Two evidence tokens; the two largest scores of words are at 1 and 2, [CLS] does not count."""
    special, evidence = [True, False, False, False], [False, True, False, True]
    assert collect.recall([9.0, 3.0, 2.0, 1.0], special, evidence) == 0.5
    assert collect.recall([9.0, 3.0, 1.0, 2.0], special, evidence) == 1.0


def test_texts_that_were_cut_before_their_evidence_have_no_recall(tmp_path: Path) -> None:
    write_attributions(tmp_path, "imdb", "corrected", "iba", 3, planted=True)
    path = tmp_path / "imdb" / "corrected" / "iba" / "attributions.parquet"
    rows = read_parquet(path)
    rows["evidence"] = [[False] * 7, *rows["evidence"][1:]]
    write_parquet(path, rows)
    collect.collect(tmp_path, HOW, 1)
    assert pd.read_csv(tmp_path / "planted.csv")[["n", "recall"]].to_numpy().tolist() == [[2, 1.0]]


def test_a_cell_made_again_without_numbers_keeps_none_of_its_old_ones(tmp_path: Path) -> None:
    write_attributions(tmp_path, "imdb", "corrected", "iba", 3)
    collect.collect(tmp_path, HOW, 1)
    cell = tmp_path / "imdb" / "corrected" / "iba"
    assert len(read_parquet(cell / "diagnostics.parquet")) == 3
    rows = read_parquet(cell / "attributions.parquet")
    write_parquet(cell / "attributions.parquet", rows.drop(columns=collect.scalars(rows)))
    collect.collect(tmp_path, HOW, 1)
    assert not (cell / "diagnostics.parquet").exists()


def test_examples_are_spread_over_the_sample() -> None:
    rows = pd.DataFrame({"value": range(11)})
    assert collect.spread(rows, 3)["value"].tolist() == [0, 5, 10]
    assert collect.spread(rows.head(2), 6)["value"].tolist() == [0, 1]


def test_planted_recall_of_the_known_scores(folder: Path) -> None:
    rows = pd.read_csv(folder / "bge_small" / "planted.csv").set_index("method")
    assert rows["recall"].to_dict() == {"iba": 1.0, "ig": 1.0, "lime": 1.0, "random": 0.0}
    assert (rows["chance"] == 0.2).all()


def test_cells_without_attributions_keep_what_was_stored() -> None:
    old = pd.DataFrame([("p", "d", "a", 1), ("p", "d", "b", 2)], columns=[*CELL, "value"])
    new = pd.DataFrame([("p", "d", "b", 3), ("p", "d", "b", 4)], columns=[*CELL, "value"])
    assert collect.replace_cells(old, new)["value"].tolist() == [1, 3, 4]


def test_a_redraw_without_attributions_changes_nothing(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("attributions.parquet"):
        path.unlink()
    report.run(configured(tmp_path / "copy", *SMALL))
    for name in (
        "table1.csv",
        "planted.csv",
        "report.html",
        "REPRODUCTION.md",
        "figures/figure1.png",
        "figures/figure1.pdf",
    ):
        left, right = (root / "bge_small" / name for root in (folder, tmp_path / "copy"))
        assert left.read_bytes() == right.read_bytes(), name


def test_every_table_says_what_the_run_is(folder: Path) -> None:
    """A quick run's numbers must not be taken for the paper's, whatever table they are met in."""
    note = str(configured(folder, *SMALL).note)
    for path in (folder / "bge_small").glob("*.md"):
        assert path.read_text().count(note) == 1, path.name


# --- verdicts -----------------------------------------------------------------------------------------


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
    assert conclude("C1", "corrected", [Check(state, "") for state in states]).outcome == outcome


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
    verdicts = [Verdict("C1", p, meaning[o], "") for p, o in zip(protocols, outcomes, strict=False)]
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
def test_a_comparison_of_two_methods(stored: Stored, tests: pd.DataFrame, state: str) -> None:
    assert larger(stored, tests, "corrected", "imdb", "iba", "ig").state == state


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    """All data sets with 200 instances under one protocol; IBA wins everywhere."""
    root = tmp_path_factory.mktemp("large")
    write_run(root, protocols=("corrected",), n=200)
    return load(configured(root))


def with_drops(stored: Stored, **drops: float) -> Stored:
    """The same run with other drops at 11 % for some methods (their differences keep their noise)."""
    shift = stored.scores["method"].map({m: d - DROPS[m] for m, d in drops.items()}).fillna(0.0)
    return replace(stored, scores=stored.scores.assign(drop_11=stored.scores["drop_11"] + shift))


def outcomes(stored: Stored) -> dict[str, str]:
    judged = claims.judge(stored, comparisons.all_pairs(stored))
    return {j.claim.name: j.verdicts[0].outcome for j in judged}


def test_c1_to_c3_on_a_run_where_iba_wins_everywhere(large: Stored) -> None:
    assert outcomes(large) == {
        "C1": "reproduced",
        "C2": "not reproduced",
        "C3": "reproduced",
        "C4": "not enough data",
        "C5": "not enough data",
        "C6": "not reproduced",  # the fixture times IBA as faster than IG
        "C7": "not enough data",
    }


def test_c1_to_c3_on_a_run_where_ig_wins_and_lime_is_worse_than_random(large: Stored) -> None:
    found = outcomes(with_drops(large, ig=0.4, lime=0.01))
    assert (found["C1"], found["C2"], found["C3"]) == ("not reproduced", "reproduced", "not reproduced")


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
    stored: Stored, iba_seconds: tuple[float, ...], device: str, outcome: str
) -> None:
    cells = {}
    for dataset, seconds in zip(PAPER_SETS, iba_seconds, strict=True):
        for method, value, where in (("ig", 1.0, "a"), ("iba", seconds, device), ("lime", 5.0, "a")):
            record = {"provenance": {"seconds_per_instance": value, "device": where}}
            cells["corrected", dataset, method] = record
    assert cost_between(replace(stored, cells=cells), pd.DataFrame(), "corrected").outcome == outcome


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
    stored: Stored, tmp_path: Path, iba_ms: float, n_samples: int, layer: int, n_sets: int, outcome: str
) -> None:
    ig, released = (
        f"{c.__module__}.{c.__name__}" for c in (IntegratedGradients, IntegratedGradientsReleased)
    )
    timed = {
        "iba": {"n_steps": 10, "beta": 1.0, "noise": "statistics"},
        "ig": {"_target_": ig, "normalise": False},
        "lime": {"n_samples": 100},
    }
    run = {  # the same work, of a released kind
        "iba": {"n_steps": 10, "beta": 1e-5, "noise": "layer_input"},
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
    cells = {
        ("corrected", dataset, method): {
            "settings": {"method": run[method]},
            "provenance": {"resolved": {"layer": layer} if method == "iba" else {}},
        }
        for dataset in PAPER_SETS
        for method in run
    }
    run_rows = replace(stored, cells=cells, timed=read_timed(tmp_path, {"name": "m"}))
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
def test_c7_reads_the_diagnostics(
    large: Stored, tmp_path: Path, probability: float, bits: float, outcome: str
) -> None:
    ids = [f"i{k:04d}" for k in range(200)]
    numbers = {"prob_bottleneck": probability, "bits_per_token": bits, "bits_per_token_start": 100.0}
    for dataset in PAPER_SETS:
        rows = pd.DataFrame({"instance_id": ids} | numbers)
        write_parquet(tmp_path / dataset / "corrected" / "iba" / "diagnostics.parquet", rows)
        write_classifier(tmp_path, dataset, 200)
    stored = replace(large, folder=tmp_path)
    verdict = keeps_prediction(stored, pd.DataFrame(), "corrected")
    assert verdict.outcome == outcome
    assert "predicts the target, n = 100" in verdict.checks[0].text


def test_reproduction_has_every_claim_and_protocol(stored: Stored, folder: Path) -> None:
    page = (folder / "bge_small" / "REPRODUCTION.md").read_text()
    for judged in claims.judge(stored, comparisons.all_pairs(stored)):
        assert f"## {judged.claim.name}. {judged.claim.title}" in page
    assert page.count("**`released`: ") == 7
    assert page.count("**`corrected`: ") == 7
    assert "Eq. 5" in page
    assert page.count(rule(stored.how)) == 1


def test_the_page_states_the_rule_of_the_verdicts(stored: Stored, folder: Path) -> None:
    page = (folder / "bge_small" / "report.html").read_text()
    assert page.count("otherwise it is open") == 1
    assert f"below {ALIKE}, too small" in rule(stored.how)
    assert "p &lt; 0.05" in page


def test_the_run_of_another_seed_keeps_its_verdicts_to_itself(tmp_path: Path) -> None:
    asked = tmp_path / "REPRODUCTION.md"
    for run, copied in (("bge_small/seeds/4", False), ("bge_small", True)):
        write_run(tmp_path, run, ("rte",), ("described",))
        changes = ("only=[verdicts]", f"run={run}", f"report.verdicts={asked}")
        report.run(configured(tmp_path, *changes))
        assert (tmp_path / run / "REPRODUCTION.md").is_file()
        assert asked.is_file() == copied


@pytest.mark.parametrize("change", ["dataset=rte", "protocol=described", "method=[iba,ig]"])
def test_a_part_of_the_papers_cells_does_not_replace_all_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    run = write_run(tmp_path, datasets=("rte",), protocols=("described",), drops={"iba": 0.3, "ig": 0.2})
    page = tmp_path / "REPRODUCTION.md"
    report.run(configured(tmp_path, change, "only=[verdicts]", f"report.verdicts={page}"))
    assert (run / "REPRODUCTION.md").is_file()
    assert not page.exists()
    assert f"{page} stays as it is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ("dataset=imdb", "agnews"),
        ("protocol=corrected", "released"),
        ("method=iba", "ig, lime, random"),
    ],
)
def test_a_report_never_loses_what_the_run_holds(folder: Path, change: str, lost: str) -> None:
    table = folder / "bge_small" / "table1.md"
    before = table.read_text()
    with pytest.raises(UserError, match=f"also holds {lost}: nothing is redrawn"):
        report.run(configured(folder, *SMALL, change))
    assert table.read_text() == before


def test_reproducing_a_part_of_a_run_ends_with_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stage in ("finetune", "attribute", "degrade", "study"):
        monkeypatch.setattr(f"iba.pipeline.reproduce.{stage}.run", lambda _: None)
    reproduce.run(configured(folder, *SMALL, "dataset=imdb"))
    assert "also holds agnews: nothing is redrawn" in capsys.readouterr().out


def test_the_verdicts_also_go_where_they_are_asked_to(folder: Path, stored: Stored, tmp_path: Path) -> None:
    judged = claims.judge(stored, comparisons.all_pairs(stored))
    reproduction.write(stored, judged, tmp_path / "REPRODUCTION.md")
    assert (tmp_path / "REPRODUCTION.md").read_text() == reproduction.render(stored, judged)


# --- the page -----------------------------------------------------------------------------------------


def test_display_strengths() -> None:
    special = np.array([True, False, False, False])
    signed = examples.display_strength(np.array([9.0, 1.0, -2.0, 0.0]), special)
    np.testing.assert_allclose(signed, [0, 0.5, -1, 0])
    positive = examples.display_strength(np.array([9.0, 1.0, 3.0, 2.0]), special)
    np.testing.assert_allclose(positive, [0, 0, 1, 0.5])


def test_the_page_is_self_contained_and_shows_the_instances(folder: Path) -> None:
    page = (folder / "bge_small" / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 3
    assert "rank 1 of 5" in page
    assert "prefers-color-scheme: dark" in page


def test_text_from_data_is_escaped() -> None:
    assert html.markup("<b> & **x** `y`") == "&lt;b&gt; &amp; <strong>x</strong> <code>y</code>"


def test_a_protocol_of_its_own_file_has_limits_of_its_own(stored: Stored) -> None:
    """Flat curves under one protocol do not leave its panels empty because another's fall far."""
    steps = np.linspace(0, 1, 3)
    curves = {"released": [1.0, 0.9, 0.8], "corrected": [1.0, -3.0, 0.0]}
    panels = {
        (protocol, dataset): figure1.Panel(["iba"], steps, np.array([c]), np.array([c]), np.array([c]), 9)
        for protocol, c in curves.items()
        for dataset in stored.datasets
    }
    with drawing.look():
        flat = figure1.draw(stored, ["released"], panels, "d")
        both = figure1.draw(stored, ["released", "corrected"], panels, "d")
    assert flat.axes[0].get_ylim()[0] == pytest.approx(0.8 - 0.008)
    assert both.axes[0].get_ylim()[0] == pytest.approx(-3 - 0.16)


def test_every_figure_names_encoder_and_preset(stored: Stored, folder: Path, tmp_path: Path) -> None:
    assert stored.made_with == "bge-small-en-v1.5, preset bge_small"
    write_run(tmp_path, "bge_small/seeds/4", ("rte",), ("described",))
    other = load(configured(tmp_path, "dataset=rte", "protocol=described", "run=bge_small/seeds/4"))
    assert other.made_with.endswith("preset bge_small, run bge_small/seeds/4")
    with drawing.look():
        figure = Figure(figsize=(4, 2), layout="constrained")
        figure.subplots()
        png, pdf = drawing.save(figure, tmp_path / "one", stored.made_with)
    across, up = 4 * 220, round((2 + drawing._FOOT) * 220)
    pixels = matplotlib.image.imread(png)
    assert pixels.shape[:2] == pytest.approx((up, across), abs=1)
    foot = pixels[-round(drawing._FOOT * 220) :, :, :3]
    assert foot.min() < 0.6, "something is printed there"
    assert (foot[-2:] == 1).all(), "and not cut off"
    assert pdf.is_file()


def test_wide_intervals_are_cut_at_the_frame() -> None:
    curve = np.array([[1.0, 0.5, 0.0]])
    narrow = figure1.Panel(["iba"], np.array([0.0, 0.5, 1.0]), curve, curve - 0.1, curve + 0.1, 9)
    assert figure1.limits([narrow]) == pytest.approx((-0.1 - 0.048, 1.1 + 0.048))
    wide = figure1.Panel(["iba"], np.array([0.0, 0.5, 1.0]), curve, curve - 50, curve + 50, 9)
    assert figure1.limits([narrow, wide]) == pytest.approx((-1 - 0.12, 2 + 0.12))
    nothing = replace(narrow, curve=curve * np.nan, low=curve * np.nan, high=curve * np.nan)
    assert figure1.limits([narrow, nothing]) == figure1.limits([narrow])
    assert figure1.limits([nothing]) == (0.0, 1.0)


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
    assert comparisons.significantly_best(tests, 0.05) is None
    assert comparisons.significantly_best(tests.assign(p_holm=0.04), 0.05) == "a"


def test_layers_are_one_holm_family(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(studies, "sign_flip_test", lambda differences, how: np.full(len(differences), 0.01))
    drops = pd.DataFrame({n: np.full(200, {8: 0.5, 9: 0.5, 1: 0.3}.get(n, 0.2)) for n in range(1, 13)})
    checks = studies.layer_checks(drops, HOW)
    assert {check.state for check in checks} == {"open"}
    assert all("p = 0.290" in check.text for check in checks)
