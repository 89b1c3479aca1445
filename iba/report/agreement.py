"""Rank agreement: Kendall's τ-b between two rankings of the same tokens, per instance, then averaged.

Between methods (the cells of Table 1), and between neighbouring points of a study (layers, seeds, …). Special
tokens, which no method may remove, do not count. Needs the token scores, so it is computed where they are
and kept in `agreement.csv`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from iba.evaluation.stats import mean_interval
from iba.pipeline.store import read_parquet
from iba.report.rows import Stored
from iba.report.study_rows import METHOD, value_of
from iba.report.text import Grid, Table, interval, number

#: Studies whose neighbouring points are compared.
STUDIES = ("layers", "betas", "noise_seeds")
_KEY = ["kind", "dataset", "protocol", "first", "second"]


def kendall(first: np.ndarray, second: np.ndarray, special: np.ndarray) -> float:
    """τ-b over the tokens that may be removed; NaN where one of the rankings is constant."""
    removable = ~special
    return float(stats.kendalltau(first[removable], second[removable]).statistic)


def agree(first: pd.DataFrame, second: pd.DataFrame) -> np.ndarray:
    """τ of every instance that both tables of attributions hold and both rank."""
    both = first.merge(second, on="instance_id", suffixes=("", "_second"))
    found = [kendall(r.scores, r.scores_second, r.special) for r in both.itertuples()]
    return np.array([value for value in found if not np.isnan(value)])


def table(stored: Stored) -> pd.DataFrame:
    """One row per pair: kind (`methods` or a study), who, n, mean τ, interval.

    A stored row is kept where its scores are gone, and its place in any case.
    """
    path = stored.folder / "agreement.csv"
    new = pd.DataFrame([*_between_methods(stored), *_between_points(stored)])
    if not path.is_file():
        return new
    old = pd.read_csv(path)
    rows = pd.concat([new, old]).drop_duplicates(_KEY)
    places = pd.concat([old, new])[_KEY].drop_duplicates()
    return places.merge(rows, on=_KEY)


def _between_methods(stored: Stored) -> Iterator[dict[str, object]]:
    for dataset in stored.datasets:
        for protocol in stored.protocols:
            found = {
                method: _scores(stored.folder / dataset / protocol / method) for method in stored.methods
            }
            there = {method: rows for method, rows in found.items() if rows is not None}
            for first, second in combinations(there, 2):
                yield _row(
                    "methods", dataset, protocol, first, second, agree(there[first], there[second]), stored
                )


def _between_points(stored: Stored) -> Iterator[dict[str, object]]:
    for study in STUDIES:
        for folder in sorted((stored.folder / "studies" / study).glob(f"*/*/{METHOD}")):
            dataset, protocol = folder.parts[-3:-1]
            points = sorted((p for p in folder.glob("*=*")), key=lambda p: value_of(p.name))
            there = {p.name: rows for p in points if (rows := _scores(p)) is not None}
            for first, second in pairwise(there):
                yield _row(
                    study, dataset, protocol, first, second, agree(there[first], there[second]), stored
                )


def _scores(folder: Path) -> pd.DataFrame | None:
    path = folder / "attributions.parquet"
    return read_parquet(path, ["instance_id", "special", "scores"]) if path.is_file() else None


def _row(
    kind: str, dataset: str, protocol: str, first: str, second: str, taus: np.ndarray, stored: Stored
) -> dict[str, object]:
    found = mean_interval(taus, stored.how)
    who = dict(zip(_KEY, (kind, dataset, protocol, first, second), strict=True))
    return {**who, "n": found.n, "tau": found.estimate, "ci_low": found.low, "ci_high": found.high}


def grid(stored: Stored, rows: pd.DataFrame) -> Grid:
    """Pairs against protocols."""
    lines = []
    for (kind, dataset, first, second), cells in rows.groupby(
        ["kind", "dataset", "first", "second"], sort=False
    ):
        by_protocol = {row.protocol: row for row in cells.itertuples()}
        pair = f"{_title(stored, first)} – {_title(stored, second)}"
        values = [
            f"{number(by_protocol[p].tau, 2)} {interval(by_protocol[p].ci_low, by_protocol[p].ci_high, 2)}"
            if p in by_protocol
            else "–"
            for p in stored.protocols
        ]
        lines.append(
            [str(kind), stored.names.datasets.get(dataset, dataset), pair, str(cells["n"].max()), *values]
        )
    heads = ["between", "data set", "pair", "n", *(stored.names.protocols[p] for p in stored.protocols)]
    notes = [
        "Kendall's τ-b of the token scores, mean over instances: 1 same order, 0 unrelated, −1 reversed."
    ]
    return Grid("Rank agreement", heads, lines, notes)


def _title(stored: Stored, name: str) -> str:
    """A method's label, or a point of a study in words ("layer=1" is layer 1)."""
    return stored.names.methods.get(name, name.replace("beta=", "β ").replace("=", " "))


def report(stored: Stored) -> Table:
    """`agreement.*`; nothing where there are no token scores."""
    rows = table(stored)
    return Table("agreement", rows, [] if rows.empty else [grid(stored, rows)], "agreement")
