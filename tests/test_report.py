"""Tables, figures, verdicts and the page, drawn from small stored results whose numbers are known."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from fake_results import DROPS, configured, write_attributions, write_run

from iba import reproduce
from iba.errors import UserError
from iba.report import html, terminal, text
from iba.report import stage as report
from iba.report.claims import rule
from iba.report.claims.verdict import ALIKE
from iba.report.stored import Stored, load

SMALL = ("dataset=[imdb,agnews]", "protocol=[released,corrected]")


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
    stems = ("figure1", "figure1_probability", "methods")
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
    assert page.count("Otherwise it is open") == 1
    assert f"below {ALIKE}, too little" in rule(stored.how)
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
        monkeypatch.setattr(f"iba.reproduce.{stage}.run", lambda _: None)
    reproduce.run(configured(folder, *SMALL, "dataset=imdb"))
    assert "also holds agnews: nothing is redrawn" in capsys.readouterr().out


# --- the page -----------------------------------------------------------------------------------------


def test_the_page_is_self_contained_and_shows_the_instances(folder: Path) -> None:
    page = (folder / "bge_small" / "report.html").read_text()
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 3
    parts = "IBA on IMDB, AG News", "Figure 1.", "<h3>Table 1.", "Verdicts</h2>", "<h3>Claims of the paper"
    opens = [page.index(part) for part in parts]
    assert opens == sorted(opens), "the finding, Figure 1 and Table 1 before the verdicts"
    assert "(released, corrected)</h3>" in page, "the order of the marks in a cell"
    # Of every instance by every method; random scores are the same cell under both protocols.
    assert page.count("score 0.9, rank 1 of 5") == 5 * 20
    assert 'class="for removed"' in page
    assert '<span class="special">[CLS]</span>' in page
    assert "prefers-color-scheme: dark" in page


def test_the_page_is_well_formed(folder: Path) -> None:
    """Elements and headings nest, images are described, wide tables and figures scroll by themselves."""

    class Page(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.inside: list[tuple[str, str]] = []
            self.levels = [0]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            given = dict(attrs)
            if tag in ("table", "img"):
                assert self.inside[-1] == ("div", "scroll")
            if tag == "img":
                assert given["alt"]
            if re.fullmatch(r"h\d", tag):
                self.levels.append(int(tag[1]))
                assert self.levels[-1] <= self.levels[-2] + 1
            if tag not in ("meta", "img", "input"):
                self.inside.append((tag, given.get("class") or ""))

        def handle_endtag(self, tag: str) -> None:
            assert self.inside.pop()[0] == tag

    page = Page()
    page.feed((folder / "bge_small" / "report.html").read_text())
    assert not page.inside
    assert len(page.levels) > 6


def test_text_from_data_is_escaped() -> None:
    assert html.markup("<b> & **x** `y`") == "&lt;b&gt; &amp; <strong>x</strong> <code>y</code>"
