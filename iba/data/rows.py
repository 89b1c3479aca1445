"""Rows of Arrow tables as sequences of objects, of which few exist at a time however large the table."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, SupportsIndex, TypeVar, overload

import numpy as np
import pyarrow as pa
from datasets import Dataset

T = TypeVar("T")
Same = TypeVar("Same", bound="Rows[Any]")

#: Rows that are Python objects at a time where all are walked through.
_AT_A_TIME = 256


class Rows(Sequence[T]):
    """The rows of `table`, each made into an object when it is asked for; a slice is of the same kind."""

    def __init__(self, table: Dataset) -> None:
        self.table = table

    @staticmethod
    @abstractmethod
    def _made(row: Mapping[str, Any]) -> T:
        """A row as an object."""

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, position: SupportsIndex) -> T: ...
    @overload
    def __getitem__(self: Same, position: slice) -> Same: ...
    def __getitem__(self, position: SupportsIndex | slice) -> Any:
        chosen = range(len(self))[position]
        return self.pick(chosen) if isinstance(chosen, range) else self._made(self.table[chosen])

    def __iter__(self) -> Iterator[T]:
        for batch in self.table.iter(_AT_A_TIME):
            for values in zip(*batch.values(), strict=True):
                yield self._made(dict(zip(batch, values, strict=True)))

    def pick(self: Same, positions: Sequence[int] | np.ndarray) -> Same:
        """The rows at `positions`, in that order."""
        return type(self)(Dataset(self.table.data.table.take(pa.array(positions, pa.int64()))))
