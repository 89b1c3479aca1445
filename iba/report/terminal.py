"""Table 1 in the terminal, and where the run's table, page and figures lie."""

from __future__ import annotations

import os
import re
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from iba.report.text import Grid

_FIGURES = [f"figures/figure{name}.png" for name in ("1", "2a", "2b", "3", "4", "5")]
_CAPTION = "*: larger than every other method (paired test); intervals: table1.md"


def show(folder: Path, grid: Grid) -> None:
    """Print the side-by-side grid of Table 1, and which of its files the run in `folder` has."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 100  # a pipe has no width of its own
    console.print(_table(grid))
    for path in (folder / name for name in ("table1.md", "report.html", *_FIGURES)):
        if path.is_file():
            console.print(Text(os.path.relpath(path)), soft_wrap=True)


def _table(grid: Grid) -> Table:
    """A section per data set; intervals and columns of dashes alone are left out."""
    kept = [place for place, cells in enumerate(zip(*grid.rows, strict=True)) if {*cells} != {"–"}]
    table = Table(title=grid.caption, caption=_CAPTION, box=SIMPLE)
    for place in kept:
        table.add_column(grid.heads[place], justify="left" if place < 2 else "right")
    for dataset, section in groupby(grid.rows, itemgetter(0)):
        for number, row in enumerate(section):
            cells = ["" if number else dataset, *row[1:]]
            table.add_row(*(_cell(cells[place]) for place in kept))
        table.add_section()
    return table


def _cell(text: str) -> Text:
    """Without its interval; a winner is bold and, for a pipe, has a star."""
    plain = re.sub(r" \[.*\]", "", text)
    return Text(f"*{plain.strip('*')}", "bold") if plain.startswith("**") else Text(plain)
