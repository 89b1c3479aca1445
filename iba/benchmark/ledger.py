"""Measured rows on disk: each is stored the moment it is known, so that a benchmark can be interrupted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from iba.errors import UserError
from iba.settings import plain
from iba.store import atomic, differences, read_json, write_json

Row = dict[str, Any]


@dataclass(frozen=True)
class Ledger:
    """`folder/name.csv` with `name.json`; rows with the same `key` columns are measured once, together.

    `dataset`: what the rows of each data set depend on besides; later calls may bring other data sets.
    """

    folder: Path
    name: str
    key: tuple[str, ...]
    settings: dict[str, Any]
    dataset: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The table."""
        return self.folder / f"{self.name}.csv"

    @property
    def record(self) -> Path:
        """Settings and provenance."""
        return self.folder / f"{self.name}.json"

    def open(self) -> None:
        """Claim the file; `UserError` if it holds rows that were measured with other settings."""
        settings, own = plain(self.settings), plain(self.dataset)
        if self.record.is_file():
            before = read_json(self.record)
            known = before["settings"].setdefault("dataset", {})
            again = {name: own[name] for name in own if name in known}
            changed = differences(before["settings"], settings | {"dataset": known | again})
            if changed:
                raise UserError(
                    f"{self.path} was measured with other settings ({'; '.join(changed[:3])}): "
                    "delete it to measure again, or choose another benchmark.name."
                )
        else:
            before, known = {}, {}
            self.path.unlink(missing_ok=True)
        write_json(self.record, before | {"settings": settings | {"dataset": known | own}})

    def rows(self) -> pd.DataFrame:
        """What has been measured so far."""
        return pd.read_csv(self.path) if self.path.is_file() else pd.DataFrame(columns=list(self.key))

    def measure(self, key: Row, work: Callable[[], list[Row]]) -> list[Row]:
        """The rows of `key`: the stored ones, or what `work` measures now."""
        known = self.rows()
        same = known[[all(str(row[k]) == str(key[k]) for k in self.key) for _, row in known.iterrows()]]
        if len(same):
            return same.to_dict("records")
        measured = [key | row for row in work()]
        with atomic(self.path) as temporary:
            pd.DataFrame(known.to_dict("records") + measured).to_csv(temporary, index=False)
        return measured

    def finish(self, provenance: Row) -> None:
        """Add the provenance to the record."""
        write_json(self.record, read_json(self.record) | {"provenance": provenance})
