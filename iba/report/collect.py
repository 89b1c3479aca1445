"""From attributions, which are too large to commit, to the small files that the report is redrawn from.

`diagnostics.parquet` beside every cell: its per-instance numbers. `examples.parquet`: token scores of a
few instances of every data set. `planted.csv`: recall of planted evidence. Cells whose attributions
are not on this machine keep what is already stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from iba.evaluation.ranking import removal_order
from iba.evaluation.stats import Resampling, mean_interval
from iba.pipeline.store import read_parquet, write_parquet
from iba.report.rows import CELL
from iba.report.text import write_csv

#: What is kept of the instances that are shown.
EXAMPLE = ["instance_id", "label", "target", "tokens", "special", "scores"]
_IDENTITY = {"instance_id", "label", "target"}


def collect(run: Path, how: Resampling, n_examples: int) -> None:
    """Bring the small files of the run's folder up to date with the attributions that are here."""
    examples, recalls = [], []
    for path in sorted(run.glob("*/*/*/attributions.parquet")):
        dataset, protocol, method = path.parts[-4:-1]
        rows = read_parquet(path)
        _store_diagnostics(rows, path.with_name("diagnostics.parquet"))
        cell = dict(zip(CELL, (protocol, dataset, method), strict=True))
        examples.append(spread(rows, n_examples)[EXAMPLE].assign(**cell))
        evident = rows[rows["evidence"].map(lambda found: found is not None and any(found))]
        if len(evident):
            recalls.append(cell | recall_row(evident, how))
    if examples:
        path = run / "examples.parquet"
        old = read_parquet(path) if path.is_file() else None
        write_parquet(path, replace_cells(old, pd.concat(examples, ignore_index=True)))
    if recalls:
        path = run / "planted.csv"
        old = pd.read_csv(path) if path.is_file() else None
        write_csv(path, replace_cells(old, pd.DataFrame(recalls)))


def spread(rows: pd.DataFrame, n: int) -> pd.DataFrame:
    """`n` rows at even distances: stored rows may be sorted by class, so the first ones would not do."""
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, n).round().astype(int))]


def replace_cells(
    old: pd.DataFrame | None, new: pd.DataFrame, keys: Sequence[str] = tuple(CELL)
) -> pd.DataFrame:
    """`old` with the rows of every cell in `new` replaced, sorted by cell (the order within a cell stays)."""
    keys = list(keys)
    if old is not None:
        new = pd.concat([without_cells(old, new, keys), new], ignore_index=True)
    return new.sort_values(keys, kind="stable", ignore_index=True)


def without_cells(old: pd.DataFrame, cells: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """`old` without the rows of every cell in `cells`."""
    keys = list(keys)
    fresh = set(map(tuple, cells[keys].to_numpy()))
    return old[[tuple(cell) not in fresh for cell in old[keys].to_numpy()]]


def scalars(rows: pd.DataFrame) -> list[str]:
    """The columns of attributions that hold one number per instance."""
    return [name for name in rows.select_dtypes("number").columns if name not in _IDENTITY]


def _store_diagnostics(rows: pd.DataFrame, path: Path) -> None:
    if numbers := scalars(rows):
        write_parquet(path, rows[["instance_id", *numbers]])
    else:  # those of a method that reported some before
        path.unlink(missing_ok=True)


def recall_row(rows: pd.DataFrame, how: Resampling) -> dict[str, float | int]:
    """Mean recall of the evidence tokens with its interval, and what a random ranking would reach.

    Every row has evidence; a text that was cut may have lost its own.
    """
    recalls = [recall(r.scores.tolist(), r.special.tolist(), r.evidence.tolist()) for r in rows.itertuples()]
    chances = [sum(r.evidence) / (len(r.special) - sum(r.special)) for r in rows.itertuples()]
    found = mean_interval(np.array(recalls), how)
    return {
        "n": found.n,
        "recall": found.estimate,
        "ci_low": found.low,
        "ci_high": found.high,
        "chance": float(np.mean(chances)),
    }


def recall(scores: Sequence[float], special: Sequence[bool], evidence: Sequence[bool]) -> float:
    """Share of the k evidence tokens among the k tokens that the degradation test would remove first."""
    k = sum(evidence)
    top = removal_order(scores, special, "most")[:k]
    return float(sum(bool(evidence[i]) for i in top) / k)
