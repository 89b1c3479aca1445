"""Table 1 on the texts whose explained class the classifier predicts.

Where it predicts another class, the explained one has little left to lose and may gain by a removal. A mean
over all texts thus mixes two kinds of text.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pandas as pd

from iba.evaluation.measures import MEASURES
from iba.report.stored import TESTED, Stored
from iba.report.tables import Grids, Spec, ordered
from iba.report.tables.table1 import side_by_side, table1_rows
from iba.report.text import crossed, tested


@cache
def right_texts(stored: Stored) -> Stored:
    """The run with these texts alone; with none where all texts are such."""
    right = stored.frame.rows["right"].astype(bool)
    some_wrong = not right[stored.table1.rows.index].all()
    return replace(stored, frame=stored.frame.where(right.to_numpy() & some_wrong))


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """As Table 1, then the differences between the methods but random."""
    found = right_texts(stored)
    right, all_ = (
        run.table1.rows.groupby("dataset", observed=True)["instance_id"].nunique() for run in (found, stored)
    )
    shares = [f"{stored.say('dataset', d)} {n} of {all_[d]}" for d, n in right.items()]
    notes = [
        f"Texts whose explained class is the predicted one: {', '.join(shares)}. Otherwise as Table 1.",
        "Below: differences between methods on these texts with their intervals and Holm-corrected p; all "
        "pairs: `tests_right.csv`.",
    ]
    caption = f"Table 1 on the texts that the classifier gets right ({stored.title})"
    yield side_by_side(found, rows, caption, notes)
    tests = found.tests[(found.tests[["first", "second"]] != "random").all(axis=1)]
    first, second = (tests[side].map(stored.names.methods) for side in ("first", "second"))
    tests = ordered(tests.assign(contrast=first + " − " + second), {"protocol": found.protocols})
    for measure in TESTED:
        shown, keys = tests[tests["measure"] == measure], ["dataset", "contrast"]
        what = f"Differences on these texts, {MEASURES[measure].label}"
        yield crossed(what, stored.say, shown, keys, "protocol", tested)


TABLE = Spec(
    "table1_right",
    20,
    lambda stored: table1_rows(right_texts(stored)),
    grids,
    "right",
    beside={"tests_right": lambda stored: right_texts(stored).tests},
)
