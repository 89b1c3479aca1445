"""Long work in small finished pieces: what makes a stage resumable, shardable and safe to kill.

A stage's table is computed in parts of a few instances. Every part is written atomically the moment it is
done; when all are there they become one table and vanish. `<name>.json` beside them records what the
table depends on: the same settings continue or skip, other settings are refused.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from iba.errors import UserError
from iba.pipeline.store import (
    PARTS,
    differences,
    fingerprint,
    plain,
    read_json,
    read_parquet,
    write_json,
    write_parquet,
)
from iba.progress import progress


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` equal shares of the work."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "i/n" with 0 <= i < n."""
        index, _, count = text.partition("/")
        if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
            raise UserError(f"shard={text} is not of the form i/n with 0 <= i < n, such as shard=0/4.")
        return cls(int(index), int(count))


@dataclass(frozen=True)
class StageTable:
    """A stored table `folder/name.parquet` and the settings that it depends on.

    `feeds`: the tables beside it that are made from it; they go when it is made anew, as other code might
    make it otherwise from the same settings.
    """

    folder: Path
    name: str
    settings: dict[str, Any]
    feeds: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The finished table."""
        return self.folder / f"{self.name}.parquet"

    @property
    def record(self) -> Path:
        """The JSON file with settings and provenance."""
        return self.folder / f"{self.name}.json"

    def is_finished(self) -> bool:
        """Whether the table is there; raises `UserError` if it (or its beginning) was made otherwise."""
        if self.record.is_file():
            stored = read_json(self.record)["settings"]
            changed = differences(stored, plain(self.settings))
            if changed:
                raise UserError(
                    f"{self.folder} holds {self.name} made with other settings ({'; '.join(changed[:3])}): "
                    f"choose another folder with run=NAME, or delete {self.folder}."
                )
        return self.path.is_file() and self.record.is_file()

    def holds_the_same(self) -> bool:
        """Whether a finished table made from the same settings is there; never raises for another one."""
        if not (self.path.is_file() and self.record.is_file()):
            return False
        return not differences(read_json(self.record)["settings"], plain(self.settings))

    def claim(self) -> None:
        """Record the settings before any work is done."""
        if not self.record.is_file():
            write_json(self.record, {"settings": plain(self.settings)})

    def finish(self, table: pd.DataFrame, provenance: dict[str, Any]) -> None:
        """Store the whole table with its provenance. The table comes last: it says that all is done."""
        self._clear_fed()
        write_json(self.record, {"settings": plain(self.settings), "n": len(table), "provenance": provenance})
        write_parquet(self.path, table)

    def adopt(self, twin: StageTable, same_as: str, **columns: Any) -> None:
        """Take over a finished table made from the same settings elsewhere, with `columns` changed."""
        self._clear_fed()
        write_json(self.record, read_json(twin.record) | {"same_as": same_as})
        write_parquet(self.path, twin.read().assign(**columns))
        self.clear_parts()

    def _clear_fed(self) -> None:
        for name in self.feeds:
            fed = replace(self, name=name, feeds=())
            fed.path.unlink(missing_ok=True)
            fed.record.unlink(missing_ok=True)
            fed.clear_parts()

    @property
    def parts(self) -> Path:
        """Where unfinished work is kept."""
        return self.folder / PARTS / self.name

    def clear_parts(self) -> None:
        """Forget the unfinished work."""
        shutil.rmtree(self.parts, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.parts.parent.rmdir()

    def read(self, columns: list[str] | None = None) -> pd.DataFrame:
        """The finished table."""
        return read_parquet(self.path, columns)


@dataclass(frozen=True)
class Work:
    """One table to compute: `compute(group)` gives the rows of a group, with a column `position` that orders
    the table; `provenance(seconds)` is asked at the end, with the compute time summed over all parts."""

    table: StageTable
    compute: Callable[[Sequence[int]], pd.DataFrame]
    provenance: Callable[[float], dict[str, Any]]


def compute_in_parts(
    works: Sequence[Work],
    groups: Sequence[Sequence[int]],
    shard: Shard,
    label: str,
    together: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
) -> None:
    """Compute the groups of `shard` that are not stored yet; assemble a table once all its groups are.

    Group after group, for all tables: `together()` is held during a group, so that tables on the same
    instances can share work.
    """
    works = [work for work in works if not work.table.is_finished()]
    for work in works:
        work.table.claim()
    # Parts of another grouping (another `part_size`) are not taken for parts of this one.
    grouping = fingerprint([list(group) for group in groups])
    names = [f"{grouping}-{number:05d}.parquet" for number in range(len(groups))]
    share = range(shard.index, len(groups), shard.count)
    todo = [
        (number, [work for work in works if not (work.table.parts / names[number]).is_file()])
        for number in share
    ]
    left = sum(len(groups[number]) * len(missing) for number, missing in todo)
    total = sum(len(groups[number]) for number in share) * len(works)
    off = None if works else True
    with progress(total=total, initial=total - left, desc=label, unit="inst", disable=off) as bar:
        for number, missing in todo:
            with together():
                for work in missing:
                    started = time.monotonic()
                    rows = work.compute(groups[number])
                    seconds = time.monotonic() - started
                    write_parquet(work.table.parts / names[number], rows.assign(part_seconds=seconds))
                    bar.update(len(groups[number]))
    for work in works:
        _finish(work, [work.table.parts / name for name in names])


def _finish(work: Work, parts: Sequence[Path]) -> None:
    if work.table.is_finished() or not all(path.is_file() for path in parts):
        return
    try:
        _assemble(work, parts)
    except UserError:
        # Another shard that ended at the same moment may have assembled the table and cleared the parts.
        if not work.table.is_finished():
            raise
    work.table.clear_parts()


def _assemble(work: Work, paths: Sequence[Path]) -> None:
    parts = [read_parquet(path) for path in paths]
    seconds = float(sum(part["part_seconds"].iloc[0] for part in parts))
    whole = pd.concat(parts, ignore_index=True).sort_values("position", kind="stable")
    rows = whole.drop(columns=["position", "part_seconds"]).reset_index(drop=True)
    work.table.finish(rows, work.provenance(seconds))
