"""A text cut into words or pieces where its tokens stand; put together again, the units are the text.

Words come from the text alone, by one rule for every tokenizer: letters, digits and marks, also across a
single apostrophe or hyphen ("isn't", "state-of-the-art") or a point, comma or colon between digits ("3.5").
Punctuation stands apart, a repeated mark as one word ("..."). Scripts written without spaces (Chinese,
Japanese, Thai, …) have no such borders: there every character is a word, or what one token covers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import regex

from iba.data.examples import Span
from iba.display.highlight import Unit

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]"
_LETTERS = rf"[[\w\p{{M}}\p{{Cf}}]--{_UNSPACED}]+"
_WORD = regex.compile(
    rf"(?V1){_LETTERS}(?:(?:['’‐‑-]|(?<=\d)[.,:](?=\d)){_LETTERS})*|(?P<mark>\p{{P}})(?P=mark)*|(?=\S)\X"
)
_GRAPHEME = regex.compile(r"\X")


def cut(text: str, spans: Sequence[Span], scores: Sequence[float], pieces: bool = False) -> list[Unit]:
    """Words of `text`, or with `pieces` its tokens; `before` and `text` of all units, joined, are `text`.

    `spans` are the tokens' character offsets. What one token or one grapheme covers stays in one unit: so
    do the bytes of a character and a token that spans words. A unit's score is the sum over the tokens that
    begin in it; one of white space alone counts for what follows. No token: the score is None.
    """
    visible = [_visible(text, *span) for span in spans]
    borders = {found.end() for found in _WORD.finditer(text)}
    borders |= {place for span in visible for place in span} if pieces else set()
    unbroken = [*visible, *(found.span() for found in _GRAPHEME.finditer(text))]
    borders -= {place for start, end in unbroken for place in range(start + 1, end)}
    ends = sorted({place for place in borders if place and not text[place - 1].isspace()} | {len(text)})
    totals: list[float | None] = [None] * len(ends)
    last = len(ends) - 1 - text[-1:].isspace()
    for (start, _), score in zip(visible, scores, strict=True):
        owner = min(bisect_right(ends, start), last)
        totals[owner] = (totals[owner] or 0.0) + score
    return [_unit(text[a:b], total) for a, b, total in zip([0, *ends], ends, totals, strict=False)]


def _visible(text: str, start: int, end: int) -> Span:
    """The span without white space at its ends; where nothing is left, the place of what follows."""
    while start < len(text) and text[start].isspace():
        start += 1
    return start, start + len(text[start:end].rstrip())


def _unit(written: str, score: float | None) -> Unit:
    text = written.lstrip()
    return Unit(text, score, before=written[: len(written) - len(text)])
