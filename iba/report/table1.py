"""Table 1: the drop of the target's probability once the top 11 % of the tokens are removed.

The paper prints |p̄(11 %) − o|. Here `drop_11` = o − p̄(11 %) keeps its sign: it is the paper's number
wherever the probability falls, and where it rises a reader must see that it rises.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from iba.evaluation.stats import mean_interval
from iba.report.comparisons import by_drop, significantly_best
from iba.report.notes import dataset_notes, method_notes
from iba.report.rows import Stored
from iba.report.text import Grid, Table, interval, number, share

#: By protocol and data set.
Winners = dict[tuple[str, str], str | None]


def table(stored: Stored) -> pd.DataFrame:
    """One row per cell: protocol, dataset, method, n, drop_11 with its interval, the paper's, accuracy."""
    rows = []
    for protocol in stored.protocols:
        for dataset in stored.datasets:
            for method, drops in stored.matrix(protocol, dataset).items():
                found = mean_interval(drops.to_numpy(float), stored.how)
                theirs = stored.paper.drops.get((dataset, str(method)))
                rows.append(
                    {
                        "protocol": protocol,
                        "dataset": dataset,
                        "method": method,
                        "n": found.n,
                        "drop_11": found.estimate,
                        "ci_low": found.low,
                        "ci_high": found.high,
                        "paper_drop_11": theirs,
                        "difference": None if theirs is None else found.estimate - theirs,
                        "accuracy": stored.classifiers[dataset]["provenance"]["accuracy"],
                    }
                )
    found = pd.DataFrame(rows)
    return found.astype({"paper_drop_11": float, "difference": float})


def winners(stored: Stored, tests: pd.DataFrame) -> Winners:
    """The significantly best method of every protocol and data set, where there is one."""
    return {
        (protocol, dataset): significantly_best(family, 1 - stored.how.confidence)
        for (protocol, dataset), family in by_drop(tests).groupby(["protocol", "dataset"])
        if {*family["first"], *family["second"]} == set(stored.methods)  # no winner while one is missing
    }


def grids(stored: Stored, rows: pd.DataFrame, tests: pd.DataFrame) -> list[Grid]:
    """The side-by-side table first, then one table per protocol with the difference from the paper."""
    best = winners(stored, tests)
    caption = f"Table 1. Drop of the target's probability after the top 11 % of tokens ({stored.title})"
    whole = side_by_side(stored, rows, best, caption, notes(stored))
    return [whole, *(_one(stored, rows, best, p) for p in stored.protocols)]


def side_by_side(
    stored: Stored, rows: pd.DataFrame, best: Winners, caption: str, notes: Sequence[str]
) -> Grid:
    """Data set and method against the protocols, with the paper's number; winners in bold."""
    names = stored.names
    lines = []
    for dataset in stored.datasets:
        for method in stored.methods:
            cells = [_ours(_cell(rows, p, dataset, method), best) for p in stored.protocols]
            theirs = number(stored.paper.drops.get((dataset, method)))
            lines.append([names.datasets[dataset], names.methods[method], theirs, *cells])
    heads = ["data set", "method", "paper", *(names.protocols[p] for p in stored.protocols)]
    return Grid(caption, heads, lines, notes)


def _one(stored: Stored, rows: pd.DataFrame, best: Winners, protocol: str) -> Grid:
    names = stored.names
    lines = [
        [
            names.datasets[row["dataset"]],
            names.methods[row["method"]],
            str(row["n"]),
            _ours(row, best),
            number(row["paper_drop_11"]),
            number(row["difference"]),
            share(row["accuracy"]),
        ]
        for _, row in rows[rows["protocol"] == protocol].iterrows()
    ]
    heads = ["data set", "method", "n", f"ours [{_confidence(stored)}]", "paper", "ours − paper", "accuracy"]
    return Grid(f"Table 1, {names.protocols[protocol]} (`{protocol}`)", heads, lines)


def _cell(rows: pd.DataFrame, protocol: str, dataset: str, method: str) -> pd.Series | None:
    found = rows[(rows["protocol"] == protocol) & (rows["dataset"] == dataset) & (rows["method"] == method)]
    return found.iloc[0] if len(found) else None


def _ours(row: pd.Series | None, best: Winners) -> str:
    if row is None:
        return "–"
    value = number(row["drop_11"])
    strong = best.get((row["protocol"], row["dataset"])) == row["method"]
    return f"{f'**{value}**' if strong else value} {interval(row['ci_low'], row['ci_high'])}".strip()


def _confidence(stored: Stored) -> str:
    return f"{stored.how.percent} interval"


def notes(stored: Stored) -> list[str]:
    """What must be known to read the numbers."""
    return [
        f"Drop o − p̄(11 %) with its {_confidence(stored)} (percentile bootstrap over instances, "
        f"{stored.how.n_resamples} resamples). The paper prints the absolute value; a minus sign here means "
        f"that the probability rose.",
        "**Bold**: larger than every other method of the same data set and protocol by a paired sign-flip "
        f"permutation test, Holm-corrected, p < {1 - stored.how.confidence:.2g}. All pairs, "
        "and those of the area over the curve (`measure`, a family of its own): `tests.csv`.",
        *dataset_notes(stored),
        *method_notes(stored),
    ]


def report(stored: Stored, tests: pd.DataFrame) -> Table:
    """`table1.*` and `tests.csv`."""
    rows = table(stored)
    return Table("table1", rows, grids(stored, rows, tests), "drop", {"tests": tests})
