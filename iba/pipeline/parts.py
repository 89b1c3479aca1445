"""Long work in small finished pieces: what makes a stage resumable, shardable and safe to kill.

A stage's table is computed in parts of a few instances. Every part is written atomically the moment it is
done; when all are there they become one table and vanish. What a table depends on is in its folder's name,
so one that is there is done.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from iba.errors import UserError
from iba.progress import progress
from iba.settings import fingerprint
from iba.store import PARTS, read_parquet, write_parquet


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
class Work:
    """One table to compute: `compute(group)` gives the rows of a group, with a column `position` that orders
    the table; `finish(rows, seconds)` stores the whole, `path` as the last of its files, with the compute
    time summed over all parts."""

    path: Path
    compute: Callable[[Sequence[int]], pd.DataFrame]
    finish: Callable[[pd.DataFrame, float], None]

    @property
    def is_finished(self) -> bool:
        """Whether the whole table is there."""
        return self.path.is_file()

    @property
    def parts(self) -> Path:
        """Where unfinished work is kept."""
        return self.path.parent / PARTS / self.path.stem


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
    works = [work for work in works if not work.is_finished]
    # Parts of another grouping (another `part_size`) are not taken for parts of this one.
    grouping = fingerprint([list(group) for group in groups])
    names = [f"{grouping}-{number:05d}.parquet" for number in range(len(groups))]
    share = range(shard.index, len(groups), shard.count)
    todo = [
        (number, [work for work in works if not (work.parts / names[number]).is_file()]) for number in share
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
                    write_parquet(work.parts / names[number], rows.assign(part_seconds=seconds))
                    bar.update(len(groups[number]))
    for work in works:
        _finish(work, [work.parts / name for name in names])


def _finish(work: Work, parts: Sequence[Path]) -> None:
    if work.is_finished or not all(path.is_file() for path in parts):
        return
    try:
        _assemble(work, parts)
    except UserError:
        # Another shard that ended at the same moment may have assembled the table and cleared the parts.
        if not work.is_finished:
            raise
    shutil.rmtree(work.parts, ignore_errors=True)
    with contextlib.suppress(OSError):  # parts of another table
        work.parts.parent.rmdir()


def _assemble(work: Work, paths: Sequence[Path]) -> None:
    parts = [read_parquet(path) for path in paths]
    seconds = float(sum(part["part_seconds"].iloc[0] for part in parts))
    whole = pd.concat(parts, ignore_index=True).sort_values("position", kind="stable")
    work.finish(whole.drop(columns=["position", "part_seconds"]).reset_index(drop=True), seconds)
