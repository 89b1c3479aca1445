"""Several fine-tuning seeds: is a result one of the data and method, or of one trained classifier?

The intervals take seeds and instances as two samples (`stats.crossed_interval`): a small data set such as
RTE trains unevenly.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pandas as pd

from iba.evaluation.stats import MIN_SEEDS, crossed_interval
from iba.report.frame import DELETE
from iba.report.stored import Stored
from iba.report.text import Grid, Table, interval, listed, number, share


def seeds_rows(stored: Stored) -> pd.DataFrame:
    """One row per protocol, data set and method (or pair of methods) that ran under two seeds or more.

    `second` is empty for a method's own drop at 11 %, else the row is the paired difference
    `method` − `second`. `per_seed` lists the means in the order of `seeds`. Fewer than `MIN_SEEDS` have no
    interval.
    """
    rows = [
        _row(stored, protocol, dataset, *found)
        for dataset, protocol in product(stored.datasets, stored.protocols)
        for found in _compared(_drops(stored, protocol, dataset))
    ]
    return pd.DataFrame(rows)


def _drops(stored: Stored, protocol: str, dataset: str) -> dict[str, pd.DataFrame]:
    """By method: drop at 11 %, seeds × the instances that all of them have, where there are two seeds."""
    rows = stored.frame.of(study=None, operator=DELETE, protocol=protocol, dataset=dataset)
    found = {m: rows.of(method=m).matrix("drop_11", "seed").dropna().T for m in stored.methods}
    return {method: drops for method, drops in found.items() if len(drops) > 1}


def _compared(drops: dict[str, pd.DataFrame]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for method, found in drops.items():
        yield method, "", found
    for second, other in drops.items():
        if second != "iba" and "iba" in drops:
            # of the seeds and instances that both have
            both = (drops["iba"] - other).dropna(how="all").dropna(axis=1)
            if len(both) > 1:
                yield "iba", second, both


def _row(
    stored: Stored, protocol: str, dataset: str, method: str, second: str, found: pd.DataFrame
) -> dict[str, object]:
    whole = crossed_interval(found.to_numpy(float), stored.how)
    records = [stored.all_classifiers[dataset, int(seed)] for seed in found.index]
    return {
        "protocol": protocol,
        "dataset": dataset,
        "method": method,
        "second": second,
        "n_seeds": len(found),
        "n": whole.n,
        "drop_11": whole.estimate,
        "ci_low": whole.low,
        "ci_high": whole.high,
        "seeds": " ".join(map(str, found.index)),
        "per_seed": " ".join(f"{v:.4f}" for v in found.mean(axis=1)),
        "accuracy": " ".join(f"{record['provenance']['accuracy']:.4f}" for record in records),
    }


def _grid(stored: Stored, rows: pd.DataFrame) -> Grid:
    columns = {
        "method": lambda row: " − ".join(stored.say("method", m) for m in (row.method, row.second) if m),
        "seeds × n": lambda row: f"{row.n_seeds} × {row.n}",
        "drop at 11 %": lambda row: f"{number(row.drop_11)} {interval(row.ci_low, row.ci_high)}".strip(),
        "each seed": lambda row: " · ".join(number(float(value)) for value in row.per_seed.split()),
    }
    accuracies = [
        f"{stored.say('dataset', row.dataset)}, seeds {', '.join(row.seeds.split())}: accuracy "
        + ", ".join(share(float(value)) for value in row.accuracy.split())
        for row in rows.drop_duplicates("dataset").itertuples()
    ]
    how = (
        f"{stored.how.percent} t intervals for other fine-tuning seeds and other instances: the "
        "squared standard errors of the mean over seeds and of the mean over instances are added "
        f"(Welch–Satterthwaite degrees of freedom). None for fewer than {MIN_SEEDS} seeds."
    )
    keys, caption = ["dataset", "protocol"], "Several fine-tuning seeds"
    return listed(caption, stored.say, rows, keys, columns, [how, *accuracies])


def seeds(stored: Stored) -> Table:
    """`seeds.*`; nothing where one seed is all there is."""
    rows = seeds_rows(stored)
    return Table("seeds", rows, [] if rows.empty else [_grid(stored, rows)], "seeds")
