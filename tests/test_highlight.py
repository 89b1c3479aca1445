"""Word pieces, words and their colours."""

from __future__ import annotations

import re

import pytest

from iba.report.highlight import AGAINST, CSS, FOR, html_spans, strengths, units, words

WORDPIECES = ["[CLS]", "un", "##believ", "##able", "film", "[SEP]"]
SPECIAL = [True, False, False, False, False, True]


def test_words_sum_the_scores_of_their_pieces() -> None:
    merged = words(units(WORDPIECES, [9.0, 1.0, 2.0, -0.5, 4.0, 9.0], SPECIAL))
    assert [u.text for u in merged] == ["[CLS]", "unbelievable", "film", "[SEP]"]
    assert [u.score for u in merged] == [9.0, 2.5, 4.0, 9.0]


def test_byte_pair_marks_start_words() -> None:
    merged = words(
        units(["<s>", "A", "Ġfi", "lm", "</s>"], [0.0, 1.0, 2.0, 3.0, 0.0], [True, False, False, False, True])
    )
    assert [(u.text, u.score) for u in merged] == [("<s>", 0), ("A", 1), ("film", 5), ("</s>", 0)]


def test_strengths_ignore_special_tokens() -> None:
    assert strengths(units(WORDPIECES, [9.0, 1.0, -2.0, 0.0, 0.5, 9.0], SPECIAL)) == [0, 0.5, -1, 0, 0.25, 0]
    assert strengths(units(["a"], [0.0], [False])) == [0.0]


def test_html_escapes_and_keeps_the_text() -> None:
    html = html_spans(units(["<b>", "&", "ok"], [1.0, -1.0, 0.0], [False] * 3), "bits")
    assert re.sub("<[^>]+>", "", html) == "&lt;b&gt; &amp; ok"
    assert 'class="for" style="--w:1.00" title="1 bits"' in html
    assert 'class="against" style="--w:1.00"' in html


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
