"""The tables of the report: every module here with a `TABLE` is one; a new table is a new file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pandas as pd

from iba.pipeline.sections import ReportPart
from iba.report.stored import Stored
from iba.report.text import Grid, latex, markdown, write_csv, write_text

Rows = Callable[[Stored], pd.DataFrame]
Grids = Iterator[Grid]


@dataclass(frozen=True)
class Spec:
    """A table: its `rows`, and the `grids` that show them, if there are any.

    `place` on the page, ascending; `part` of the report that it belongs to; `label` for LaTeX, the name where
    it is empty; `beside`: rows that are stored with it, by the name of their file.
    """

    name: str
    place: int
    rows: Rows
    grids: Callable[[Stored, pd.DataFrame], Grids]
    label: str = ""
    part: ReportPart = "tables"
    beside: Mapping[str, Rows] = field(default_factory=dict)

    def make(self, stored: Stored) -> Table:
        """The table of a run, with what the run is under its first grid."""
        rows = self.rows(stored)
        grids = [*self.grids(stored, rows)] if len(rows) else []
        if grids and stored.note:
            grids[0] = replace(grids[0], notes=[*grids[0].notes, stored.note])
        return Table(self, rows, grids, {name: make(stored) for name, make in self.beside.items()})


@dataclass(frozen=True)
class Table:
    """The rows and grids of a run, and the rows `beside` them."""

    spec: Spec
    rows: pd.DataFrame
    grids: Sequence[Grid]
    beside: Mapping[str, pd.DataFrame]

    def write(self, folder: Path) -> None:
        """Store the rows as `<name>.csv`, the grids as `<name>.md` and `.tex`, where there are any."""
        for name, rows in {self.spec.name: self.rows, **self.beside}.items():
            if len(rows):
                write_csv(folder / f"{name}.csv", rows)
        if self.grids:
            label = self.spec.label or self.spec.name
            labels = [label, *(f"{label}-{i}" for i in range(1, len(self.grids)))]
            write_text(folder / f"{self.spec.name}.md", "\n".join(map(markdown, self.grids)))
            write_text(folder / f"{self.spec.name}.tex", "\n".join(map(latex, self.grids, labels)))


def every() -> list[Spec]:
    """All tables, in the order of the page."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return sorted((module.TABLE for module in modules), key=lambda spec: spec.place)


def ordered(rows: pd.DataFrame, order: Mapping[str, Iterable[Any]]) -> pd.DataFrame:
    """The rows that have the values in `order`, as categories and sorted by them, else as they were."""
    kinds = {name: rows[name].astype("category").cat.set_categories([*of]) for name, of in order.items()}
    return rows.assign(**kinds).dropna(subset=[*order]).sort_values([*order], kind="stable")


def kept(path: Path, rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """`rows` and, of the table that is stored in `path`, those whose token scores are not stored; in the
    order of before."""
    if not path.is_file():
        return rows
    old, new = pd.read_csv(path), rows.astype(dict.fromkeys(keys, str))
    places = pd.concat([old, new])[list(keys)].drop_duplicates()
    return places.merge(pd.concat([new, old]).drop_duplicates(keys), on=list(keys))
