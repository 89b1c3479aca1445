"""The small print under tables and figures, taken from the stored records."""

from __future__ import annotations

from collections.abc import Mapping

from iba.pipeline.views import View
from iba.report.stored import Record, Stored
from iba.report.text import share, span

#: By protocol, data set and method.
Records = Mapping[tuple[str, str, str], Record]


def dataset_notes(stored: Stored, records: Records) -> list[str]:
    """The precision, then a line per data set: rows, training rows, accuracy, truncation, its own note."""
    lines = [*_precision(records), *_numerics(stored, records)]
    for dataset in dict.fromkeys(dataset for _, dataset, _ in records):
        record = stored.classifiers[dataset]
        settings, measured = record["settings"], record["provenance"]
        line = (
            f"{stored.label(dataset)}: {settings['n']} instances attributed; classifier trained on "
            f"{settings['recipe']['n_train']} rows, accuracy {share(measured['accuracy'])} on "
            f"{measured['n_accuracy']} rows; {share(measured['truncated_share'])} of those texts cut at "
            f"{settings['max_length']} tokens."
        )
        lines.append(f"{line} {stored.notes[dataset]}" if dataset in stored.notes else line)
    return lines


def method_notes(stored: Stored, records: Records) -> list[str]:
    """Which class was explained, the β that training data chose, and which cells share their scores."""
    targets = sorted({str(record["settings"].get("target")) for record in records.values()} - {"None"})
    lines = [f"Explained class: {' and '.join(targets)}."] if targets else []
    return [*lines, *chosen_betas(stored, records), *_shared_cells(stored, records)]


def chosen_betas(stored: Stored, records: Records) -> list[str]:
    """The β that every method chose from its grid, by data set; a choice at an end of the grid is marked."""
    chosen: dict[tuple[str, str], list[str]] = {}
    for (protocol, dataset, method), record in records.items():
        learned = record.get("provenance", {}).get("learned", {})
        if "beta_grid" in learned:
            grid = learned["beta_grid"]
            mark = "*" if learned["beta"] in (min(grid), max(grid)) else ""
            value = f"{stored.label(dataset)} {learned['beta']:g}{mark}"
            chosen.setdefault((protocol, method), []).append(value)
    if not chosen:
        return []
    by_method = "; ".join(
        f"{stored.known[method].label} (`{protocol}`): {', '.join(values)}"
        for (protocol, method), values in chosen.items()
    )
    return [
        f"β chosen from a grid by the largest mean drop at 11 %, Table 1's own measure, on "
        f"{calibration_rows(records)} (* an end of the grid): {by_method}. Methods not named here, IG and "
        "LIME among them, have nothing tuned this way."
    ]


def calibration_rows(records: Records) -> str:
    """On how many held-out training rows the stored β were chosen, by the records."""
    learned = (record.get("provenance", {}).get("learned", {}) for record in records.values())
    counts = [
        int(values["n_calibration"]) for values in learned if {"beta", "n_calibration"} <= values.keys()
    ]
    return f"{span(counts)} held-out training rows" if counts else "held-out training rows"


def _precision(records: Records) -> list[str]:
    """In which precision the stored numbers were computed."""
    known = sorted(
        {str(record.get("settings", {}).get("precision")) for record in records.values()} - {"None"}
    )
    return [f"Attributions and probabilities computed in {' and '.join(known)}."] if known else []


def _numerics(stored: Stored, records: Records) -> list[str]:
    """Which cells another version of the numerics made than the newest one here; scores may differ."""
    versions = {key: record.get("settings", {}).get("numerics") for key, record in records.items()}
    newest = max((version for version in versions.values() if version is not None), default=None)
    older: dict[str, list[str]] = {}
    for (protocol, dataset, method), version in versions.items():
        if version != newest:
            what = f"{stored.known[method].label} (`{protocol}`)"
            older.setdefault(what, []).append(stored.label(dataset))
    if not older:
        return []
    cells = "; ".join(f"{what}: {', '.join(where)}" for what, where in older.items())
    return [
        f"Made by an older version of the numerics than the rest, so not compared like for like: {cells}."
    ]


def _shared_cells(stored: Stored, records: Records) -> list[str]:
    """The cells that are one and the same under two protocols."""
    first: dict[str, str] = {}
    shared: dict[str, list[str]] = {}
    for protocol, dataset, method in records:
        cell = stored.cells[View(stored.seed, None, None, protocol, dataset, method)].cell
        other = first.setdefault(cell, protocol)
        if other != protocol:
            what = f"{stored.known[method].label} under `{protocol}` and `{other}`"
            shared.setdefault(what, []).append(stored.label(dataset))
    lines = [f"{what} ({', '.join(where)})" for what, where in sorted(shared.items())]
    return [f"Same settings, hence the same scores: {'; '.join(lines)}."] if lines else []
