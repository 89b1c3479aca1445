"""Sanity checks as text: do the scores depend on what they should depend on, and on nothing else?

Explaining an untrained classifier (Adebayo et al. 2018) or another class must cost a method its power;
other noise must not; another removal operator shows what is the operator's doing. What is left of the power
is the paired difference from random scores on the same instances, where the study has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from iba.report.rows import Names, Stored
from iba.report.sanity_rows import CHECKS, Check, table
from iba.report.text import Grid, Table, interval, number, p_value


@dataclass(frozen=True)
class _Column:
    """A column of a check's table that is left out where no row has it; `note` explains it below."""

    head: str
    value: str
    p_value: str | None
    note: str

    def cell(self, row: pd.Series) -> str:
        """A number, with interval and p-value where it was tested; a dash where there is none."""
        if pd.isna(row[self.value]):
            return "–"
        if self.p_value is None:
            return number(row[self.value])
        ends = interval(row[f"{self.value}_low"], row[f"{self.value}_high"])
        return f"{number(row[self.value])} {ends}, {p_value(row[self.p_value])}"


def _columns(check: Check, names: Names) -> list[_Column]:
    """What a check's table may hold besides drop and area."""
    rival = names.methods.get(str(check.rival), str(check.rival))
    return [
        _Column(
            "completeness gap",
            "completeness_gap",
            None,
            "“Completeness gap”: how far the scores are from adding up to the probability won over the "
            "baseline (median over the texts of its absolute value).",
        ),
        _Column(
            "drop changes by",
            "difference",
            "p_holm",
            f"“Drop changes by”: drop at 11 % minus that of “{check.title(check.base)}” on the same "
            "instances (paired sign-flip test, Holm-corrected within a method).",
        ),
        _Column(
            "drop minus random's",
            "over_random",
            "over_random_p_holm",
            "“Drop minus random's”: the same against random scores (under the same operator), Holm-corrected "
            "over all methods and points of a data set and protocol. A large p does not show that nothing is "
            "left: the interval says how much may be.",
        ),
        _Column(
            f"drop minus {rival}'s",
            "over_rival",
            "over_rival_p_holm",
            f"“Drop minus {rival}'s”: the same against {rival}'s scores of Table 1 on these instances, "
            "Holm-corrected over all points of a data set and protocol.",
        ),
    ]


def grids(stored: Stored, rows: pd.DataFrame) -> list[Grid]:
    """One table per check that was run."""
    if rows.empty:
        return []
    return [
        _grid(check, rows[rows["study"] == study], stored.names)
        for study, check in CHECKS.items()
        if (rows["study"] == study).any()
    ]


def _grid(check: Check, rows: pd.DataFrame, names: Names) -> Grid:
    columns = [c for c in _columns(check, names) if c.value in rows and rows[c.value].notna().any()]
    heads = ["data set", "protocol", "method", "point", "n", "drop at 11 %", "area over the curve"]
    lines = [
        [*_level(check, row, names), *(column.cell(row) for column in columns)] for _, row in rows.iterrows()
    ]
    notes = [column.note for column in columns]
    return Grid(f"Sanity: {check.what}", [*heads, *(column.head for column in columns)], lines, notes)


def _level(check: Check, row: pd.Series, names: Names) -> list[str]:
    """The point, and its own drop and area."""
    point: Any = row["point"]
    return [
        names.datasets[row["dataset"]],
        names.protocols[row["protocol"]],
        names.methods.get(row["method"], row["method"]),
        check.title(point),
        str(row["n"]),
        f"{number(row['drop_11'])} {interval(row['ci_low'], row['ci_high'])}",
        f"{number(row['area_over'])} {interval(row['area_low'], row['area_high'])}",
    ]


def report(stored: Stored) -> Table:
    """`sanity.*`; nothing where no check was run."""
    rows = table(stored)
    return Table("sanity", rows, grids(stored, rows), "sanity")
