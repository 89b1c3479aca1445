"""report.html: one self-contained page with tables, figures, verdicts and highlighted instances."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from markupsafe import Markup, escape

from iba.display.highlight import CSS
from iba.display.templates import environment
from iba.report import examples
from iba.report.claims import Judged
from iba.report.claims.verdict import OUTCOMES, rule
from iba.report.stored import Stored
from iba.report.text import Grid, number, write_text

_MARKUP = re.compile(r"\*\*(.+?)\*\*|`(.+?)`")


def markup(text: str) -> Markup:
    """Escaped text whose **bold** and `code` are elements."""
    element = lambda m: f"<strong>{m[1]}</strong>" if m[1] else f"<code>{m[2]}</code>"
    return Markup(_MARKUP.sub(element, str(escape(text))))


def write(
    stored: Stored,
    claims: Sequence[Judged],
    tables: Sequence[Grid],
    drawn: Mapping[Path, str],
    n_examples: int,
) -> Path:
    """Store `report.html`: the first of `tables` and of `drawn` (PNG → caption) open it.

    A picture without a caption is a part of another one and is left out.
    """
    env = environment("iba.report", autoescape=True)
    env.filters |= {"markup": markup, "number": number}
    shown = examples.load(stored, n_examples)
    page = env.get_template("report.html.j2").render(
        run=stored.folder.name,
        model=stored.title,
        note=stored.note,
        protocols=stored.protocols,
        names=stored.names,
        claims=claims,
        outcomes=OUTCOMES,
        rule=rule(stored.how),
        tables=tables,
        figures=[(_base64(path), caption) for path, caption in drawn.items() if caption],
        highlight_css=CSS,
        examples=[(name, list(group)) for name, group in groupby(shown, lambda one: one.dataset)],
    )
    return write_text(stored.folder / "report.html", page)


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
