"""What tables share: numbers as text, Markdown and LaTeX from one grid of cells, atomic text files."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from iba.evaluation.stats import SMALLEST_P
from iba.store import atomic

#: What a key, or its value, is called in a table.
HEADS = {"dataset": "data set", "kind": "between", "contrast": "difference"}
Say = Callable[[str, Any], str]
#: Digits behind the point of probabilities.
DIGITS = 3
_LATEX = {"&": r"\&", "%": r"\%", "_": r"\_", "#": r"\#", "±": r"$\pm$", "−": "$-$", "β": r"$\beta$"}
_LATEX |= {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "≤": r"$\le$", "×": r"$\times$", "†": r"$\dagger$"}
_MARKUP = re.compile(r"\*\*(.+?)\*\*|`(.+?)`")


@dataclass(frozen=True)
class Grid:
    """A table as text: a caption, column heads, rows, notes. Cells may hold **bold** and `code`."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """Rows, stored as `<name>.csv`, and the text of them, stored as `<name>.md` and `.tex`; without rows or
    grids there are no such files. `beside`: rows that belong to it, by the name of their own CSV file."""

    name: str
    rows: pd.DataFrame
    grids: Sequence[Grid]
    label: str
    beside: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Store the files, if there is anything to store."""
        for name, rows in ({self.name: self.rows} | dict(self.beside)).items():
            if len(rows):
                write_csv(folder / f"{name}.csv", rows)
        labels = [self.label, *(f"{self.label}-{i}" for i in range(1, len(self.grids)))]
        if self.grids:
            tex = map(latex, self.grids, labels)
            write_text(folder / f"{self.name}.md", "\n".join(map(markdown, self.grids)))
            write_text(folder / f"{self.name}.tex", "\n".join(tex))


def number(value: float | None, digits: int = DIGITS) -> str:
    """A number with a true minus sign; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    text = f"{value:.{digits}f}"
    return text.replace("-", "−") if float(text) else f"{0:.{digits}f}"


def interval(low: float, high: float, digits: int = DIGITS) -> str:
    """The two ends of an interval."""
    return "" if math.isnan(low) else f"[{number(low, digits)}, {number(high, digits)}]"


def estimate(row: Any, digits: int = DIGITS) -> str:
    """An estimate with its interval, of a row of `summarise`."""
    return f"{number(row.estimate, digits)} {interval(row.ci_low, row.ci_high, digits)}".strip()


def p_value(value: float) -> str:
    """A p-value; small ones as a bound, which is as much as the permutations resolve; a dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"p < {SMALLEST_P:g}" if value < SMALLEST_P else f"p = {value:.3f}"


def tested(row: Any) -> str:
    """A difference with its interval and corrected p, of a row of `compare`."""
    return f"{number(row.difference)} {interval(row.ci_low, row.ci_high)}, {p_value(row.p_holm)}"


def share(value: float) -> str:
    """A share in per cent."""
    return f"{100 * value:.1f} %"


def span(numbers: Iterable[int]) -> str:
    """One number, or the smallest and the largest of several."""
    ends = sorted(set(numbers))
    return f"{ends[0]} to {ends[-1]}" if len(ends) > 1 else f"{ends[0]}"


def strong(text: str, chosen: bool) -> str:
    """With its first number in bold, if chosen."""
    value, _, rest = text.partition(" ")
    return f"**{value}** {rest}".strip() if chosen else text


def listed(
    caption: str,
    say: Say,
    rows: pd.DataFrame,
    keys: Sequence[str],
    columns: Mapping[str, Callable[[Any], str]],
    notes: Sequence[str] = (),
) -> Grid:
    """A line per row: its `keys`, named by `say`, then `columns` (head → text of the row)."""
    lines = [
        [*(say(key, getattr(row, key)) for key in keys), *(text(row) for text in columns.values())]
        for row in rows.itertuples()
    ]
    return Grid(caption, [*(HEADS.get(key, key) for key in keys), *columns], lines, notes)


def crossed(
    caption: str,
    say: Say,
    rows: pd.DataFrame,
    keys: Sequence[str],
    across: str,
    write: Callable[[Any], str],
    notes: Sequence[str] = (),
) -> Grid:
    """A line per value of `keys`, in the order of `rows`, and a column per value of the key `across`, in the
    order of its categories: what is written of the row that has both, a dash where there is none."""
    lines: dict[tuple[Any, ...], dict[Any, str]] = {}
    for row in rows.itertuples():
        lines.setdefault(tuple(getattr(row, key) for key in keys), {})[getattr(row, across)] = write(row)
    order = rows[across].astype("category").cat.remove_unused_categories().cat.categories
    heads = [*(HEADS.get(key, key) for key in keys), *(say(across, value) for value in order)]
    cells = [[*map(say, keys, at), *(text.get(value, "–") for value in order)] for at, text in lines.items()]
    return Grid(caption, heads, cells, notes)


def markdown(grid: Grid, level: int = 3) -> str:
    """The grid as a GitHub table with its caption as a heading and its notes as a list."""
    lines = [f"{'#' * level} {grid.caption}", "", _md_row(grid.heads), _md_row(["---"] * len(grid.heads))]
    lines += [_md_row(row) for row in grid.rows]
    if grid.notes:
        lines += ["", *(f"- {note}" for note in grid.notes)]
    return "\n".join(lines) + "\n"


def _md_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def latex(grid: Grid, label: str) -> str:
    """The grid as a `table` environment for the booktabs package, notes in small print below it."""
    plain = pd.DataFrame([[_tex(c) for c in row] for row in grid.rows], columns=[_tex(h) for h in grid.heads])
    body = plain.to_latex(
        index=False,
        escape=False,
        caption=_tex(grid.caption),
        label=f"tab:{label}",
        column_format="l" * len(grid.heads),
    )
    notes = "".join(f"\\par\\footnotesize {_tex(note)}\n" for note in grid.notes)
    return body.replace("\\end{table}", f"{notes}\\end{{table}}")


def _tex(text: str) -> str:
    """Escape for LaTeX; **bold** and `code` become commands."""
    parts = re.split("(p̄)", text)
    escaped = "".join(r"$\bar{p}$" if p == "p̄" else "".join(_LATEX.get(c, c) for c in p) for p in parts)
    return _MARKUP.sub(lambda m: rf"\textbf{{{m[1]}}}" if m[1] else rf"\texttt{{{m[2]}}}", escaped)


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV, atomically, numbers with six significant digits."""
    return write_text(path, table.to_csv(index=False, float_format="%.6g"))
