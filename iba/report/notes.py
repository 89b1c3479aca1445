"""The small print under tables and figures, taken from the stored records."""

from __future__ import annotations

from pathlib import Path

from iba.pipeline.store import read_json
from iba.report.rows import Stored
from iba.report.text import share
from iba.report.timed import span


def dataset_notes(stored: Stored) -> list[str]:
    """The precision, then a line per data set: rows, training rows, accuracy, truncation, its own note."""
    lines = _precision(stored)
    for dataset in stored.datasets:
        record = stored.classifiers[dataset]
        settings, measured = record["settings"], record["provenance"]
        line = (
            f"{stored.names.datasets[dataset]}: {settings['n']} instances attributed; classifier trained on "
            f"{settings['recipe']['n_train']} rows, accuracy {share(measured['accuracy'])} on "
            f"{measured['n_accuracy']} rows; {share(measured['truncated_share'])} of those texts cut at "
            f"{settings['max_length']} tokens."
        )
        lines.append(f"{line} {stored.notes[dataset]}" if dataset in stored.notes else line)
    return lines


def method_notes(stored: Stored) -> list[str]:
    """Which class was explained, the β that training data chose, and which cells share their scores."""
    targets = sorted({str(r["settings"].get("target")) for r in stored.cells.values()} - {"None"})
    lines = [f"Explained class: {' and '.join(targets)}."] if targets else []
    return [*lines, *chosen_betas(stored), *_shared_cells(stored)]


def chosen_betas(stored: Stored) -> list[str]:
    """The β that every method chose from its grid, by data set; a choice at an end of the grid is marked."""
    chosen: dict[tuple[str, str], list[str]] = {}
    for (protocol, dataset, method), record in stored.cells.items():
        learned = record.get("provenance", {}).get("learned", {})
        if "beta_grid" in learned and protocol in stored.protocols:
            grid = learned["beta_grid"]
            mark = "*" if learned["beta"] in (min(grid), max(grid)) else ""
            value = f"{stored.names.datasets[dataset]} {learned['beta']:g}{mark}"
            chosen.setdefault((protocol, method), []).append(value)
    if not chosen:
        return []
    by_method = "; ".join(
        f"{stored.names.methods[method]} (`{protocol}`): {', '.join(values)}"
        for (protocol, method), values in chosen.items()
    )
    return [
        f"β chosen from a grid by the largest mean drop at 11 %, Table 1's own measure, on "
        f"{calibration_rows(stored)} (* an end of the grid): {by_method}. Methods not named here, IG and "
        "LIME among them, have nothing tuned this way."
    ]


def calibration_rows(stored: Stored) -> str:
    """On how many held-out training rows the stored β were chosen, by the records."""
    learned = (record.get("provenance", {}).get("learned", {}) for record in stored.cells.values())
    counts = [
        int(values["n_calibration"]) for values in learned if {"beta", "n_calibration"} <= values.keys()
    ]
    return f"{span(counts)} held-out training rows" if counts else "held-out training rows"


def _precision(stored: Stored) -> list[str]:
    """In which precision the stored numbers were computed, by the records of the cells."""
    found = {str(record.get("settings", {}).get("precision")) for record in stored.cells.values()}
    for protocol, dataset, method in stored.cells:
        path = stored.folder / dataset / protocol / method / "degradation.json"
        found |= {str(read_json(path)["settings"].get("precision"))} if path.is_file() else set()
    known = sorted(found - {"None"})
    return [f"Attributions and probabilities computed in {' and '.join(known)}."] if known else []


def _shared_cells(stored: Stored) -> list[str]:
    # A record names the folder dataset/protocol/method that it took over, or (older ones) the protocol.
    shared: dict[str, list[str]] = {}
    for (protocol, dataset, method), record in stored.cells.items():
        if "same_as" in record:
            other = Path(record["same_as"]).parts[-2:][0]
            what = f"{stored.names.methods[method]} under `{protocol}` and `{other}`"
            shared.setdefault(what, []).append(stored.names.datasets[dataset])
    lines = [f"{what} ({', '.join(where)})" for what, where in sorted(shared.items())]
    return [f"Same settings, hence the same scores: {'; '.join(lines)}."] if lines else []
