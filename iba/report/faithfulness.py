"""Beyond Table 1: areas, comprehensiveness, sufficiency and log-odds, per removal operator."""

from __future__ import annotations

import numpy as np
import pandas as pd

from iba.evaluation.stats import mean_interval
from iba.report.rows import Stored
from iba.report.text import Grid, Table, interval, number

#: Column of the per-instance scores → what the table calls it; the arrow says which way is better.
MEASURES = {
    "drop_11": "drop at 11 % ↑",
    "area_over": "area over the curve ↑",
    "area_over_least": "the same, least first ↓",
    "comprehensiveness": "comprehensiveness ↑",
    "sufficiency": "sufficiency ↓",
    "log_odds_11": "log-odds at 11 %, nats ↑",
}


def table(stored: Stored) -> pd.DataFrame:
    """One row per cell, operator and measure: n, estimate, interval; what was not run is left out."""
    names, rows = stored.names, []
    ordered = stored.scores.assign(
        dataset=pd.Categorical(stored.scores["dataset"], list(names.datasets)),
        method=pd.Categorical(stored.scores["method"], list(names.methods)),
    )
    for (protocol, dataset, operator, method), scores in ordered.groupby(
        ["protocol", "dataset", "operator", "method"], observed=True
    ):
        for measure in MEASURES:
            values = scores[measure].dropna().to_numpy(float)
            if len(values):
                found = mean_interval(values, stored.how)
                rows.append(
                    {
                        "protocol": protocol,
                        "dataset": dataset,
                        "operator": operator,
                        "method": method,
                        "measure": measure,
                        "n": found.n,
                        "estimate": found.estimate,
                        "ci_low": found.low,
                        "ci_high": found.high,
                    }
                )
    return pd.DataFrame(rows)


def grids(stored: Stored, rows: pd.DataFrame) -> list[Grid]:
    """One table per protocol: data set, operator and method against the measures."""
    return [_one(stored, rows[rows["protocol"] == protocol], protocol) for protocol in stored.protocols]


def _one(stored: Stored, rows: pd.DataFrame, protocol: str) -> Grid:
    present = [m for m in MEASURES if m in set(rows["measure"])]
    lines = []
    for (dataset, operator, method), cell in rows.groupby(["dataset", "operator", "method"], sort=False):
        by_measure = {row.measure: row for row in cell.itertuples()}
        values = [
            f"{number(by_measure[m].estimate)} {interval(by_measure[m].ci_low, by_measure[m].ci_high)}"
            if m in by_measure
            else "–"
            for m in present
        ]
        lines.append(
            [stored.names.datasets[str(dataset)], str(operator), stored.names.methods[str(method)], *values]
        )
    heads = ["data set", "operator", "method", *(MEASURES[m] for m in present)]
    return Grid(
        f"Faithfulness, {stored.names.protocols[protocol]} (`{protocol}`)", heads, lines, _notes(stored)
    )


def _notes(stored: Stored) -> list[str]:
    notes = [
        "Mean over instances with its interval. ↑ larger is better, ↓ smaller is better.",
        "Areas by the trapezoid rule over the share of removed tokens, 0 % included: the mean drop on the "
        "curve. Pairs of methods by the area, tested: rows `area_over` of `tests.csv`.",
    ]
    curves = stored.curves
    shares = [f"{100 * f:g}" for f in np.unique(curves.loc[curves["grid"] == "eraser", "fraction"])]
    if shares:
        listed = " and ".join(part for part in (", ".join(shares[:-1]), shares[-1]) if part)
        notes.append(
            f"Comprehensiveness and sufficiency: mean over the top {listed} % of p(0) − p(without them) and "
            "p(0) − p(with them alone)."
        )
    return notes


def report(stored: Stored) -> Table:
    """`faithfulness.*`."""
    rows = table(stored)
    return Table("faithfulness", rows, grids(stored, rows), "faithfulness")
