"""Table 2: the data sets, with rows attributed, scored and trained on, accuracy, length, label shares."""

from __future__ import annotations

import pandas as pd

from iba.report.stored import Stored
from iba.report.tables import Grids, Spec
from iba.report.text import listed, number, share


def table2_rows(stored: Stored) -> pd.DataFrame:
    """One row per data set, n: the texts of Table 1."""
    rows, seen = [], stored.table1.rows.groupby("dataset", observed=True)["instance_id"].nunique()
    for name in stored.datasets:
        settings, measured = (stored.classifiers[name][part] for part in ("settings", "provenance"))
        row = {
            "dataset": name,
            "n": seen[name],
            "paper_n": float(stored.paper.test_rows.get(name, "nan")),
            "n_accuracy": measured["n_accuracy"],
            "n_train": settings["recipe"]["n_train"],
            "accuracy": measured["accuracy"],
            "max_length": settings["max_length"],
            "truncated_share": measured["truncated_share"],
            "labels": "; ".join(f"{n} {value:.3f}" for n, value in measured["label_distribution"].items()),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """A line per data set."""
    columns = {
        "paper's n": lambda row: number(row.paper_n, 0),
        "training rows": lambda row: str(row.n_train),
        "accuracy": lambda row: share(row.accuracy),
        "accuracy on": lambda row: f"{row.n_accuracy} rows",
        "cut at": lambda row: f"{row.max_length} tokens",
        "cut": lambda row: share(row.truncated_share),
        "labels": lambda row: row.labels,
    }
    notes = [f"{stored.say('dataset', d)}: {stored.notes[d]}" for d in stored.datasets if d in stored.notes]
    yield listed(f"Table 2. Data sets ({stored.title})", stored.say, rows, ["dataset", "n"], columns, notes)


TABLE = Spec("table2", 40, table2_rows, grids, "data")
