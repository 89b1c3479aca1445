"""Explanations as files: a picture, one HTML page, JSON, a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from iba.display.highlight import CSS, Unit, html_spans, printable, strengths
from iba.display.paragraph import SIZE, paragraph
from iba.display.templates import environment
from iba.own_text.explanation import Explanation
from iba.own_text.fonts import fonts_for
from iba.own_text.scores import MethodScores
from iba.own_text.show import legend, visible
from iba.store import atomic, write_json, write_parquet

UNITS = ("words", "pieces")
_MARGIN = 0.15  # inches


def save(found: Explanation, out: str | Path, unit: str = "words") -> list[Path]:
    """Write `out`.png, `out`.html and `out`.json, whichever of them `out` names; returns their paths."""
    paths = _paths(out, "png", "html", "json")
    with atomic(paths[0]) as temporary:
        picture(found, unit).savefig(temporary, dpi=160)
    with atomic(paths[1]) as temporary:
        temporary.write_text(page(found), encoding="utf-8")
    write_json(paths[2], asdict(found))
    return paths


def save_many(found: Sequence[Explanation], out: str | Path) -> list[Path]:
    """Write `out`.html, one page for all texts, and `out`.parquet (`table`), whichever of them `out` names;
    returns their paths."""
    paths = _paths(out, "html", "parquet")
    with atomic(paths[0]) as temporary:
        temporary.write_text(page(*found), encoding="utf-8")
    write_parquet(paths[1], table(found))
    return paths


def _paths(out: str | Path, *endings: str) -> list[Path]:
    stem = re.sub(rf"\.({'|'.join(endings)})$", "", str(out), flags=re.IGNORECASE)
    return [Path(f"{stem}.{ending}") for ending in endings]


def table(found: Sequence[Explanation]) -> pd.DataFrame:
    """A row per text and method: the text's fields (see `Explanation`) with the `probability` of `target`,
    and the method's (see `MethodScores`), its name as `method`, each of its details as a column."""
    rows = []
    for one in found:
        text = asdict(one) | {"probability": one.probabilities[one.target]}
        for method in text.pop("methods"):
            rows.append(text | {"method": method.pop("name")} | method.pop("details") | method)
    return pd.DataFrame(rows)


def page(*found: Explanation) -> str:
    """One self-contained HTML page: text after text, methods side by side, in words and in word pieces."""
    texts = [(one, [_column(one, m) for m in one.methods], html_spans(legend(one))) for one in found]
    template = environment("iba.own_text", autoescape=True).get_template("own_text.html.j2")
    return template.render(texts=texts, css=CSS, units=UNITS)


def _column(found: Explanation, method: MethodScores) -> dict[str, Any]:
    views = {unit: html_spans(visible(found, method, unit), method.unit) for unit in UNITS}
    return {"label": method.label, "unit": method.unit, "seconds": method.seconds, "views": views}


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
        y = write(legend(found), y - 0.28, 8.0)
        for method in found.methods:
            label = f"{method.label} ({method.unit})" if method.unit else method.label
            figure.text(_MARGIN / width, y - 0.36, label, size=8, color="#555555")
            y = write(visible(found, method, unit), y - 0.64)
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
