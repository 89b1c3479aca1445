"""Faithfulness: every measure per cell and removal operator."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from iba.evaluation.measures import measured_in
from iba.report.frame import summarise
from iba.report.stored import Stored
from iba.report.tables import Spec
from iba.report.text import Grid, crossed, estimate

_BY = ["dataset", "operator", "method"]


def grids(stored: Stored, rows: pd.DataFrame) -> Iterator[Grid]:
    """One per protocol."""
    for protocol, cells in rows.groupby("protocol", observed=True):
        caption = f"Faithfulness, {stored.say('protocol', protocol)} (`{protocol}`)"
        yield crossed(caption, stored.say, cells, _BY, "measure", estimate, _notes(stored))


def _notes(stored: Stored) -> list[str]:
    notes = [
        "Mean over instances with its interval. ↑ larger is better, ↓ smaller is better.",
        "Areas by the trapezoid rule over the share of removed tokens, 0 % included: the mean drop on the "
        "curve. Pairs of methods by the area, tested: rows `area_over` of `tests.csv`.",
    ]
    shares = [f"{100 * fraction:g}" for fraction in stored.frame.shares]
    if shares:
        listed = " and ".join(part for part in (", ".join(shares[:-1]), shares[-1]) if part)
        notes.append(
            f"Comprehensiveness and sufficiency: mean over the top {listed} % of p(0) − p(without them) and "
            "p(0) − p(with them alone)."
        )
    return notes


TABLE = Spec(
    "faithfulness",
    50,
    lambda stored: summarise(
        stored.table1, ["protocol", *_BY], list(measured_in("faithfulness")), stored.how
    ),
    grids,
)
