"""Several fine-tuning seeds: is a result one of the data and method, or of one trained classifier?

The intervals take seeds and instances as two samples (`stats.crossed_interval`): a small data set such as
RTE trains unevenly.
"""

from __future__ import annotations

from itertools import product

import pandas as pd

from iba.evaluation.stats import MIN_SEEDS, crossed_interval
from iba.report.frame import DELETE
from iba.report.stored import Stored
from iba.report.tables import Grids, Spec
from iba.report.text import Write, estimate, listed, number, share, strong


def seeds_rows(stored: Stored) -> pd.DataFrame:
    """One row per protocol, data set and method (or pair of methods) that ran under two seeds or more.

    `second` is empty for a method's own drop at 11 %, else the row is the paired difference
    `method` − `second`. `per_seed` lists the means in the order of `seeds`. Fewer than `MIN_SEEDS` have no
    interval. All on the instances that every seed has.
    """
    rows = []
    for dataset, protocol in product(stored.datasets, stored.protocols):
        for (method, second), drops in _drops(stored, protocol, dataset).items():
            whole = crossed_interval(drops.to_numpy(float), stored.how)
            trained = [stored.all_classifiers[dataset, seed]["provenance"] for seed in drops.index]
            row = {
                "protocol": protocol,
                "dataset": dataset,
                "method": method,
                "second": second,
                "n_seeds": len(drops),
                "n": whole.n,
                "drop_11": whole.estimate,
                "ci_low": whole.low,
                "ci_high": whole.high,
                "seeds": " ".join(map(str, drops.index)),
                "per_seed": " ".join(f"{v:.4f}" for v in drops.mean(axis=1)),
                "accuracy": " ".join(f"{each['accuracy']:.4f}" for each in trained),
            }
            rows.append(row)
    return pd.DataFrame(rows)


def _drops(stored: Stored, protocol: str, dataset: str) -> dict[tuple[str, str], pd.DataFrame]:
    """Drop at 11 % by method, and IBA's minus every other one's: seeds × the instances that all of them have,
    where there are two seeds."""
    rows = stored.frame.of(study=None, operator=DELETE, protocol=protocol, dataset=dataset)
    own = {m: rows.of(method=m).matrix("drop_11", "seed").dropna().T for m in stored.methods}
    found = {(method, ""): drops for method, drops in own.items()}
    iba = own.pop("iba", pd.DataFrame())
    found |= {("iba", m): (iba - drops).dropna(how="all").dropna(axis=1) for m, drops in own.items()}
    return {pair: drops for pair, drops in found.items() if len(drops) > 1}


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """A line per row."""
    pairs = zip(rows["method"], rows["second"], strict=True)
    rows = rows.assign(
        method=[" − ".join(stored.say("method", m) for m in pair if m) for pair in pairs],
        seeds=rows["seeds"].str.replace(" ", " · "),
        settled=(rows["second"] != "") & (rows["ci_low"] * rows["ci_high"] > 0),
    )

    def each(values: str, write: Write) -> str:
        return " · ".join(write(float(value)) for value in values.split())

    columns: dict[str, Write] = {
        "drop at 11 %": lambda row: strong(estimate(row, "drop_11"), row.settled),
        "each seed": lambda row: each(row.per_seed, number),
        "accuracy": lambda row: each(row.accuracy, share),
    }
    notes = [
        f"{stored.how.percent} t intervals for other fine-tuning seeds and other instances: the "
        "squared standard errors of the mean over seeds and of the mean over instances are added "
        f"(Welch–Satterthwaite degrees of freedom). None for fewer than {MIN_SEEDS} seeds.",
        "**Bold**: a difference between two methods whose interval excludes 0; only such a one is settled "
        "over seeds.",
    ]
    keys, caption = ["dataset", "protocol", "method", "seeds", "n"], "Several fine-tuning seeds"
    yield listed(caption, stored.say, rows, keys, columns, notes)


TABLE = Spec("seeds", 60, seeds_rows, grids)
