"""report.html: one self-contained page with tables, figures, verdicts and highlighted instances."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from iba.display.highlight import CSS, spans, stretched, units
from iba.display.templates import environment
from iba.pipeline.views import View
from iba.report.claims import matrix, rule, words
from iba.report.pairs import winners
from iba.report.stored import CELL, Stored
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
        examples=examples(stored),
    )
    return write_text(stored.folder / "report.html", page)


def examples(stored: Stored) -> dict[str, list[dict[str, Any]]]:
    """By data set the instances whose tokens are stored; empty without any.

    `seen`: by protocol and method the instance's prob_start, drop_11 and coloured html.
    """
    tables = [
        scores[scores["tokens"].notna()].assign(protocol=protocol, dataset=dataset, method=method)
        for dataset, protocol, method in product(stored.datasets, stored.protocols, stored.methods)
        if (cell := stored.cells.get(View(stored.seed, None, None, protocol, dataset, method)))
        if (scores := cell.scores()) is not None
    ]
    if not tables:
        return {}
    measures = stored.deletion.rows[[*CELL, "instance_id", "prob_start", "drop_11"]]
    rows = pd.concat(tables).merge(measures.astype(dict.fromkeys(CELL, str)))
    rows["html"] = [_html(stored, row) for row in rows.itertuples()]
    found: dict[str, list[dict[str, Any]]] = {}
    for (dataset, _), seen in rows.groupby(["dataset", "instance_id"], sort=False):
        first, labels = seen.iloc[0], stored.classifiers[dataset]["provenance"]["labels"]
        names = {name: labels[int(first[name])] for name in ("target", "label")}
        pieces = units(list(first["tokens"]), np.asarray(first["special"], np.bool_))
        preview = "".join(one.before + one.text for one in pieces if not one.special).strip()[:110]
        shown = {"preview": preview, "seen": [*seen.itertuples()]}
        found.setdefault(dataset, []).append(names | shown)
    return found


def _html(stored: Stored, row: Any) -> str:
    """The tokens: stronger colour, larger score; a line below what the first step of the test removes."""
    scores, special = np.asarray(row.scores, np.float64), np.asarray(row.special, np.bool_)
    first_step = int(np.rint(stored.frame.fractions[1] * len(scores)))
    titles, classes = [""] * len(scores), [""] * len(scores)
    for rank, place in enumerate(row.order):
        titles[place] = f"score {scores[place]:.4g}, rank {rank + 1} of {len(row.order)}"
        classes[place] = "removed" * (rank < first_step)
    return spans(units(list(row.tokens), special), stretched(scores, special), titles, classes)
