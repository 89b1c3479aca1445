"""Table 1 on the texts whose explained class the classifier predicts.

Where it predicts another class, the explained one has little left to lose and may gain by a removal. A mean
over all texts thus mixes two kinds of text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import pandas as pd

from iba.evaluation.measures import MEASURES
from iba.report.stored import TESTED, Stored
from iba.report.tables import Spec
from iba.report.tables.table1 import side_by_side, table1_rows
from iba.report.text import Grid, crossed, tested


@cache
def right_texts(stored: Stored) -> Stored:
    """The run with these texts alone; with none where all texts are such."""
    right = stored.frame.rows["right"].astype(bool)
    some_wrong = not right[stored.table1.rows.index].all()
    return replace(stored, frame=stored.frame.where(right.to_numpy() & some_wrong))


def grids(stored: Stored, rows: pd.DataFrame) -> Iterator[Grid]:
    """As Table 1, then the differences between the methods but random."""
    found = right_texts(stored)
    shares = [f"{found.names.datasets[d]} {_count(found, d)} of {_count(stored, d)}" for d in found.datasets]
    notes = [
        f"Texts whose explained class is the predicted one: {', '.join(shares)}. Otherwise as Table 1.",
        "Below: differences between methods on these texts with their intervals and Holm-corrected p; all "
        "pairs: `tests_right.csv`.",
    ]
    caption = f"Table 1 on the texts that the classifier gets right ({stored.title})"
    yield side_by_side(found, rows, caption, notes)
    tests = found.tests[(found.tests["first"] != "random") & (found.tests["second"] != "random")]
    first, second = (tests[side].map(stored.names.methods) for side in ("first", "second"))
    protocol = pd.Categorical(tests["protocol"], found.protocols)
    tests = tests.assign(contrast=first + " − " + second, protocol=protocol)
    for measure in TESTED:
        shown = tests[tests["measure"] == measure]
        what = f"Differences on these texts, {MEASURES[measure].label}"
        yield crossed(what, stored.say, shown, ["dataset", "contrast"], "protocol", tested)


def _count(stored: Stored, dataset: str) -> int:
    return int(stored.table1.of(dataset=dataset).rows["instance_id"].nunique())


TABLE = Spec(
    "table1_right",
    20,
    lambda stored: table1_rows(right_texts(stored)),
    grids,
    "right",
    beside={"tests_right": lambda stored: right_texts(stored).tests},
)
