"""Text in pictures: where words stand, and with which fonts."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib.tables._g_l_y_f import Glyph
from matplotlib import font_manager, rc_context
from matplotlib.figure import Figure

from iba.display.highlight import Unit
from iba.display.paragraph import paragraph
from iba.own_text import fonts
from iba.own_text.fonts import fonts_for
from iba.own_text.words import cut

WIDE = 7.0


def seen(text: str, right: float = WIDE) -> list[list[str]]:
    """The words of every line, from left to right."""
    figure = Figure(figsize=(WIDE, 1))
    shown = cut(text, [], [])
    paragraph(figure, shown, [0.0] * len(shown), (0.0, 0.5), right)
    lines: dict[float, list[tuple[float, str]]] = {}
    for drawn in figure.texts:
        x, y = drawn.get_position()
        lines.setdefault(-y, []).append((x, drawn.get_text()))
    return [[word for _, word in sorted(words)] for _, words in sorted(lines.items())]


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("A fine film.\nYes", ["A fine film .", "Yes"]),
        ("He said אב, גד twice!", ["He said גד , אב twice !"]),
        ("אב Tom Hanks גד!", ["! גד Tom Hanks אב"]),
        ("(אב) 5\nגד הו", ["5 ) אב (", "הו גד"]),
    ],
)
def test_words_stand_in_reading_order(text: str, lines: list[str]) -> None:
    assert seen(text) == [line.split(" ") for line in lines]


def test_full_lines_end_and_right_to_left_text_begins_at_the_right() -> None:
    assert seen("aaaa bbbb cccc", 0.9) == [["aaaa", "bbbb"], ["cccc"]]
    assert seen("אאאא בבבב גגגג", 0.9) == [["בבבב", "אאאא"], ["גגגג"]]
    figure = Figure(figsize=(WIDE, 1))
    paragraph(figure, [Unit("אב", 1.0)], [1.0], (0.0, 0.5), WIDE)
    assert figure.texts[0].get_position()[0] > 0.95


@pytest.fixture
def no_cjk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Matplotlib's own fonts alone, none of which has Chinese; what was said is forgotten."""
    own = [entry for entry in font_manager.fontManager.ttflist if "mpl-data" in entry.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    fonts._say.cache_clear()


@pytest.mark.usefixtures("no_cjk")
def test_characters_without_a_font_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        families, boxes = fonts_for("a film 電影\U000e0067")
    assert "電\U000e0067影".translate(boxes) == "□□"
    assert len(families) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "no installed font has the character: 電影  Install a Noto font (Debian: fonts-noto-cjk" in said


@pytest.mark.usefixtures("no_cjk")
def test_an_installed_font_is_used_by_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "film"])
    builder.setupCharacterMap({ord("電"): "film"})
    builder.setupGlyf({".notdef": Glyph(), "film": Glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "film": (500, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "One Letter", "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, usWeightClass=400)
    builder.setupPost()
    builder.save(tmp_path / "one.ttf")
    font_manager.fontManager.addfont(tmp_path / "one.ttf")
    families, boxes = fonts_for("a film 電")
    assert (families[1:], boxes) == (["One Letter"], {})
    assert capsys.readouterr().err == ""
    with warnings.catch_warnings(), rc_context({"font.family": families}):
        warnings.simplefilter("error")
        figure = Figure()
        figure.text(0, 0, "a film 電")
        figure.savefig(tmp_path / "film.png")
