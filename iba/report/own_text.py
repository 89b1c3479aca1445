"""An explanation to look at: coloured lines in the terminal, a picture, one HTML page, and JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text

from iba.data.texts import OwnText, read_texts
from iba.errors import UserError
from iba.explanation import Explanation, explain_all
from iba.report.highlight import AGAINST, CSS, FAINTEST, FOR, Unit, html_spans, strengths, units, words
from iba.report.paragraph import paragraph
from iba.report.reproduction import environment
from iba.scores import MethodScores
from iba.store import atomic, write_json, write_parquet

UNITS = ("words", "pieces")
_LITERAL = ("text", "text_pair", "texts", "target", "model_dir", "reference", "out")


def run(cfg: DictConfig) -> None:
    """Explain `text`, or all `texts` of a file, and write the files; one text is shown too, and so are many
    where no file is asked for."""
    if (cfg.text is None) == (cfg.texts is None) or OmegaConf.is_missing(cfg, "model_dir"):
        raise UserError(
            'give what to explain, text="…" or texts=FILE, and a classifier, model=FOLDER (or a hub id).'
        )
    if cfg.unit not in UNITS:
        raise UserError(f"unit={cfg.unit} is unknown; choose words or pieces.")
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
    """Print class, probability and one coloured line per method."""
    console = console or Console(highlight=False)
    chosen = "predicted" if found.target == found.predicted else f"asked for; predicted is {found.predicted}"
    console.print(
        Text.assemble((found.target, "bold"), f"  {found.probabilities[found.target]:.3f}  ({chosen})")
    )
    width = max(len(m.label) for m in found.methods)
    for method in found.methods:
        line = Text.assemble((f"{method.label:>{width}}  ", "dim"))
        shown = _shown(found, method, unit)
        for one, strength in zip(shown, strengths(shown), strict=True):
            line.append(" " if one.spaced else "")
            line.append(one.text, style=_terminal_style(one, strength))
        console.print(line)
    for note in found.notes:
        console.print(Text(note, style="dim"))


def save(found: Explanation, out: str | Path, unit: str = "words") -> list[Path]:
    """Write `out`.png, `out`.html and `out`.json; returns their paths."""
    paths = [Path(f"{out}{suffix}") for suffix in (".png", ".html", ".json")]
    with atomic(paths[0]) as temporary:
        picture(found, unit).savefig(temporary, dpi=160)
    with atomic(paths[1]) as temporary:
        temporary.write_text(page(found), encoding="utf-8")
    write_json(paths[2], asdict(found))
    return paths


def save_many(found: Sequence[Explanation], out: str | Path) -> list[Path]:
    """Write `out`.html, one page for all texts, and `out`.parquet (`table`); returns their paths."""
    paths = [Path(f"{out}{suffix}") for suffix in (".html", ".parquet")]
    with atomic(paths[0]) as temporary:
        temporary.write_text(page(*found), encoding="utf-8")
    write_parquet(paths[1], table(found))
    return paths


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
    texts = [(one, [_column(one, method) for method in one.methods]) for one in found]
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
    lines = 2 + sum(3 + len(found.text + (found.text_pair or "")) // 70 for _ in found.methods)
    figure = Figure(figsize=(width, 0.26 * lines), facecolor="white")
    inch_x, inch_y = 1 / width, 1 / (0.26 * lines)
    y = 1 - 0.3 * inch_y
    head = f"{found.target}  {found.probabilities[found.target]:.3f}"
    figure.text(0.15 * inch_x, y, head, weight="bold", size=10, va="baseline")
    for method in found.methods:
        y -= 0.36 * inch_y
        label = f"{method.label} ({method.unit} per token)" if method.unit else method.label
        figure.text(0.15 * inch_x, y, label, size=8, color="#555555", va="baseline")
        y -= 0.28 * inch_y
        shown = _shown(found, method, unit)
        y = paragraph(figure, shown, strengths(shown), (0.15, y / inch_y), width - 0.15) * inch_y
    bottom = y - 0.15 * inch_y
    _crop(figure, bottom)
    return figure


def _crop(figure: Figure, bottom: float) -> None:
    """Make the figure as high as what was drawn on it, from the top down to `bottom` (its own units)."""
    width, height = figure.get_size_inches()
    used = 1 - bottom
    for text in figure.texts:
        x, y = text.get_position()
        text.set_position((x, (y - bottom) / used))
    figure.set_size_inches(width, height * used)


def _shown(found: Explanation, method: MethodScores, unit: str) -> list[Unit]:
    """Units for the eye: without the special tokens at both ends, the separator of a pair kept."""
    pieces = units(found.tokens, method.scores, found.special, found.spaced)
    real = [i for i, p in enumerate(pieces) if not p.special]
    inner = pieces[real[0] : real[-1] + 1]
    return words(inner) if unit == "words" else inner


def _terminal_style(one: Unit, strength: float) -> str:
    if one.special:
        return "dim"
    if abs(strength) < FAINTEST:
        return ""
    # Mixed with white and written in black, so that it reads on any terminal's background.
    red, green, blue = (round(255 + (c - 255) * abs(strength)) for c in (FOR if strength > 0 else AGAINST))
    return f"black on rgb({red},{green},{blue})"
