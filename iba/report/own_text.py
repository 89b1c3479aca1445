"""An explanation to look at: coloured lines in the terminal, a picture, one HTML page, and JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.text import Text

from iba.errors import UserError
from iba.explanation import Explanation, MethodScores, explain_with, open_classifier
from iba.report.highlight import AGAINST, CSS, FAINTEST, FOR, Unit, html_spans, strengths, units, words
from iba.report.paragraph import paragraph
from iba.report.reproduction import environment
from iba.store import atomic, write_json

UNITS = ("words", "pieces")
_LITERAL = ("text", "text_pair", "target", "model_dir", "reference", "out")


def run(cfg: DictConfig) -> None:
    """Explain `text`, show it, and write the files."""
    if OmegaConf.is_missing(cfg, "text") or OmegaConf.is_missing(cfg, "model_dir"):
        raise UserError(
            'give what to explain and by which classifier: text="…" model_dir=FOLDER (or a hub id).'
        )
    reference = None if cfg.reference is None else read_reference(Path(cfg.reference))
    classifier = open_classifier(cfg, cfg.model_dir)
    pair = None if cfg.text_pair is None else str(cfg.text_pair)
    found = explain_with(
        cfg, classifier, Path(cfg.model_dir).name, str(cfg.text), pair, cfg.target, reference
    )
    show(found, cfg.unit)
    if cfg.out:
        for path in save(found, cfg.out, cfg.unit):
            print(path)


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


def read_reference(path: Path) -> list[tuple[str, str | None]]:
    """Texts, one a line; a tab parts the two texts of a pair."""
    if not path.is_file():
        raise UserError(f"no file {path}; reference must be a text file with one text a line.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    rows = []
    for line in lines:
        if line.strip():
            first, tab, second = line.partition("\t")
            rows.append((first, second if tab else None))
    return rows


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


def page(found: Explanation) -> str:
    """One self-contained HTML page: methods side by side, in words and in word pieces."""
    columns = [
        {
            "label": m.label,
            "unit": m.unit,
            "seconds": m.seconds,
            "views": {u: html_spans(_shown(found, m, u), m.unit) for u in UNITS},
        }
        for m in found.methods
    ]
    template = environment(autoescape=True).get_template("own_text.html.j2")
    return template.render(found=found, columns=columns, css=CSS, units=UNITS)


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
