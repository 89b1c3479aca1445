"""Table 2: the data sets, with our rows and the paper's."""

from __future__ import annotations

import pandas as pd

from iba.report.rows import Stored
from iba.report.text import Grid, Table, number, share


def table(stored: Stored) -> pd.DataFrame:
    """One row per data set: rows attributed, scored and trained on, accuracy, length, label shares."""
    return pd.DataFrame([_row(stored, dataset) for dataset in stored.datasets]).astype({"paper_n": float})


def _row(stored: Stored, dataset: str) -> dict[str, object]:
    record = stored.classifiers[dataset]
    settings, measured = record["settings"], record["provenance"]
    return {
        "dataset": dataset,
        "n": settings["n"],
        "paper_n": stored.paper.test_rows.get(dataset),
        "n_accuracy": measured["n_accuracy"],
        "n_train": settings["recipe"]["n_train"],
        "accuracy": measured["accuracy"],
        "max_length": settings["max_length"],
        "truncated_share": measured["truncated_share"],
        "labels": "; ".join(f"{name} {value:.3f}" for name, value in measured["label_distribution"].items()),
    }


def grid(stored: Stored, rows: pd.DataFrame) -> Grid:
    """The table as text."""
    heads = [
        "data set",
        "n",
        "paper's n",
        "training rows",
        "accuracy",
        "accuracy on",
        "cut at",
        "cut",
        "labels",
    ]
    lines = [
        [
            stored.names.datasets[row["dataset"]],
            str(row["n"]),
            number(row["paper_n"], 0),
            str(row["n_train"]),
            share(row["accuracy"]),
            f"{row['n_accuracy']} rows",
            f"{row['max_length']} tokens",
            share(row["truncated_share"]),
            row["labels"],
        ]
        for _, row in rows.iterrows()
    ]
    notes = [f"{stored.names.datasets[d]}: {stored.notes[d]}" for d in stored.datasets if d in stored.notes]
    return Grid(f"Table 2. Data sets ({stored.title})", heads, lines, notes)


def report(stored: Stored) -> Table:
    """`table2.*`."""
    rows = table(stored)
    return Table("table2", rows, [grid(stored, rows)], "data")
