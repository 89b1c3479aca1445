"""An explanation to look at: coloured lines in the terminal, a picture, one HTML page, and JSON."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text

from iba.cli import forgive_encoding
from iba.data.texts import OwnText, read_texts
from iba.errors import UserError
from iba.explain.explanation import Explanation, explain_all
from iba.explain.fonts import fonts_for
from iba.explain.highlight import AGAINST, CSS, FAINTEST, FOR, Unit, html_spans, printable, strengths
from iba.explain.paragraph import SIZE, paragraph
from iba.explain.scores import MethodScores
from iba.explain.words import cut
from iba.pipeline.store import atomic, write_json, write_parquet
from iba.report.reproduction import environment

UNITS = ("words", "pieces")
#: Scores named where there are no colours; characters without tokens from which on they are left out.
_N_TOP, _LONGEST_UNSEEN = 5, 60
_MARGIN = 0.15  # inches
_LITERAL = ("text", "text_pair", "texts", "target", "model_dir", "reference", "out")


def run(cfg: DictConfig) -> None:
    """Explain `text`, or all `texts` of a file, and write the files; one text is shown too, and so are many
    where no file is asked for."""
    if (cfg.text is None) == (cfg.texts is None) or OmegaConf.is_missing(cfg, "model_dir"):
        raise UserError(
            'give what to explain, text="…" or texts=FILE, and a classifier, model=FOLDER (or a hub id).'
        )
    reference = None if cfg.reference is None else read_texts(cfg.reference)
    found = explain_all(cfg, cfg.model_dir, _asked(cfg), reference)
    if cfg.texts is None or not cfg.out:
        for one in found:
            show(one, cfg.unit)
    if not cfg.out:
        return
    written = save(found[0], cfg.out, cfg.unit) if cfg.texts is None else save_many(found, cfg.out)
    cut = [one.row for one in found if one.truncated]
    if cfg.texts is not None and cut:
        print(f"{len(cut)} of {len(found)} texts were cut, the first in row {cut[0]} of {cfg.texts}")
    for path in written:
        print(path)


def _asked(cfg: DictConfig) -> list[OwnText]:
    if cfg.texts is None:
        return [OwnText.of(str(cfg.text), None if cfg.text_pair is None else str(cfg.text_pair), cfg.target)]
    if cfg.text_pair is not None:
        raise UserError(
            "text_pair goes with text; in a file, pairs have a tab between or a column text_pair."
        )
    return [
        text if text.target is not None else replace(text, target=cfg.target)
        for text in read_texts(cfg.texts)
    ]


def literal_arguments(arguments: Sequence[str]) -> list[str]:
    """Arguments with free text quoted for Hydra, whose grammar gives commas and quotes a meaning.

    `model=FOLDER` is taken as `model_dir=FOLDER`, and `method=iba,ig` as `method=[iba,ig]`.
    """
    found = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        name = "model_dir" if name == "model" else name
        if name == "method" and "," in value and not value.startswith("["):
            argument = f"method=[{value}]"
        if equals and name in _LITERAL and value and (value != "null" or name == "text"):
            # Only in front of a quote or an interpolation does a backslash count: there it is doubled.
            value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
            value = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value)
            argument = f"{name}='{value}'"
        found.append(argument)
    return found


def show(found: Explanation, unit: str = "words", console: Console | None = None) -> None:
    """Print class, probability and one coloured line per method; without colours each method's top scores."""
    console = console or Console(highlight=False)
    forgive_encoding(console.file)
    coloured = console.color_system in ("256", "truecolor") and not console.no_color
    chosen = "predicted" if found.target == found.predicted else f"asked for; predicted is {found.predicted}"
    chosen = printable(f"  {found.probabilities[found.target]:.3f}  ({chosen})")
    legend = _coloured(_legend(found, coloured))
    lines = [Text.assemble((printable(found.target), "bold"), chosen)]
    if not coloured:
        lines += [Text(printable(text)) for text in (found.text, found.text_pair) if text is not None]
    lines.append(legend if coloured else Text(legend.plain, style="dim"))
    width = max(len(m.label) for m in found.methods)
    for method in found.methods:
        shown = _shown(found, method, unit)
        said = _coloured(shown) if coloured else Text(_top(shown, _signed(found, method), method.unit))
        lines.append(Text.assemble((f"{method.label:>{width}}  ", "dim"), said))
    for line in [*lines, *(Text(printable(note), style="dim") for note in found.notes)]:
        console.print(line, soft_wrap=not console.is_terminal)


def _coloured(shown: Sequence[Unit]) -> Text:
    line = Text()
    for one, strength in zip(shown, strengths(shown), strict=True):
        line.append(printable(one.before) if line else "")
        line.append(printable(one.text), style=_terminal_style(one, strength))
    return line


def _top(shown: Sequence[Unit], signed: bool, unit: str) -> str:
    """The units with the largest scores, for eyes and files without colours."""
    largest = sorted((one for one in shown if one.score), key=lambda one: -abs(one.score or 0.0))[:_N_TOP]
    said = [f"{printable(one.text)} {one.score:{'+' * signed}.3g}" for one in largest]
    return "   ".join([*said, *([f"({unit})"] * bool(unit))]) if said else "every score is 0"


def save(found: Explanation, out: str | Path, unit: str = "words") -> list[Path]:
    """Write `out`.png, `out`.html and `out`.json, whichever of them `out` names; returns their paths."""
    paths = _files(out, "png", "html", "json")
    with atomic(paths[0]) as temporary:
        picture(found, unit).savefig(temporary, dpi=160)
    with atomic(paths[1]) as temporary:
        temporary.write_text(page(found), encoding="utf-8")
    write_json(paths[2], asdict(found))
    return paths


def save_many(found: Sequence[Explanation], out: str | Path) -> list[Path]:
    """Write `out`.html, one page for all texts, and `out`.parquet (`table`), whichever of them `out` names;
    returns their paths."""
    paths = _files(out, "html", "parquet")
    with atomic(paths[0]) as temporary:
        temporary.write_text(page(*found), encoding="utf-8")
    write_parquet(paths[1], table(found))
    return paths


def _files(out: str | Path, *endings: str) -> list[Path]:
    stem = re.sub(rf"\.({'|'.join(endings)})$", "", str(out), flags=re.IGNORECASE)
    return [Path(f"{stem}.{ending}") for ending in endings]


def table(found: Sequence[Explanation]) -> pd.DataFrame:
    """A row per text and method: the text's fields (see `Explanation`) with the `probability` of `target`,
    and the method's (see `MethodScores`), its name as `method`, each of its details as a column."""
    rows = []
    for one in found:
        text = {name: value for name, value in asdict(one).items() if name != "methods"}
        text["probability"] = one.probabilities[one.target]
        for method in one.methods:
            said = asdict(method)
            rows.append(text | {"method": said.pop("name")} | said.pop("details") | said)
    return pd.DataFrame(rows)


def page(*found: Explanation) -> str:
    """One self-contained HTML page: text after text, methods side by side, in words and in word pieces."""
    texts = [
        (one, [_column(one, method) for method in one.methods], html_spans(_legend(one, coloured=True)))
        for one in found
    ]
    template = environment(autoescape=True).get_template("own_text.html.j2")
    return template.render(texts=texts, css=CSS, units=UNITS)


def _column(found: Explanation, method: MethodScores) -> dict[str, Any]:
    return {
        "label": method.label,
        "unit": method.unit,
        "seconds": method.seconds,
        "views": {u: html_spans(_shown(found, method, u), method.unit) for u in UNITS},
    }


def picture(found: Explanation, unit: str = "words", width: float = 7.0) -> Figure:
    """A matplotlib figure `width` inches wide: class and probability, then a paragraph per method."""
    head = printable(f"{found.target}  {found.probabilities[found.target]:.3f}")
    families, boxes = fonts_for(head + found.text + (found.text_pair or ""))
    figure = Figure(figsize=(width, 1), facecolor="white")  # what does not fit stands below until `_crop`

    def write(shown: Sequence[Unit], y: float, size: float = SIZE) -> float:
        drawn = [replace(one, text=printable(one.text).translate(boxes)) for one in shown]
        return paragraph(figure, drawn, strengths(drawn), (_MARGIN, y), width - _MARGIN, size)

    with rc_context({"font.family": families}):
        y = 0.7
        figure.text(_MARGIN / width, y, head.translate(boxes), weight="bold", size=10, parse_math=False)
        y = write(_legend(found, coloured=True), y - 0.28, 8.0)
        for method in found.methods:
            label = f"{method.label} ({method.unit})" if method.unit else method.label
            figure.text(_MARGIN / width, y - 0.36, label, size=8, color="#555555")
            y = write(_shown(found, method, unit), y - 0.64)
    _crop(figure, y - _MARGIN)
    return figure


def _crop(figure: Figure, bottom: float) -> None:
    """Make the figure as high as what was drawn on it, from the top down to `bottom` (its own units)."""
    width, height = figure.get_size_inches()
    used = 1 - bottom
    for text in figure.texts:
        x, y = text.get_position()
        text.set_position((x, (y - bottom) / used))
    figure.set_size_inches(width, height * used)


def _signed(found: Explanation, method: MethodScores) -> bool:
    """Whether scores speak for and against: bits never do, nor scores of which none is below 0."""
    own = [score for score, special in zip(method.scores, found.special, strict=True) if not special]
    return method.unit != "bits" and min(own) < 0


def _legend(found: Explanation, coloured: bool) -> list[Unit]:
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


def _shown(found: Explanation, method: MethodScores, unit: str) -> list[Unit]:
    """Units for the eye: without the special tokens at both ends, the separator of a pair kept."""
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


def _terminal_style(one: Unit, strength: float) -> str:
    if one.special:
        return "dim"
    if abs(strength) < FAINTEST:
        return ""
    # Mixed with white and written in black, so that it reads on any terminal's background.
    red, green, blue = (round(255 + (c - 255) * abs(strength)) for c in (FOR if strength > 0 else AGAINST))
    return f"black on rgb({red},{green},{blue})"
