"""Scores as coloured text: words or tokens with their scores, scores to strengths, both to HTML.

Orange speaks for the class, blue (with a dashed line below, so that colour is not the only sign) against
it. The colours keep a contrast of at least 4.5 to the text in the light and in the dark scheme at full
strength, for any mixture of both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import repeat

#: What the spans of `html_spans` need in the page, once.
CSS = """
.hl { --hl-for: 245 158 11; --hl-against: 86 170 232; line-height: 1.9; }
.hl span { padding: .1em .03em; border-radius: .2em; }
.hl .for { background: rgb(var(--hl-for) / var(--w)); }
.hl .against { background: rgb(var(--hl-against) / var(--w)); text-decoration: underline dashed 1px; }
.hl .special { opacity: .65; font-size: .85em; }
@media (prefers-color-scheme: dark) { .hl { --hl-for: 146 84 0; --hl-against: 22 92 150; } }
"""

#: The same two colours as red, green, blue in 0…255, for the terminal and for matplotlib.
FOR, AGAINST = (245, 158, 11), (86, 170, 232)

#: Below this share of the largest score a token is left plain.
FAINTEST = 0.04

#: What a terminal would obey and a page not show: control characters.
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Unit:
    """A piece of text with its score, None where no token is scored: special tokens, what a tokenizer drops.

    `joined`: it continues the word of the unit before it; `before`: the white space between them.
    """

    text: str
    score: float | None
    special: bool = False
    joined: bool = False
    before: str = " "


def units(tokens: Sequence[str], special: Sequence[bool]) -> list[Unit]:
    """Stored tokens, of which no place in a text is known, by the tokenizer's marks ("##", "Ġ", "▁")."""
    marked = any(t.startswith(("Ġ", "▁")) for t, s in zip(tokens, special, strict=True) if not s)
    found: list[Unit] = []
    for token, is_special in zip(tokens, special, strict=True):
        continues = not token.startswith(("Ġ", "▁")) if marked else token.startswith("##")
        joined = continues and not is_special and bool(found) and not found[-1].special
        text = token.removeprefix("##").lstrip("Ġ▁")
        found.append(Unit(text, None, is_special, joined, "" if joined else " "))
    return found


def printable(text: str) -> str:
    r"""The text with its control characters written out, such as "\x1b"; line ends as "\n"."""
    ended = text.replace("\r\n", "\n").replace("\r", "\n")
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), ended)


def strengths(shown: Sequence[Unit]) -> list[float]:
    """Scores over the largest absolute score: −1 … 1, 0 where there is none."""
    scores = [one.score or 0.0 for one in shown]
    largest = max(map(abs, scores), default=0.0) or 1.0
    return [score / largest for score in scores]


def html_spans(shown: Sequence[Unit], unit: str | None = None) -> str:
    """HTML of the units, to be put into an element of class "hl"; with a `unit` hovering shows the score."""
    return "".join(map(_span, shown, strengths(shown), repeat(unit))).strip()


def _span(one: Unit, strength: float, unit: str | None) -> str:
    side = "special" if one.special else "for" if strength > 0 else "against"
    attributes = "" if abs(strength) < FAINTEST and not one.special else f' class="{side}"'
    if abs(strength) >= FAINTEST:
        attributes += f' style="--w:{abs(strength):.2f}"'
    if one.score is not None and unit is not None:
        attributes += f' title="{f"{one.score:.3g} {unit}".strip()}"'
    return f"{printable(one.before)}<span{attributes}>{escape(printable(one.text))}</span>"
