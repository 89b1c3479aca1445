"""Tables, figures, verdicts and the page, drawn from small stored results whose numbers are known."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from fake_results import DROPS, configured, falling, write_attributions, write_cell, write_run
from matplotlib.figure import Figure

from iba.errors import UserError
from iba.evaluation.stats import Resampling
from iba.pipeline import report, reproduce
from iba.report import drawing, examples, figure1, html, terminal, text
from iba.report.claims import rule
from iba.report.claims.verdict import ALIKE
from iba.report.stored import Stored, load

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


def test_an_unknown_section_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"only\.0=tabels must be 'tables'"):
        report.run(configured(folder, "only=[tabels]", *SMALL))


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


def test_a_redraw_changes_nothing(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    report.run(configured(tmp_path / "copy", *SMALL))
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".csv", ".md", ".tex", ".html", ".png", ".pdf"}
    assert [p for p in files if (folder / p).read_bytes() != (tmp_path / "copy" / p).read_bytes()] == []


def test_every_table_says_what_the_run_is(folder: Path) -> None:
    """A quick run's numbers must not be taken for the paper's, whatever table they are met in."""
    note = str(configured(folder, *SMALL).note)
    for path in (folder / "bge_small").glob("*.md"):
        assert path.read_text().count(note) == 1, path.name


# --- verdicts -----------------------------------------------------------------------------------------


def test_the_page_states_the_rule_of_the_verdicts(stored: Stored, folder: Path) -> None:
    page = (folder / "bge_small" / "report.html").read_text()
    assert page.count("otherwise it is open") == 1
    assert f"below {ALIKE}, too small" in rule(stored.how)
    assert "p &lt; 0.05" in page


def test_a_run_of_another_name_keeps_its_verdicts_to_itself(tmp_path: Path) -> None:
    asked = tmp_path / "REPRODUCTION.md"
    for run, copied in (("mine", False), ("bge_small", True)):
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
