"""Faithfulness: every measure per cell and removal operator."""

from __future__ import annotations

import pandas as pd

from iba.evaluation.measures import measured_in
from iba.report.frame import summarise
from iba.report.stored import Stored
from iba.report.tables import Grids, Spec
from iba.report.text import crossed, estimate

_BY = ["dataset", "operator", "method"]


def faithfulness_rows(stored: Stored) -> pd.DataFrame:
    """One row per cell, operator and measure: n, mean, interval."""
    return summarise(stored.table1, ["protocol", *_BY], list(measured_in("faithfulness")), stored.how)


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """One per protocol."""
    shares = ", ".join(f"{100 * fraction:g}" for fraction in stored.frame.shares)
    notes = [
        "Mean over instances with its interval. ↑ larger is better, ↓ smaller is better.",
        "Areas by the trapezoid rule over the share of removed tokens, 0 % included: the mean drop on the "
        "curve. Pairs of methods by the area, tested: rows `area_over` of `tests.csv`.",
        f"Comprehensiveness and sufficiency: mean over the top {' and '.join(shares.rsplit(', ', 1))} % of "
        "p(0) − p(without them) and p(0) − p(with them alone).",
    ]
    for protocol, cells in rows.groupby("protocol", observed=True):
        caption = f"Faithfulness, {stored.say('protocol', protocol)} (`{protocol}`)"
        yield crossed(caption, stored.say, cells, _BY, "measure", estimate, notes)


TABLE = Spec("faithfulness", 50, faithfulness_rows, grids)
