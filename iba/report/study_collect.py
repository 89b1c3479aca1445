"""From a study's attributions, which are too large to commit, to the small files that its figures need.

`studies/<study>/diagnostics.parquet`: the per-instance numbers of all points. `examples.parquet`: the token
scores, where a study attributed so few instances that all of them can be shown. Points whose attributions
are not on this machine keep what is already stored.
"""

from __future__ import annotations

import pandas as pd

from iba.pipeline.store import read_parquet, write_parquet
from iba.report.collect import EXAMPLE, scalars, without_cells
from iba.report.rows import Stored
from iba.report.study_rows import POINT, small_file


def collect(stored: Stored, n_examples: int) -> None:
    """Bring the small files of all studies up to date; no more than `n_examples` instances are few."""
    for folder in sorted((stored.folder / "studies").glob("*")):
        made, diagnostics, examples = [], [], []
        for path in sorted(folder.glob("*/*/*/*/attributions.parquet")):
            if not path.with_name("degradation.parquet").is_file():
                continue  # the point is not finished
            rows = read_parquet(path)
            dataset, protocol, method, point = path.parts[-5:-1]
            identity = dict(zip(POINT, (protocol, dataset, method, point), strict=True))
            made.append(identity)
            numbers = scalars(rows)
            if numbers:
                diagnostics.append(rows[["instance_id", *numbers]].assign(**identity))
            if len(rows) <= n_examples:
                columns = [*EXAMPLE, *({"bits"} & set(rows.columns)), *numbers]
                examples.append(rows[columns].assign(**identity))
        if made:
            _store(stored, folder.name, "diagnostics", pd.DataFrame(made), diagnostics)
            _store(stored, folder.name, "examples", pd.DataFrame(made), examples)


def _store(stored: Stored, study: str, name: str, made: pd.DataFrame, tables: list[pd.DataFrame]) -> None:
    """Replace the rows of the points in `made` by `tables`; of a point without any, none are left."""
    path, old = stored.folder / "studies" / study / f"{name}.parquet", small_file(stored, study, name)
    kept = [] if old is None else [without_cells(old, made, POINT)]
    if found := [rows for rows in (*kept, *tables) if len(rows)]:
        write_parquet(path, pd.concat(found).sort_values(POINT, kind="stable", ignore_index=True))
    else:
        path.unlink(missing_ok=True)
