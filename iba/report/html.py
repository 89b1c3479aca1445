"""report.html: one self-contained page with tables, figures, verdicts and highlighted instances."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup, escape

from iba.display.highlight import CSS
from iba.display.templates import environment
from iba.report import examples
from iba.report.claims import matrix, rule, words
from iba.report.pairs import winners
from iba.report.stored import Stored
from iba.report.text import Grid, number, write_text


def markup(text: str) -> Markup:
    """Escaped text whose **bold** and `code` are elements."""
    bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    return Markup(re.sub(r"`(.+?)`", r"<code>\1</code>", bold))


def finding(stored: Stored) -> dict[str, str]:
    """By protocol: which method has a larger drop at 11 % than every other one, and where."""
    best, leads = winners(stored), {}
    for protocol in stored.protocols:
        where: dict[str, list[str]] = {}
        for dataset, title in stored.names.datasets.items():
            if (protocol, dataset) in best:
                leader = best[protocol, dataset]
                where.setdefault(stored.names.methods[leader] if leader else "none", []).append(title)
        leads[protocol] = "; ".join(f"{leader} on {', '.join(titles)}" for leader, titles in where.items())
    return leads


def write(
    stored: Stored, judged: pd.DataFrame, tables: Sequence[Grid], drawn: Sequence[tuple[Path, str]]
) -> Path:
    """Store `report.html`, opened by the first of `drawn` (PNG and caption) and of `tables`."""
    env = environment("iba.report", autoescape=True)
    env.filters |= {"markup": markup, "number": number}
    page = env.get_template("report.html.j2").render(
        run=stored.folder.name,
        model=stored.title,
        note=stored.note,
        protocols=stored.protocols,
        names=stored.names,
        finding=finding(stored),
        matrix=matrix(stored, judged),
        claims=[(name, words()["claims"][name], rows) for name, rows in judged.groupby("claim")],
        rule=rule(stored.how),
        tables=tables,
        figures=[(base64.b64encode(path.read_bytes()).decode(), said) for path, said in sorted(drawn)],
        highlight_css=CSS,
        examples=examples.load(stored),
    )
    return write_text(stored.folder / "report.html", page)
