"""The numbers that the paper prints, read from `results/published`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from iba.errors import UserError


@dataclass(frozen=True)
class Paper:
    """Table 1 (drops at 11 %), Table 2 (test rows) and the hours of Appendix D."""

    drops: dict[tuple[str, str], float]
    test_rows: dict[str, int]
    hours: dict[str, float]

    @classmethod
    def read(cls, folder: Path) -> Paper:
        """From the folder of CSV files that cite their tables."""
        drops, rows, hours = (_read(folder / f"{name}.csv") for name in ("table1", "table2", "times"))
        return cls(
            {(str(r.dataset), str(r.method)): float(r.drop_11) for r in drops.itertuples()},
            {str(r.dataset): int(r.n) for r in rows.itertuples()},
            {str(r.method): float(r.hours) for r in hours.itertuples()},
        )

    def difference(self, dataset: str, better: str, worse: str) -> float | None:
        """Drop of `better` minus drop of `worse`, if the paper has both."""
        pair = self.drops.get((dataset, better)), self.drops.get((dataset, worse))
        return None if pair[0] is None or pair[1] is None else pair[0] - pair[1]


def _read(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"{path} with the paper's numbers is missing: restore it from the repository.")
    return pd.read_csv(path)
