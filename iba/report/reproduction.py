"""REPRODUCTION.md: the verdicts, and where text, code and this repository differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iba.display.templates import environment
from iba.report.claims import Judged, rule, single_checks, words
from iba.report.notes import calibration_rows, dataset_notes, untuned
from iba.report.stored import Stored
from iba.report.text import write_csv, write_text


def render(stored: Stored, claims: Sequence[Judged]) -> str:
    """The page as Markdown."""
    return (
        environment("iba.report", autoescape=False)
        .get_template("REPRODUCTION.md.j2")
        .render(
            run=stored.folder.name,
            model=stored.title,
            note=stored.note,
            protocols=stored.protocols,
            claims=claims,
            instances=dataset_notes(stored, stored.records()),
            outcomes=words()["outcomes"],
            rule=rule(stored.how),
            calibration_rows=calibration_rows(stored.records()),
            untuned=untuned(stored, stored.records()),
            confidence=stored.how.percent,
        )
    )


def write(stored: Stored, claims: Sequence[Judged], copy: Path | None) -> list[Path]:
    """Store the page and the single checks in the run's folder; the page also in `copy`, if asked for."""
    text = render(stored, claims)
    targets = [stored.folder / "REPRODUCTION.md", *([copy] if copy else [])]
    checks = write_csv(stored.folder / "checks.csv", single_checks(claims))
    return [checks, *(write_text(path, text) for path in targets)]
