"""report.html: one self-contained page with verdicts, tables, figures and highlighted instances."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from markupsafe import Markup, escape

from iba.explain.highlight import CSS
from iba.report import examples
from iba.report.captions import caption
from iba.report.claims import Judged
from iba.report.claims.verdict import OUTCOMES, rule
from iba.report.reproduction import environment
from iba.report.rows import Stored
from iba.report.text import Grid, number, write_text

_MARKUP = re.compile(r"\*\*(.+?)\*\*|`(.+?)`")


def markup(text: str) -> Markup:
    """Escaped text whose **bold** and `code` are elements."""
    return Markup(
        _MARKUP.sub(
            lambda m: f"<strong>{m[1]}</strong>" if m[1] else f"<code>{m[2]}</code>", str(escape(text))
        )
    )


def figures(stored: Stored, drawn: Sequence[Path]) -> list[dict[str, str]]:
    """The PNG of `drawn` as base64; a figure drawn per protocol as well is shown once, combined."""
    paths = sorted(path for path in drawn if path.suffix == ".png")
    whole = [p for p in paths if not p.stem.endswith(tuple(f"_{name}" for name in stored.names.protocols))]
    return [
        {
            "data": base64.b64encode(path.read_bytes()).decode(),
            "caption": caption(stored, path.stem),
        }
        for path in whole
    ]


def render(stored: Stored, claims: Sequence[Judged], tables: Sequence[Grid], drawn: Sequence[Path]) -> str:
    """The page as HTML; the first of `tables` is shown open, the others folded."""
    env = environment(autoescape=True)
    env.filters |= {"markup": markup, "number": number}
    shown = examples.load(stored)
    return env.get_template("report.html.j2").render(
        run=stored.folder.name,
        model=stored.title,
        note=stored.note,
        protocols=stored.protocols,
        protocol_titles=stored.names.protocols,
        dataset_titles=stored.names.datasets,
        method_titles=stored.names.methods,
        claims=claims,
        outcomes=OUTCOMES,
        rule=rule(stored.how),
        tables=tables,
        figures=figures(stored, drawn),
        highlight_css=CSS,
        examples=[(name, list(group)) for name, group in groupby(shown, lambda e: e.dataset)],
    )


def write(stored: Stored, claims: Sequence[Judged], tables: Sequence[Grid], drawn: Sequence[Path]) -> Path:
    """Store `report.html` with the figures that were `drawn` from the same rows."""
    return write_text(stored.folder / "report.html", render(stored, claims, tables, drawn))
