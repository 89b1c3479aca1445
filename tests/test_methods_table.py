"""The table and the figure of all methods, drawn from small stored results whose numbers are known."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from fake_results import (
    ROOT,
    configured,
    falling,
    ids,
    write_attributions,
    write_cell,
    write_classifier,
    write_run,
)
from hydra import compose, initialize_config_dir

from iba.evaluation.stats import Resampling
from iba.pipeline.experiment import selected
from iba.report import methods_figure
from iba.report import stage as report
from iba.report.stored import OTHER, load
from iba.report.tables import methods
from iba.report.tables.methods import Compared, compare_methods

SETS = ("imdb", "planted")
ASKED = ("dataset=[imdb,planted]", "protocol=[described,corrected]")
#: Drops at 11 % of the related methods; those of `write_run` are 0.30, 0.20, 0.15 and 0.05.
RELATED = {"occlusion": 0.45, "globenc": 0.10, "attention_flow": 0.12}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four methods under two protocols; three related ones under `corrected`, one of them on 12 of 20."""
    root = tmp_path_factory.mktemp("methods")
    run = write_run(root, datasets=SETS, protocols=("described", "corrected"))
    for number, (method, drop) in enumerate(RELATED.items(), 10):
        for dataset in SETS:
            curves = falling(20, drop, number)
            if (dataset, method) == ("imdb", "attention_flow"):
                curves = curves[:12]
            write_cell(run, dataset, "corrected", method, curves, seconds=0.0125)
    for method in ("iba", "random", "occlusion"):
        write_attributions(run, "planted", "corrected", method, 20, planted=True)
    report.run(configured(root, *ASKED))
    return root


@pytest.fixture(scope="module")
def rows(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "bge_small" / "methods.csv").set_index(["dataset", "method", "measure"])


@pytest.fixture(scope="module")
def compared(folder: Path) -> Compared:
    return compare(folder, *ASKED)


def compare(root: Path, *overrides: str) -> Compared:
    return compare_methods(load(configured(root, *overrides)))


def grid_of(compared: Compared, dataset: str) -> dict[str, dict[str, str]]:
    """The table of one data set: method → column → cell."""
    title = compared.stored.say("dataset", dataset)
    grid = next(g for g in methods.grids(compared) if f" on {title} " in g.caption)
    return {row[0]: dict(zip(grid.heads, row, strict=True)) for row in grid.rows}


def test_sets_with_evidence_stand_beside_the_selected_ones(folder: Path, compared: Compared) -> None:
    asked = ("dataset=imdb", "protocol=[described,corrected]")
    beside = compare(folder, *asked)
    assert beside.datasets == ["imdb", "planted"] == compared.datasets
    imdb = beside.cells("imdb", "drop_11")["estimate"]
    assert beside.mean_drops().to_dict() == pytest.approx(imdb.to_dict()), "no part in the mean"
    assert compared.mean_drops().to_dict() != pytest.approx(imdb.to_dict())
    pd.testing.assert_frame_equal(
        beside.cells("planted", "planted_recall"), compared.cells("planted", "planted_recall")
    )


# --- which methods ------------------------------------------------------------------------------------


def test_all_selects_every_method() -> None:
    files = {path.stem for path in (ROOT / "configs" / "method").glob("*.yaml")} - {"all"}
    files -= {"iba_rule", "ig_50", "lime_1000"}  # a method that is there already, by other settings
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("config", overrides=["preset=cpu", "method=all"])
        usual = compose("config", overrides=["preset=cpu"])
    assert set(selected(cfg.method)) == set(selected(usual.known)) == files
    assert list(selected(usual.method)) == ["iba", "ig", "lime", "random"]


def test_every_method_has_a_family_and_a_colour_of_its_own(compared: Compared) -> None:
    known = compared.stored.known
    assert {method.family for method in known.values()} == set(methods.FAMILIES)
    assert len({method.colour for method in known.values()}) == len(known)


def test_within_a_family_grey_tells_the_methods_apart(compared: Compared) -> None:
    """The marker tells the family; within it the lightness of two colours differs by a tenth or more."""

    def lightness(colour: str) -> float:
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
        return 1.16 * linear ** (1 / 3) - 0.16

    for family in methods.FAMILIES:
        members = [method for method in compared.stored.known.values() if method.family == family]
        greys = sorted(lightness(method.colour) for method in members)
        assert np.diff(greys).min() > 0.09, family


# --- numbers ------------------------------------------------------------------------------------------


def test_the_means_are_those_of_the_known_drops(rows: pd.DataFrame) -> None:
    for method, drop in (RELATED | {"iba": 0.30, "random": 0.05}).items():
        row = rows.loc[("planted", method, "drop_11")]
        assert row["estimate"] == pytest.approx(drop, abs=1e-5)
        assert row["ci_low"] < drop < row["ci_high"]
        assert row["n"] == 20
        assert row["protocol"] == "corrected"


def test_the_other_measures_by_hand(folder: Path, rows: pd.DataFrame) -> None:
    """IBA on the planted set falls from 0.9 to 0.6 at the first step, then in a line to 0.1 at the tenth."""
    curve = np.array([0.9, *np.linspace(0.6, 0.1, 9)])
    steps = np.linspace(0, 1, 10)
    area = sum((0.9 - (a + b) / 2) / 9 for a, b in pairwise(curve))
    removed = np.mean([0.9 - np.interp(share, steps, curve) for share in (0.01, 0.05, 0.1, 0.2, 0.5)])
    kept = np.mean([0.9 - np.interp(1 - share, steps, curve) for share in (0.01, 0.05, 0.1, 0.2, 0.5)])
    for measure, expected in (("area_over", area), ("comprehensiveness", removed), ("sufficiency", kept)):
        assert rows.loc[("planted", "iba", measure), "estimate"] == pytest.approx(expected, abs=1e-5)


def test_recall_and_seconds_come_from_the_stored_records(rows: pd.DataFrame) -> None:
    found = rows.xs("planted_recall", level="measure")["estimate"]
    assert found.to_dict() == {
        ("planted", "iba"): 1.0,
        ("planted", "occlusion"): 1.0,
        ("planted", "random"): 0.0,
    }
    timed = rows.loc[("planted", "occlusion", "seconds_per_instance")]
    assert (timed["estimate"], timed["device"]) == (0.0125, "test")
    assert np.isnan(timed["ci_low"])


# --- the same instances -------------------------------------------------------------------------------


def test_all_methods_of_a_data_set_are_cut_to_the_smallest_sample(folder: Path, rows: pd.DataFrame) -> None:
    drops = rows.xs("drop_11", level="measure")
    assert (drops.loc["imdb", "n"] == 12).all()
    assert (drops.loc["planted", "n"] == 20).all()
    by_hand = 0.9 - falling(20, 0.30)[:12, 1].mean()
    assert drops.loc[("imdb", "iba"), "estimate"] == pytest.approx(by_hand, abs=1e-5)


def test_the_small_sample_is_said_where_it_matters(folder: Path) -> None:
    text = (folder / "bge_small" / "methods.md").read_text()
    said = [line for line in text.splitlines() if "instances that they share" in line]
    assert len(said) == 1
    assert "the 12 instances that they share: Attention flow † ran on no more, others on up to 20" in said[0]


def test_table1_does_not_notice_the_related_methods(folder: Path) -> None:
    rows = pd.read_csv(folder / "bge_small" / "table1.csv")
    assert set(rows["method"]) == {"iba", "ig", "lime", "random"}
    assert (rows["n"] == 20).all()


def test_samples_that_do_not_nest_are_cut_to_what_they_share(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    names = [*ids(12)[8:], *(f"j{name}" for name in ids(12))]
    write_cell(run, "imdb", "corrected", "occlusion", falling(16, 0.4), names=names)
    assert (compare(tmp_path, "dataset=imdb").cells("imdb", "drop_11")["n"] == 4).all()


def test_nothing_to_compare_is_no_table(compared: Compared) -> None:
    nothing = compare_methods(replace(compared.stored, methods_protocol="released"))
    assert (nothing.datasets, len(nothing.rows)) == ([], 0)
    assert methods.TABLE.make(nothing.stored).grids == []
    assert list(methods_figure.pictures(nothing)) == []


def test_sets_with_evidence_alone_have_no_figure(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",), drops={"iba": 0.3})
    write_classifier(run, "planted", 20)
    write_cell(run, "planted", "corrected", "iba", falling(20, 0.3))
    asked = ("dataset=imdb", "protocol=[described,corrected]")
    found = compare(tmp_path, *asked)
    assert found.datasets == ["planted"]
    assert list(methods_figure.pictures(found)) == []


# --- what is printed ----------------------------------------------------------------------------------


def test_the_dagger_marks_what_explains_no_class(compared: Compared) -> None:
    assert compared.label("globenc") == "GlobEnc †"
    assert compared.label("occlusion") == "Occlusion"
    blind = {name for name, method in compared.stored.known.items() if not method.explains_class}
    assert blind == {
        "attention_flow",
        "attention_rollout",
        "globenc",
        "hidden_norm",
        "iba_readout",
        "information_flow_routes",
        "random",
        "update_norm",
    }
    assert any(note.startswith("† explains no class") for note in methods.notes(compared))


def test_a_table_is_sorted_by_drop_and_its_winner_is_bold(compared: Compared) -> None:
    table = grid_of(compared, "planted")
    assert list(table) == [
        "Occlusion", "IBA", "IG", "LIME", "Attention flow †", "GlobEnc †", "Random †"
    ]  # fmt: skip
    cells = [row["drop at 11 % ↑"] for row in table.values()]
    assert re.fullmatch(r"\*\*0\.450\*\* \[0\.4\d\d, 0\.4\d\d\]", cells[0])
    assert not any("**" in cell for cell in cells[1:])
    assert table["Occlusion"]["s per instance ↓"] == "0.013"
    assert table["Occlusion"]["planted evidence ↑"] == "1.000"
    assert table["GlobEnc †"]["planted evidence ↑"] == "–"


def test_a_winner_that_chance_could_have_made_is_not_bold(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    write_cell(run, "imdb", "corrected", "occlusion", falling(20, 0.301, seed=9))
    alike = compare(tmp_path, "dataset=imdb")
    assert next(iter(grid_of(alike, "imdb"))) == "Occlusion"
    assert not any("**" in cell for grid in methods.grids(alike) for row in grid.rows for cell in row)


def test_the_overview_has_a_mean_only_where_all_were_run(folder: Path, compared: Compared) -> None:
    overview = {row[0]: row for row in next(methods.grids(compared)).rows}
    assert overview["IBA"][-1] == f"{float(compared.mean_drops()['iba']):.3f}"
    rows = compared.whole.rows
    without = ~((rows["method"] == "ig") & (rows["dataset"] != "imdb")).to_numpy()
    partial = replace(compared, whole=compared.whole.where(without))
    cells = {row[0]: row for row in next(methods.grids(partial)).rows}["IG"]
    assert cells[-2:] == ["–", "–"]


def test_many_methods_can_still_be_told_apart_after_the_correction(compared: Compared) -> None:
    """7 methods make 21 pairs: the smallest corrected p-value of 100 permutations would be 21 × 2/101."""
    few = replace(compared.stored, how=Resampling(0.95, 100, 3))
    assert compare_methods(few).tests["p_holm"].min() < 0.05


@pytest.mark.parametrize(("value", "text"), [(0.0004, "< 0.001"), (0.0125, "0.013"), (12.3, "12")])
def test_seconds_have_two_digits(value: float, text: str) -> None:
    assert methods._text(SimpleNamespace(measure=methods.SECONDS, estimate=value)) == text


def test_the_page_has_the_tables_folded(folder: Path) -> None:
    page = (folder / "bge_small" / "report.html").read_text()
    assert "All methods: drop of the target" in page
    assert "All methods on planted evidence" in page


def test_latex_knows_every_sign(folder: Path) -> None:
    tex = (folder / "bge_small" / "methods.tex").read_text()
    assert "GlobEnc $\\dagger$" in tex
    assert not re.search("[†×↑↓]", tex)


# --- the figure ---------------------------------------------------------------------------------------


def test_the_figure_groups_by_family_and_sorts_by_the_mean_drop(compared: Compared) -> None:
    assert methods_figure.order(compared) == {
        "bottleneck": ["iba"],
        "gradient": ["ig"],
        "attention": ["attention_flow", "globenc"],
        "perturbation": ["occlusion", "lime"],
        "control": ["random"],
    }
    figure = methods_figure.draw(compared)
    axes = figure.axes
    assert [a.get_title() for a in axes] == ["IMDB\nn = 12", "planted evidence\nn = 20"]
    labels = [tick.get_text() for tick in axes[0].get_yticklabels()]
    assert {"GlobEnc †", "Occlusion", "attention", "control"} <= set(labels)
    assert axes[0].get_xlim() == axes[1].get_xlim()


def test_a_method_of_no_family_comes_last(compared: Compared) -> None:
    known = compared.stored.known
    plain = replace(compared.stored, known=known | {"ig": replace(known["ig"], family=OTHER)})
    changed = replace(compared, stored=plain)
    assert list(methods_figure.order(changed))[-1] == OTHER
    methods_figure.draw(changed)


def test_a_redraw_gives_the_same_files(folder: Path) -> None:
    run = folder / "bge_small"
    names = ("methods.csv", "methods.md", "methods.tex", "figures/methods.png", "figures/methods.pdf")
    before = [(run / name).read_bytes() for name in names]
    report.run(configured(folder, *ASKED, "only=[methods]"))
    assert before == [(run / name).read_bytes() for name in names]
