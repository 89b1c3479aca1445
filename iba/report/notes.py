"""The small print under tables and figures, taken from the stored records."""

from __future__ import annotations

from pathlib import Path

from iba.report.rows import Stored
from iba.report.text import share


def dataset_notes(stored: Stored) -> list[str]:
    """One line per data set: rows, training rows, accuracy, truncation, and what its configuration adds."""
    lines = [stored.notes[""]] if "" in stored.notes else []
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
    by_method = "; ".join(
        f"{stored.names.methods[method]} (`{protocol}`): {', '.join(values)}"
        for (protocol, method), values in chosen.items()
    )
    return [f"β chosen on held-out training rows (* an end of the grid): {by_method}."] if chosen else []


def _shared_cells(stored: Stored) -> list[str]:
    # A record names the folder dataset/protocol/method that it took over, or (older ones) the protocol.
    shared = {
        f"{stored.names.methods[method]} under `{protocol}` and `{Path(record['same_as']).parts[-2:][0]}`"
        for (protocol, _, method), record in stored.cells.items()
        if "same_as" in record
    }
    return [f"Same settings, hence the same scores: {', '.join(sorted(shared))}."] if shared else []
