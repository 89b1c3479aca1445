"""REPRODUCTION.md: the verdicts, and where text, code and this repository differ."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from iba.display.templates import environment
from iba.report.claims import matrix, rule, words
from iba.report.notes import calibration_rows, dataset_notes, untuned
from iba.report.stored import Stored
from iba.report.text import markdown, write_csv, write_text


def render(stored: Stored, judged: pd.DataFrame) -> str:
    """The page as Markdown."""
    return (
        environment("iba.report", autoescape=False)
        .get_template("REPRODUCTION.md.j2")
        .render(
            run=stored.folder.name,
            model=stored.title,
            note=stored.note,
            matrix=markdown(matrix(stored, judged)),
            claims=words()["claims"],
            turned=judged[judged["check"].str.contains("the other way")].to_dict("records"),
            datasets=stored.names.datasets,
            instances=dataset_notes(stored, stored.records()),
            rule=rule(stored.how),
            calibration_rows=calibration_rows(stored.records()),
            untuned=untuned(stored, stored.records()),
            confidence=stored.how.percent,
        )
    )


def write(stored: Stored, judged: pd.DataFrame, copy: Path | None) -> list[Path]:
    """Store the page and the single checks in the run's folder; the page also in `copy`, if asked for."""
    text = render(stored, judged)
    targets = [stored.folder / "REPRODUCTION.md", *([copy] if copy else [])]
    return [write_csv(stored.folder / "checks.csv", judged), *(write_text(path, text) for path in targets)]
