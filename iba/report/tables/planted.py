"""Planted evidence: how much of what is known to decide the class every method finds."""

from __future__ import annotations

import pandas as pd

from iba.report.frame import DELETE, summarise
from iba.report.stored import CELL, Stored
from iba.report.tables import Grids, Spec, kept, ordered
from iba.report.text import crossed, estimate, number


def planted_rows(stored: Stored) -> pd.DataFrame:
    """The recall of known evidence by every method that was run, and what a random ranking would reach."""
    frame = stored.of_methods(stored.known, stored.names.datasets | stored.evident).of(operator=DELETE)
    wide = summarise(frame, CELL, ["planted_recall", "planted_chance"], stored.how)
    chance = wide[wide["measure"] == "planted_chance"].set_index(CELL)["estimate"].rename("chance")
    rows = wide[wide["measure"] == "planted_recall"].join(chance, CELL).drop(columns="measure")
    found = kept(stored.folder / "planted.csv", rows.rename(columns={"estimate": "recall"}), CELL)
    return found.astype(dict.fromkeys(CELL, str)).sort_values(CELL, kind="stable", ignore_index=True)


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """Of the selected sets and methods alone."""
    order = {"dataset": stored.datasets, "method": stored.methods, "protocol": stored.protocols}
    shown = ordered(rows.assign(estimate=rows["recall"], chance=rows["chance"].map(number)), order)
    note = (
        "Share of an instance's k evidence tokens among its k tokens with the largest scores, mean over "
        "instances with its interval. Chance: what a random ranking reaches on average."
    )
    keys = ["dataset", "method", "n", "chance"]
    if len(shown):
        yield crossed("Planted evidence found", stored.say, shown, keys, "protocol", estimate, [note])


TABLE = Spec("planted", 30, planted_rows, grids)
