"""Several fine-tuning seeds: is a result one of the data and method, or of one trained classifier?

A run with another `finetune.seed` is stored as `run=<run>/seeds/<seed>`. The intervals take
seeds and instances as two samples (`stats.crossed_interval`): a small data set such as RTE trains unevenly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from iba.evaluation.stats import MIN_SEEDS, crossed_interval
from iba.pipeline.store import read_json, read_parquet
from iba.report.rows import DELETE, Stored, per_instance
from iba.report.text import Grid, Table, interval, number, share


def table(stored: Stored) -> pd.DataFrame:
    """One row per protocol, data set and method (or pair of methods) that ran under two seeds or more.

    `second` is empty for a method's own drop at 11 %, else the row is the paired difference
    `method` − `second`. `per_seed` lists the means in the order of `seeds`. Fewer than `MIN_SEEDS` have no
    interval.
    """
    rows = []
    for dataset in stored.datasets:
        folders = _folders(stored, dataset)
        for protocol in stored.protocols:
            drops = {m: _drops(folders, dataset, protocol, m) for m in stored.methods}
            drops = {m: found for m, found in drops.items() if len(found) > 1}
            for method, second, found in _compared(drops):
                whole = crossed_interval(found.to_numpy(float), stored.how)
                rows.append(
                    {
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
                        "accuracy": " ".join(f"{_accuracy(folders[s], dataset):.4f}" for s in found.index),
                    }
                )
    return pd.DataFrame(rows)


def _folders(stored: Stored, dataset: str) -> dict[int, Path]:
    """The run's folder and those of its other seeds, by fine-tuning seed."""
    found = [stored.folder, *sorted((stored.folder / "seeds").glob("*"))]
    records = {folder: folder / dataset / "classifier.json" for folder in found}
    return {
        int(read_json(record)["settings"]["recipe"]["seed"]): folder
        for folder, record in records.items()
        if record.is_file()
    }


def _drops(folders: dict[int, Path], dataset: str, protocol: str, method: str) -> pd.DataFrame:
    """Drop at 11 %, seeds × the instances that all of them have."""
    found = {}
    for seed, folder in folders.items():
        path = folder / dataset / protocol / method / "degradation.parquet"
        if path.is_file():
            scores = per_instance(read_parquet(path))
            found[seed] = scores[scores["operator"] == DELETE].set_index("instance_id")["drop_11"]
    return pd.DataFrame(found).dropna().T


def _compared(drops: dict[str, pd.DataFrame]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    for method, found in drops.items():
        yield method, "", found
    for second, other in drops.items():
        if second != "iba" and "iba" in drops:
            # of the seeds and instances that both have
            both = (drops["iba"] - other).dropna(how="all").dropna(axis=1)
            if len(both) > 1:
                yield "iba", second, both


def _accuracy(folder: Path, dataset: str) -> float:
    return float(read_json(folder / dataset / "classifier.json")["provenance"]["accuracy"])


def grid(stored: Stored, rows: pd.DataFrame) -> Grid:
    """The table as text."""
    names = stored.names
    lines = [
        [
            names.datasets[row.dataset],
            names.protocols[row.protocol],
            names.methods[row.method] + (f" − {names.methods[row.second]}" if row.second else ""),
            f"{row.n_seeds} × {row.n}",
            f"{number(row.drop_11)} {interval(row.ci_low, row.ci_high)}".strip(),
            " · ".join(number(float(value)) for value in row.per_seed.split()),
        ]
        for row in rows.itertuples()
    ]
    heads = ["data set", "protocol", "method", "seeds × n", "drop at 11 %", "each seed"]
    return Grid("Several fine-tuning seeds", heads, lines, _notes(stored, rows))


def _notes(stored: Stored, rows: pd.DataFrame) -> Sequence[str]:
    firsts = rows.drop_duplicates("dataset").itertuples()
    accuracies = [
        f"{stored.names.datasets[row.dataset]}, seeds {', '.join(row.seeds.split())}: accuracy "
        + ", ".join(share(float(value)) for value in row.accuracy.split())
        for row in firsts
    ]
    return [
        f"{stored.how.percent} t intervals for other fine-tuning seeds and other instances: the "
        "squared standard errors of the mean over seeds and of the mean over instances are added "
        f"(Welch–Satterthwaite degrees of freedom). None for fewer than {MIN_SEEDS} seeds.",
        *accuracies,
    ]


def report(stored: Stored) -> Table:
    """`seeds.*`; nothing where one seed is all there is."""
    rows = table(stored)
    return Table("seeds", rows, [] if rows.empty else [grid(stored, rows)], "seeds")
