"""Planted evidence: how much of the evidence that was put into generated text each method finds."""

from __future__ import annotations

import pandas as pd

from iba.report.rows import Stored
from iba.report.text import Grid, Table, interval, number


def table(stored: Stored) -> pd.DataFrame | None:
    """The stored recalls of the run; None where no planted set was attributed."""
    path = stored.folder / "planted.csv"
    if not path.is_file():
        return None
    rows = pd.read_csv(path).astype(dict.fromkeys(("recall", "ci_low", "ci_high", "chance"), float))
    return rows[rows["dataset"].isin(stored.datasets) & rows["protocol"].isin(stored.protocols)]


def grid(stored: Stored, rows: pd.DataFrame) -> Grid:
    """Data set and method against the protocols."""
    lines = []
    for dataset in stored.datasets:
        for method in stored.methods:
            cells = rows[(rows["dataset"] == dataset) & (rows["method"] == method)]
            by_protocol = {row.protocol: row for row in cells.itertuples()}
            if not by_protocol:
                continue
            values = [
                f"{number(by_protocol[p].recall)} {interval(by_protocol[p].ci_low, by_protocol[p].ci_high)}"
                if p in by_protocol
                else "–"
                for p in stored.protocols
            ]
            first = cells.iloc[0]
            lines.append(
                [
                    stored.names.datasets[dataset],
                    stored.names.methods[method],
                    str(first["n"]),
                    *values,
                    number(first["chance"]),
                ]
            )
    heads = ["data set", "method", "n", *(stored.names.protocols[p] for p in stored.protocols), "chance"]
    notes = (
        "Share of an instance's k evidence tokens among its k tokens with the largest scores, mean over "
        "instances with its interval. Chance: what a random ranking reaches on average.",
    )
    return Grid("Planted evidence found", heads, lines, notes)


def report(stored: Stored) -> Table:
    """`planted.*`; nothing where no planted set was attributed."""
    rows = table(stored)
    there = rows is not None and not rows.empty
    return Table("planted", None, [grid(stored, rows)] if there else [], "planted")
