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

#: What a key is called in a table.
HEADS = {"dataset": "data set", "kind": "between", "contrast": "difference"}
#: What the value of a key is called.
Say = Callable[[str, Any], str]
#: What is written of a row.
Write = Callable[[Any], str]
Texts = Sequence[str]
_SIGNS = {"±": "pm", "β": "beta", "↑": "uparrow", "↓": "downarrow", "≤": "le", "×": "times", "†": "dagger"}
_LATEX = str.maketrans(
    {"−": "$-$"} | {sign: rf"\{sign}" for sign in "&%_#"} | {s: rf"$\{name}$" for s, name in _SIGNS.items()}
)
_MARKUP = re.compile(r"\*\*(.+?)\*\*|`(.+?)`")


@dataclass(frozen=True)
class Grid:
    """A table as text: a caption, column heads, rows, notes. Cells may hold **bold** and `code`."""

    caption: str
    heads: Texts
    rows: Sequence[Texts]
    notes: Texts = field(default_factory=list)


def number(value: float, digits: int = 3) -> str:
    """A number with a true minus sign; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:z.{digits}f}".replace("-", "−")


def interval(low: float, high: float, digits: int = 3) -> str:
    """The two ends of an interval."""
    return "" if math.isnan(low) else f"[{number(low, digits)}, {number(high, digits)}]"


def estimate(row: Any, value: str = "estimate", ends: str = "ci", digits: int = 3) -> str:
    """A number of a row with its interval, `<ends>_low` to `<ends>_high`."""
    low, high = getattr(row, f"{ends}_low"), getattr(row, f"{ends}_high")
    return f"{number(getattr(row, value), digits)} {interval(low, high, digits)}".strip()


def p_value(value: float) -> str:
    """A p-value; small ones as a bound, which is as much as the permutations resolve; a dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"p < {SMALLEST_P:g}" if value < SMALLEST_P else f"p = {value:.3f}"


def tested(row: Any) -> str:
    """A difference with its interval and corrected p, of a row of `compare`."""
    return f"{estimate(row, 'difference')}, {p_value(row.p_holm)}"


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
    caption: str, say: Say, rows: pd.DataFrame, keys: Texts, columns: Mapping[str, Write], notes: Texts = ()
) -> Grid:
    """A line per row: its `keys`, named by `say`, then `columns` (head → text of the row)."""
    lines = [
        [*(say(key, getattr(row, key)) for key in keys), *(text(row) for text in columns.values())]
        for row in rows.itertuples()
    ]
    return Grid(caption, [*(HEADS.get(key, key) for key in keys), *columns], lines, notes)


def crossed(
    caption: str, say: Say, rows: pd.DataFrame, keys: Texts, across: str, write: Write, notes: Texts = ()
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


def markdown(grid: Grid) -> str:
    """The grid as a GitHub table with its caption as a heading and its notes as a list."""
    lines = [grid.heads, ["---"] * len(grid.heads), *grid.rows]
    table = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    notes = ["", *(f"- {note}" for note in grid.notes)] if grid.notes else []
    return "\n".join([f"### {grid.caption}", "", *table, *notes, ""])


def latex(grid: Grid, label: str) -> str:
    """The grid as a `table` environment for the booktabs package, notes in small print below it."""
    frame = pd.DataFrame(grid.rows, columns=[*map(_tex, grid.heads)]).map(_tex)
    body = frame.to_latex(index=False, escape=False, caption=_tex(grid.caption), label=f"tab:{label}")
    notes = "".join(f"\\par\\footnotesize {_tex(note)}\n" for note in grid.notes)
    return body.replace("\\end{table}", f"{notes}\\end{{table}}")


def _tex(text: str) -> str:
    """Escape for LaTeX; **bold** and `code` become commands."""
    escaped = text.translate(_LATEX).replace("p̄", r"$\bar{p}$")
    return _MARKUP.sub(lambda m: rf"\textbf{{{m[1]}}}" if m[1] else rf"\texttt{{{m[2]}}}", escaped)


def write_text(path: Path, text: str) -> Path:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def write_csv(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as CSV, atomically, numbers with six significant digits."""
    return write_text(path, table.to_csv(index=False, float_format="%.6g"))
