"""From a study's attributions, which are too large to commit, to the small files that its figures need.

`studies/<study>/diagnostics.parquet`: the per-instance numbers of all points. `examples.parquet`: the token
scores, where a study attributed so few instances that all of them can be shown. Points whose attributions
are not on this machine keep what is already stored.
"""

from __future__ import annotations

import pandas as pd

from iba.report.collect import EXAMPLE, replace_cells, scalars
from iba.report.rows import Stored
from iba.report.study_rows import POINT, small_file
from iba.store import read_parquet, write_parquet


def collect(stored: Stored, n_examples: int) -> None:
    """Bring the small files of all studies up to date; no more than `n_examples` instances are few."""
    for folder in sorted((stored.folder / "studies").glob("*")):
        diagnostics, examples = [], []
        for path in sorted(folder.glob("*/*/*/*/attributions.parquet")):
            if not path.with_name("degradation.parquet").is_file():
                continue  # the point is not finished
            rows = read_parquet(path)
            dataset, protocol, method, point = path.parts[-5:-1]
            identity = dict(zip(POINT, (protocol, dataset, method, point), strict=True))
            numbers = scalars(rows)
            if numbers:
                diagnostics.append(rows[["instance_id", *numbers]].assign(**identity))
            if len(rows) <= n_examples:
                columns = [*EXAMPLE, *({"bits"} & set(rows.columns)), *numbers]
                examples.append(rows[columns].assign(**identity))
        _store(stored, folder.name, "diagnostics", diagnostics)
        _store(stored, folder.name, "examples", examples)


def _store(stored: Stored, study: str, name: str, tables: list[pd.DataFrame]) -> None:
    if tables:
        new = replace_cells(small_file(stored, study, name), pd.concat(tables, ignore_index=True), POINT)
        write_parquet(stored.folder / "studies" / study / f"{name}.parquet", new)
