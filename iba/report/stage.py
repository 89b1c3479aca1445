"""Stage 4: tables, figures, verdicts and the HTML page, from stored rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pandas as pd
from omegaconf import DictConfig

from iba.errors import UserError
from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import run_folder, selected
from iba.pipeline.sections import ReportPart
from iba.report import (
    claims,
    drawing,
    figure1,
    figure2,
    figure3,
    figure4,
    html,
    methods_figure,
    reproduction,
    tables,
    terminal,
)
from iba.report.agreement import agreement
from iba.report.claims.checks import PAPER_METHODS, PAPER_SETS, PROTOCOLS
from iba.report.methods import compare_methods, methods
from iba.report.sanity import sanity
from iba.report.seeds import seeds
from iba.report.stored import CELL, Stored, load

FIGURES = (figure1, figure2, figure3, figure4)
#: Every table of the run but Table 1 and that of all methods, in the order of the page.
TABLES = (
    tables.table1_right,
    tables.planted,
    tables.table2,
    tables.faithfulness,
    seeds,
    agreement,
    sanity,
)


def run(cfg: DictConfig) -> None:
    """Redraw what `cfg.only` names (all by default); what the page shows is drawn for it."""
    check_settings(cfg)
    wanted = set(cfg.only or get_args(ReportPart))
    if lost := left_out(cfg):
        raise UserError(lost)
    stored = load(cfg)
    drawn: list[tuple[Path, str]] = []
    if wanted & {"figures", "html"}:
        drawn = [found for figure in FIGURES for found in drawing.write(stored, figure.pictures(stored))]
    overview = []
    if wanted & {"methods", "html"}:
        compared = compare_methods(stored, str(cfg.report.methods_protocol))
        print(*compared.refused.values(), sep="\n", end="\n" if compared.refused else "")
        overview = [methods(compared).noted(stored.note)]
        drawn += drawing.write(stored, methods_figure.pictures(compared))
    shown = []
    if wanted & {"tables", "html"}:
        shown = [t.noted(stored.note) for t in (tables.table1(stored), *(make(stored) for make in TABLES))]
    for table in [*(shown if "tables" in wanted else []), *(overview if "methods" in wanted else [])]:
        table.write(stored.folder)
    if wanted & {"verdicts", "html"}:
        judged = claims.judge(stored)
        if "verdicts" in wanted:
            reproduction.write(stored, judged, _copy(cfg, stored))
        if "html" in wanted:
            grids = [grid for table in [*shown, *overview] for grid in table.grids]
            html.write(stored, judged, grids, drawn)
    print(f"{stored.folder}: redrew {', '.join(cfg.only or get_args(ReportPart))}")
    if shown:
        terminal.show(stored.folder, shown[0].grids[0])


def left_out(cfg: DictConfig) -> str:
    """One line on what the run's Table 1 has and `cfg` does not select, so that it would lose it; empty if
    nothing."""
    path = run_folder(cfg) / "table1.csv"
    kept = pd.read_csv(path, usecols=CELL, dtype=str) if path.is_file() else pd.DataFrame(columns=CELL)
    lost = {name for group in CELL for name in {*kept[group]} - {*selected(cfg[group])}}
    if not lost:
        return ""
    return (
        f"{run_folder(cfg)} also holds {', '.join(sorted(lost))}: nothing is redrawn without them; "
        f"select them as well for scripts/report.py, or choose another folder with run=NAME."
    )


def _copy(cfg: DictConfig, stored: Stored) -> Path | None:
    """Where the verdicts go besides the run's folder: a run under another name, such as that of another seed,
    keeps them to itself, and so does one of which not all that the claims are judged by is selected."""
    if not cfg.report.verdicts or str(cfg.run) != str(cfg.preset_name):
        return None
    names = stored.names
    groups = (names.datasets, PAPER_SETS), (names.methods, PAPER_METHODS), (names.protocols, PROTOCOLS)
    if all(chosen.keys() >= {*needed} for chosen, needed in groups):
        return Path(cfg.report.verdicts)
    print(f"{cfg.report.verdicts} stays as it is: not all of the paper's cells are selected.")
    return None
