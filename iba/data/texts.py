"""One's own texts: from a file with one a line, from a table, or from standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from iba.errors import UserError

STDIN = "-"
#: How a table is read, by the end of the file's name; every other file holds one text a line.
_TABLES: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": partial(pd.read_csv, dtype=str, keep_default_na=False, encoding="utf-8-sig"),
    ".json": partial(pd.read_json, dtype=False, encoding="utf-8-sig"),
    ".jsonl": partial(pd.read_json, lines=True, dtype=False, encoding="utf-8-sig"),
    ".parquet": pd.read_parquet,
}


@dataclass(frozen=True)
class OwnText:
    """A text, or a pair, and the class to explain (None: the predicted one).

    `row` numbers it, from 1, in its `source`; a single text has no source.
    """

    text: str
    text_pair: str | None = None
    target: str | int | None = None
    source: str = ""
    row: int = 1

    @property
    def place(self) -> str:
        """Where the text stands, to begin a message with."""
        return f"{self.source}, row {self.row}: " if self.source else ""

    @classmethod
    def of(
        cls, text: Any, text_pair: Any = None, target: Any = None, source: str = "", row: int = 1
    ) -> OwnText:
        """From what was given; `UserError` unless it is text."""
        place = cls("", source=source, row=row).place
        for which, given in (("text", text), ("text_pair", text_pair)):
            if not (isinstance(given, str) or (which == "text_pair" and given is None)):
                raise UserError(f"{place}{which} is {given!r}; it must be text.")
            if given is not None and not given.strip():
                raise UserError(f"{place}{which} is empty: there is nothing to explain.")
        return cls(text, text_pair, None if target == "" else target, source, row)


def read_texts(source: str | Path) -> list[OwnText]:
    """Texts from `source`: "-", standard input, and files of any other name hold one a line (empty lines are
    passed over) or, parted by a tab, the two texts of a pair; .csv, .json(l) and .parquet have the columns
    `text` and, where wanted, `text_pair` and `target`, the class to explain.

    Raises `UserError` for a missing file or column, and for what is neither text nor a table.
    """
    path = Path(source)
    if str(source) != STDIN and not path.is_file():
        raise UserError(
            f"no file {path}: give texts, one a line, or a table with a column text (.csv, .jsonl, .parquet)."
        )
    try:
        if read := _TABLES.get(path.suffix.lower()):
            return _of_table(read(path), path)
        return _of_lines(sys.stdin.read() if str(source) == STDIN else path.read_text("utf-8-sig"), source)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path} cannot be read as its name says ({reason}).") from error


def _of_lines(content: str, source: str | Path) -> list[OwnText]:
    name, found = "standard input" if str(source) == STDIN else str(source), []
    for row, line in enumerate(content.split("\n"), start=1):
        first, tab, second = line.partition("\t")
        if line.strip():
            found.append(OwnText.of(first, second if tab else None, source=name, row=row))
    return found


def _of_table(table: pd.DataFrame, path: Path) -> list[OwnText]:
    if "text" not in table:
        raise UserError(f"{path}: no column 'text'; the file has {list(map(str, table.columns))}.")
    table = table.convert_dtypes()  # else whole numbers beside nothing are floats
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [
        OwnText.of(row["text"], row.get("text_pair"), row.get("target"), str(path), number)
        for number, row in enumerate(rows, start=1)
    ]


def own_texts(
    texts: Sequence[Any], source: str, targets: Sequence[str | int | None] | None = None
) -> list[OwnText]:
    """Texts (or pairs) that were given in Python under the name `source`; a single string is refused."""
    if isinstance(texts, str):
        raise UserError(f"{source} is one string: give a list of texts, such as [{texts[:20]!r}].")
    if targets is not None and len(targets) != len(texts):
        raise UserError(f"{len(targets)} targets were given for {len(texts)} {source}.")
    pairs = [given if isinstance(given, tuple) and len(given) == 2 else (given, None) for given in texts]
    return [
        OwnText.of(pair[0], pair[1], target, source, row)
        for row, (pair, target) in enumerate(zip(pairs, targets or [None] * len(pairs), strict=True), start=1)
    ]
