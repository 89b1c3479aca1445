"""Tokens and scores as coloured text: word pieces to words, scores to strengths, both to HTML.

Orange speaks for the class, blue (with a dashed line below, so that colour is not the only sign) against
it. The colours keep a contrast of at least 4.5 to the text in the light and in the dark scheme at full
strength, for any mixture of both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

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


@dataclass(frozen=True)
class Unit:
    """A piece of text with its score.

    `joined`: it continues the word of the unit before it; `spaced`: a space stands before it.
    """

    text: str
    score: float
    special: bool = False
    joined: bool = False
    spaced: bool = True


def units(
    tokens: Sequence[str],
    scores: Sequence[float],
    special: Sequence[bool],
    spaced: Sequence[bool] | None = None,
) -> list[Unit]:
    """Word pieces as units: the tokenizer's marks ("##", "Ġ", "▁") become `joined`.

    `spaced` tells where the text has spaces; by default before every piece that is not joined.
    """
    marked = any(t.startswith(("Ġ", "▁")) for t, s in zip(tokens, special, strict=True) if not s)
    found: list[Unit] = []
    for i, (token, score, is_special) in enumerate(zip(tokens, scores, special, strict=True)):
        continues = not token.startswith(("Ġ", "▁")) if marked else token.startswith("##")
        joined = continues and not is_special and bool(found) and not found[-1].special
        space = not joined if spaced is None else spaced[i]
        found.append(Unit(token.removeprefix("##").lstrip("Ġ▁"), float(score), is_special, joined, space))
    return found


def words(pieces: Sequence[Unit]) -> list[Unit]:
    """Whole words: joined pieces as one unit whose score is their sum."""
    found: list[Unit] = []
    for piece in pieces:
        if piece.joined and found:
            last = found[-1]
            found[-1] = replace(last, text=last.text + piece.text, score=last.score + piece.score)
        else:
            found.append(piece)
    return found


def strengths(shown: Sequence[Unit]) -> list[float]:
    """Scores over the largest absolute score of a token that is not special: −1 … 1, 0 for special tokens."""
    largest = max((abs(u.score) for u in shown if not u.special), default=0.0)
    return [0.0 if u.special or largest == 0 else u.score / largest for u in shown]


def html_spans(shown: Sequence[Unit], unit: str = "") -> str:
    """HTML of the units, to be put into an element of class "hl"; hovering shows the score and its `unit`."""
    html = []
    for one, strength in zip(shown, strengths(shown), strict=True):
        space = " " if one.spaced else ""
        text = escape(one.text)
        if one.special:
            html.append(f'{space}<span class="special">{text}</span>')
        elif abs(strength) < FAINTEST:
            html.append(f'{space}<span title="{one.score:.3g} {escape(unit)}">{text}</span>')
        else:
            side = "for" if strength > 0 else "against"
            html.append(
                f'{space}<span class="{side}" style="--w:{abs(strength):.2f}" '
                f'title="{one.score:.3g} {escape(unit)}">{text}</span>'
            )
    return "".join(html).strip()
