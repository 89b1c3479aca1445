"""Word pieces, words and their colours."""

from __future__ import annotations

import re

import numpy as np
import pytest

from iba.display.highlight import AGAINST, CSS, FOR, Unit, html_spans, printable, strengths, stretched, units


@pytest.mark.parametrize(
    "tokens",
    [
        ["[CLS]", "a", "un", "##believ", "##able", "film", "[SEP]"],
        ["<s>", "a", "Ġun", "believ", "able", "Ġfilm", "</s>"],
        ["<s>", "▁a", "▁un", "believ", "able", "▁film", "</s>"],
    ],
)
def test_marks_of_stored_tokens_become_spaces(tokens: list[str]) -> None:
    shown = units(tokens, np.array([True, *[False] * 5, True]))
    assert "".join(one.before + one.text for one in shown[1:-1]) == " a unbelievable film"
    assert [one.joined for one in shown] == [False, False, False, True, True, False, False]


def test_pieces_of_bytes_become_letters() -> None:
    shown = units(["<s>", "caf", "Ã©", "Ġnoir", "ĠðŁĺ", "Ģ"], np.array([True, *[False] * 5]))
    assert "".join(one.before + one.text for one in shown[1:4]) == " café noir"
    assert [one.text for one in shown[4:]] == ["�", "�"]


def test_strengths_are_shares_of_the_largest_score() -> None:
    shown = [Unit("[CLS]", None, special=True), Unit("a", 1.0), Unit("b", -2.0), Unit("c", 0.5)]
    assert strengths(shown) == [0, 0.5, -1, 0.25]
    assert strengths([Unit("a", 0.0)]) == [0.0]


def test_scores_are_stretched_for_the_eye() -> None:
    special = np.array([True, False, False, False])
    np.testing.assert_allclose(stretched(np.array([9.0, 1.0, -2.0, 0.0]), special), [0, 0.5, -1, 0])
    np.testing.assert_allclose(stretched(np.array([9.0, 1.0, 3.0, 2.0]), special), [0, 0, 1, 0.5])


def test_punctuation_of_stored_pieces_stands_as_in_english() -> None:
    words = "it isn ' t ( so ) good , the films ' end . well - done"
    tokens = ["[CLS]", *re.findall(r"\S+", words), "[SEP]"]
    shown = units(tokens, np.array([token.startswith("[") for token in tokens]))
    assert "".join(one.before + one.text for one in shown[1:-1]) == (
        " it isn't (so) good, the films' end. well - done"
    )


def test_html_escapes_and_keeps_the_text() -> None:
    shown = [Unit("<b>", 1.0), Unit("&", -1.0), Unit("\x1b", 0.0), Unit("ok", None, before="\n")]
    html = html_spans(shown, "bits")
    assert re.sub("<[^>]+>", "", html) == "&lt;b&gt; &amp; \\x1b\nok"
    assert 'class="for" style="--w:1.00" title="1 bits"' in html
    assert 'class="against" style="--w:1.00"' in html
    assert "<span>ok</span>" in html


def test_control_characters_are_written_out() -> None:
    assert printable("a\x1b[31m\x00\x7f\x9b\ta\r\nb\rc é😀") == "a\\x1b[31m\\x00\\x7f\\x9b\ta\nb\nc é😀"


def luminance(rgb: tuple[float, ...]) -> float:
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def colours(scheme: str) -> list[tuple[float, ...]]:
    found = re.findall(r"--hl-(?:for|against): (\d+) (\d+) (\d+)", CSS)
    chosen = found[:2] if scheme == "light" else found[2:]
    return [tuple(map(float, c)) for c in chosen]


@pytest.mark.parametrize(("scheme", "text", "paper"), [("light", 0x1A, 255), ("dark", 0xEC, 0x16)])
def test_contrast_is_at_least_four_and_a_half(scheme: str, text: int, paper: int) -> None:
    """WCAG 2's ratio for text of the page over the colour at any strength."""
    for colour in colours(scheme):
        for strength in (0.0, 0.25, 0.5, 0.75, 1.0):
            mixed = tuple(paper + (c - paper) * strength for c in colour)
            high, low = sorted((luminance((text,) * 3), luminance(mixed)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5


def test_terminal_and_page_share_their_colours() -> None:
    assert colours("light") == [FOR, AGAINST]
