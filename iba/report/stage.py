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
    html,
    methods_figure,
    reproduction,
    single_texts,
    study_figures,
    tables,
    terminal,
)
from iba.report.claims.checks import PAPER_METHODS, PAPER_SETS, PROTOCOLS
from iba.report.stored import CELL, Stored, load
from iba.report.tables.methods import compare_methods

FIGURES = (figure1, study_figures, single_texts)


def run(cfg: DictConfig) -> None:
    """Redraw what `cfg.only` names (all by default); what the page shows is drawn for it."""
    check_settings(cfg)
    wanted = set(cfg.only or get_args(ReportPart))
    if lost := left_out(cfg):
        raise UserError(lost)
    stored = load(cfg)
    shown = {part for part in get_args(ReportPart) if wanted & {part, "html"}}
    drawn: list[tuple[Path, str]] = []
    if "figures" in shown:
        drawn = [found for figure in FIGURES for found in drawing.write(stored, figure.pictures(stored))]
    if "methods" in shown:
        drawn += drawing.write(stored, methods_figure.pictures(compare_methods(stored)))
    made = [(spec.part, spec.make(stored)) for spec in tables.every() if spec.part in shown]
    for part, table in made:
        if part in wanted:
            table.write(stored.folder)
    if "verdicts" in shown:
        judged = claims.judge(stored)
        if "verdicts" in wanted:
            reproduction.write(stored, judged, _copy(cfg, stored))
        if "html" in wanted:
            grids = [grid for _, table in made for grid in table.grids]
            html.write(stored, judged, grids, drawn)
    print(f"{stored.folder}: redrew {', '.join(cfg.only or get_args(ReportPart))}")
    if "tables" in shown:
        terminal.show(stored.folder, made[0][1].grids[0])


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
