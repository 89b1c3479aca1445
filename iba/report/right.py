"""Table 1 where the classifier is right: on the texts whose explained class it predicts.

Where it predicts another class, the explained one has little left to lose and may gain by a removal. A mean
over all texts thus mixes two kinds of text, the more so the less accurate the classifier is.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pandas as pd

from iba.pipeline.store import read_parquet
from iba.report import comparisons, table1
from iba.report.rows import Stored
from iba.report.text import Grid, Table, interval, number, p_value

#: What the pairs of methods are compared by → what the table calls it.
_MEASURES = {"drop_11": "drop at 11 %", "area_over": "area over the curve"}
_WHICH = ["dataset", "instance_id"]


def cut(stored: Stored) -> Stored:
    """The same run on the texts alone whose explained class the classifier predicts."""
    predicted = pd.concat(
        read_parquet(stored.folder / name / "classifier.parquet", ["instance_id", "predicted"]).assign(
            dataset=name
        )
        for name in stored.datasets
    )
    explained = stored.curves[[*_WHICH, "target"]].drop_duplicates().merge(predicted, on=_WHICH)
    right = explained.loc[explained["target"] == explained["predicted"], _WHICH]
    return replace(stored, scores=stored.scores.merge(right), curves=stored.curves.merge(right))


def report(stored: Stored) -> Table:
    """`table1_right.*` and `tests_right.csv`; nothing where all texts are such, or none."""
    found = cut(stored)
    if len(found.curves) in (0, len(stored.curves)):
        return Table("table1_right", pd.DataFrame(), [], "right")
    tests = comparisons.all_pairs(found)
    rows = table1.table(found)
    shares = [f"{found.names.datasets[d]} {_count(found, d)} of {_count(stored, d)}" for d in found.datasets]
    caption = f"Table 1 on the texts that the classifier gets right ({stored.title})"
    notes = [
        f"Texts whose explained class is the predicted one: {', '.join(shares)}. Otherwise as Table 1.",
        "Below: differences between methods on these texts with their intervals and Holm-corrected p; all "
        "pairs: `tests_right.csv`.",
    ]
    grids = [
        table1.side_by_side(found, rows, table1.winners(found, tests), caption, notes),
        *(_pairs(found, tests[tests["measure"] == measure], title) for measure, title in _MEASURES.items()),
    ]
    return Table("table1_right", rows, grids, "right", {"tests_right": tests})


def _count(stored: Stored, dataset: str) -> int:
    return int(stored.scores.loc[stored.scores["dataset"] == dataset, "instance_id"].nunique())


def _pairs(found: Stored, tests: pd.DataFrame, measure: str) -> Grid:
    """The methods but random against each other, by one measure."""
    names = found.names
    lines = []
    for dataset in found.datasets:
        family = tests[tests["dataset"] == dataset]
        for first, second in combinations([m for m in found.methods if m != "random"], 2):
            rows = [
                comparisons.signed(family[family["protocol"] == p], first, second) for p in found.protocols
            ]
            title = f"{names.methods[first]} − {names.methods[second]}"
            lines.append([names.datasets[dataset], title, *map(_difference, rows)])
    heads = ["data set", "difference", *(names.protocols[p] for p in found.protocols)]
    return Grid(f"Differences on these texts, {measure}", heads, lines)


def _difference(row: pd.Series | None) -> str:
    if row is None:
        return "–"
    ends = interval(row["ci_low"], row["ci_high"])
    return f"{number(row['difference'])} {ends}, {p_value(row['p_holm'])}"
