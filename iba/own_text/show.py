"""An explanation for the eye: its units of text, what their colours mean, coloured lines in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from rich.console import Console
from rich.text import Text

from iba.display.highlight import AGAINST, FAINTEST, FOR, Unit, printable, strengths
from iba.own_text.explanation import Explanation
from iba.own_text.scores import MethodScores
from iba.own_text.words import cut
from iba.progress import forgive_encoding

#: Scores named where there are no colours; characters without tokens from which on they are left out.
_N_TOP, _LONGEST_UNSEEN = 5, 60


def show(found: Explanation, unit: str = "words", console: Console | None = None) -> None:
    """Print class, probability and one coloured line per method; without colours each method's top scores."""
    console = console or Console(highlight=False)
    forgive_encoding(console.file)
    coloured = console.color_system in ("256", "truecolor") and not console.no_color
    for line in [*_head(found, coloured), *_said(found, unit, coloured), *map(_dim, found.notes)]:
        console.print(line, soft_wrap=not console.is_terminal)


def _head(found: Explanation, coloured: bool) -> Iterator[Text]:
    """The class, the text where no coloured line shows it, and what colours or signs mean."""
    chosen = "predicted" if found.target == found.predicted else f"asked for; predicted is {found.predicted}"
    chosen = printable(f"  {found.probabilities[found.target]:.3f}  ({chosen})")
    yield Text.assemble((printable(found.target), "bold"), chosen)
    if coloured:
        yield _coloured(legend(found))
    else:
        yield from (Text(printable(text)) for text in (found.text, found.text_pair) if text is not None)
        yield _dim(_coloured(legend(found, coloured=False)).plain)


def _said(found: Explanation, unit: str, coloured: bool) -> Iterator[Text]:
    """A line per method."""
    width = max(len(method.label) for method in found.methods)
    for method in found.methods:
        shown = visible(found, method, unit)
        said = _coloured(shown) if coloured else Text(_top(shown, _signed(found, method), method.unit))
        yield Text.assemble((f"{method.label:>{width}}  ", "dim"), said)


def _dim(text: str) -> Text:
    return Text(printable(text), style="dim")


def _coloured(shown: Sequence[Unit]) -> Text:
    line = Text()
    for one, strength in zip(shown, strengths(shown), strict=True):
        line.append(printable(one.before) if line else "")
        line.append(printable(one.text), style=_style(one, strength))
    return line


def _style(one: Unit, strength: float) -> str:
    if one.special:
        return "dim"
    if abs(strength) < FAINTEST:
        return ""
    # Mixed with white and written in black, so that it reads on any terminal's background.
    red, green, blue = (round(255 + (c - 255) * abs(strength)) for c in (FOR if strength > 0 else AGAINST))
    return f"black on rgb({red},{green},{blue})"


def _top(shown: Sequence[Unit], signed: bool, unit: str) -> str:
    """The units with the largest scores, for eyes and files without colours."""
    largest = sorted((one for one in shown if one.score), key=lambda one: -abs(one.score or 0.0))[:_N_TOP]
    said = [f"{printable(one.text)} {one.score:{'+' * signed}.3g}" for one in largest]
    return "   ".join([*said, *([f"({unit})"] * bool(unit))]) if said else "every score is 0"


def _signed(found: Explanation, method: MethodScores) -> bool:
    """Whether scores speak for and against: bits never do, nor scores of which none is below 0."""
    own = [score for score, special in zip(method.scores, found.special, strict=True) if not special]
    return method.unit != "bits" and min(own) < 0


def legend(found: Explanation, coloured: bool = True) -> list[Unit]:
    """What the colours mean, each in its own; without colours, what the signs mean."""
    more, less = ("orange", "blue") if coloured else ("+", "-")
    unsigned = [m.label for m in found.methods if not _signed(found, m)]
    shown = [Unit(f"{more}: for {found.target}", 1.0), Unit(f"{less}: against it", -1.0, before="   ")]
    if len(unsigned) == len(found.methods):
        shown = [Unit(f"{more}: how much", 1.0)] if coloured else []
    note = f"{', '.join(unsigned)}: no score below 0; how much, not for or against" if unsigned else ""
    return shown + [
        Unit(word, None, special=True, before=" " if i else "   ") for i, word in enumerate(note.split())
    ]


def visible(found: Explanation, method: MethodScores, unit: str) -> list[Unit]:
    """The text as `unit` ("words" or "pieces") with the method's scores: without the special tokens at both
    ends, the separator of a pair kept."""
    own = [i for i, part in enumerate(found.sequence) if part is not None]
    shown: list[Unit] = []
    for part, text in enumerate((found.text, found.text_pair)):
        if text is not None:
            mine = [i for i in own if found.sequence[i] == part and not found.special[i]]
            spans, scores = [found.offsets[i] for i in mine], [method.scores[i] for i in mine]
            first, *others = _shortened(cut(text, spans, scores, unit == "pieces"))
            between = [
                found.tokens[i] for i in range(own[0], min(mine, default=0)) if found.sequence[i] is None
            ]
            shown += [Unit(token, None, special=True) for token in between]
            shown += [replace(first, before=f" {first.before}"), *others]
    return shown


def _shortened(shown: Sequence[Unit]) -> Iterator[Unit]:
    """An ellipsis for each long stretch without tokens: what was cut off."""
    for unseen, members in groupby(shown, key=lambda one: one.score is None):
        run = list(members)
        long = sum(len(one.before + one.text) for one in run) > _LONGEST_UNSEEN
        yield from [Unit("…", None, special=True, before=run[0].before)] if unseen and long else run
