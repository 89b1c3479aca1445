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

import numpy as np
from jaxtyping import Bool, Float
from tokenizers import decoders

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

#: Punctuation that stands close to the word before it, and to the one after it; what an apostrophe cuts off.
_CLOSES, _OPENS = frozenset(".,;:!?)]%'’"), frozenset("([$")
_CUT_OFF = ("s", "t", "m", "d", "re", "ve", "ll")
_BYTES = decoders.ByteLevel()
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


def units(tokens: Sequence[str], special: Bool[np.ndarray, " tokens"]) -> list[Unit]:
    """Stored tokens, of which no place in a text is known, by the tokenizer's marks ("##", "Ġ", "▁").

    "Ġ" belongs to tokenizers of bytes: their pieces become letters, a part of a letter "�". "##" says nothing
    of the spaces around punctuation: they are left out where English has none.
    """
    words = [token for token, is_special in zip(tokens, special.tolist(), strict=True) if not is_special]
    of_bytes = any(word.startswith("Ġ") for word in words)
    marked = of_bytes or any(word.startswith("▁") for word in words)
    found: list[Unit] = []
    for token, is_special in zip(tokens, special.tolist(), strict=True):
        continues = not token.startswith(("Ġ", "▁")) if marked else token.startswith("##")
        joined = continues and not is_special and bool(found) and not found[-1].special
        text = _BYTES.decode([token]).lstrip() if of_bytes else token.removeprefix("##").lstrip("▁")
        last = found[-1].text if found else ""
        close = text in _CLOSES or last in _OPENS or (last in ("'", "’") and text in _CUT_OFF)
        found.append(Unit(text, None, is_special, joined, "" if joined or (close and not marked) else " "))
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


def stretched(scores: Float[np.ndarray, " tokens"], special: Bool[np.ndarray, " tokens"]) -> list[float]:
    """Scores of one text scaled for the eye alone to −1 … 1, special tokens 0.

    Signed scores are divided by their largest size; scores without a negative one are stretched from
    their smallest (0) to their largest (1), as their order is all that the degradation test uses.
    """
    own = scores[~special]
    if not len(own):
        return [0.0] * len(scores)
    low, high = float(own.min()), float(own.max())
    scaled = scores / max(abs(low), high) if low < 0 else (scores - low) / max(high - low, 1e-12)
    found: list[float] = np.where(special, 0.0, np.clip(scaled, -1, 1)).tolist()
    return found


def html_spans(shown: Sequence[Unit], unit: str | None = None) -> str:
    """HTML of the units, to be put into an element of class "hl"; with a `unit` hovering shows the score."""
    titles = ["" if unit is None or one.score is None else f"{one.score:.3g} {unit}".strip() for one in shown]
    return spans(shown, strengths(shown), titles, [""] * len(shown))


def spans(
    shown: Sequence[Unit], strengths: Sequence[float], titles: Sequence[str], classes: Sequence[str]
) -> str:
    """The same with each unit's strength, what hovering shows of it, and a class of the page's own."""
    return "".join(map(_span, shown, strengths, titles, classes)).strip()


def _span(one: Unit, strength: float, title: str, own: str) -> str:
    faint = abs(strength) < FAINTEST
    side = "special" if one.special else "" if faint else "for" if strength > 0 else "against"
    given = {
        "class": f"{side} {own}".strip(),
        "style": "" if faint else f"--w:{abs(strength):.2f}",
        "title": escape(title),
    }
    attributes = "".join(f' {name}="{value}"' for name, value in given.items() if value)
    return f"{printable(one.before)}<span{attributes}>{escape(printable(one.text))}</span>"
