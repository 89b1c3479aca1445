"""Table 1: the drop of every data set, protocol and method, beside the paper's.

The paper prints |p̄(11 %) − o|. Here `drop_11` = o − p̄(11 %) keeps its sign: it is the paper's number wherever
the probability falls, and where it rises a reader must see that it rises.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from iba.report.frame import summarise
from iba.report.notes import dataset_notes, method_notes
from iba.report.pairs import winners
from iba.report.stored import CELL, Stored
from iba.report.tables import Grids, Spec
from iba.report.text import Grid, Write, crossed, estimate, listed, number, share, strong


def table1_rows(stored: Stored) -> pd.DataFrame:
    """One row per cell: protocol, dataset, method, n, drop_11 with its interval, the paper's, accuracy."""
    rows = summarise(stored.deletion, CELL, ["drop_11"], stored.how).drop(columns="measure")
    theirs = [stored.paper.drops.get((row.dataset, row.method), float("nan")) for row in rows.itertuples()]
    accuracy = [stored.classifiers[dataset]["provenance"]["accuracy"] for dataset in rows["dataset"]]
    rows = rows.assign(paper_drop_11=theirs, difference=rows["estimate"] - theirs, accuracy=accuracy)
    return rows.rename(columns={"estimate": "drop_11"})


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """All protocols side by side, then each with its distance from the paper."""
    how, records = stored.how, stored.records()
    notes = [
        f"Drop o − p̄(11 %) with its {how.percent} interval (percentile bootstrap over instances, "
        f"{how.n_resamples} resamples). The paper prints the absolute value; a minus sign here means that "
        "the probability rose.",
        "**Bold**: larger than every other method of the same data set and protocol by a paired sign-flip "
        f"permutation test, Holm-corrected, p < {1 - how.confidence:.2g}. All pairs, and those of the area "
        "over the curve (`measure`, a family of its own): `tests.csv`.",
        *dataset_notes(stored, records),
        *method_notes(stored, records),
    ]
    caption = f"Table 1. Drop of the target's probability after the top 11 % of tokens ({stored.title})"
    yield side_by_side(stored, rows, caption, notes)
    columns: dict[str, Write] = {
        f"ours [{how.percent} interval]": _bold_where_best(stored),
        "paper": lambda row: number(row.paper_drop_11),
        "ours − paper": lambda row: number(row.difference),
        "accuracy": lambda row: share(row.accuracy),
    }
    for protocol, cells in rows.groupby("protocol", observed=True):
        caption = f"Table 1, {stored.say('protocol', protocol)} (`{protocol}`)"
        yield listed(caption, stored.say, cells, ["dataset", "method", "n"], columns)


def side_by_side(stored: Stored, rows: pd.DataFrame, caption: str, notes: Sequence[str]) -> Grid:
    """Data set and method against the protocols, with the paper's number; winners in bold."""
    shown = rows.assign(paper=rows["paper_drop_11"].map(number))
    shown = shown.sort_values(["dataset", "method"], kind="stable")
    keys, drop = ["dataset", "method", "paper"], _bold_where_best(stored)
    return crossed(caption, stored.say, shown, keys, "protocol", drop, notes)


def _bold_where_best(stored: Stored) -> Write:
    best = winners(stored)
    return lambda row: strong(estimate(row, "drop_11"), best.get((row.protocol, row.dataset)) == row.method)


TABLE = Spec("table1", 10, table1_rows, grids, "drop", beside={"tests": lambda stored: stored.tests})
