"""Stage 4: tables, figures, verdicts and the HTML page, from stored rows alone."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pandas as pd
from omegaconf import DictConfig

from iba.errors import UserError
from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import datasets, run_folder, selected
from iba.pipeline.sections import ReportPart
from iba.report import (
    agreement,
    claims,
    comparisons,
    faithfulness,
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    html,
    methods,
    methods_figure,
    planted,
    reproduction,
    right,
    sanity,
    seeds,
    study_collect,
    table1,
    table2,
    terminal,
)
from iba.report.claims.verdict import PAPER_METHODS, PAPER_SETS, PROTOCOLS
from iba.report.collect import collect
from iba.report.rows import Stored, load
from iba.report.text import Table


def run(cfg: DictConfig) -> None:
    """Redraw what `cfg.only` names (all by default)."""
    check_settings(cfg)
    wanted = list(cfg.only or get_args(ReportPart))
    if lost := left_out(cfg):
        raise UserError(lost)
    stored = load(cfg)
    collect(stored.folder, stored.how, int(cfg.report.n_examples))
    study_collect.collect(stored, int(cfg.report.n_examples))
    drawn: list[Path] = []
    if {"figures", "html"} & set(wanted):  # the page holds the figures of its rows, not those of before
        drawn = [p for part in (figure1, figure2, figure3, figure4, figure5) for p in part.write(stored)]
    compared = _compared(cfg) if {"methods", "html"} & set(wanted) else None
    overview = methods.report(compared).noted(stored.note) if compared else None
    if compared and overview:
        drawn += methods_figure.write(compared)
        if "methods" in wanted:
            overview.write(stored.folder)
    texts = set(wanted) - {"figures", "methods"}
    tables = _write_texts(cfg, stored, overview, wanted, drawn) if texts else []
    print(f"{stored.folder}: redrew {', '.join(wanted)}")
    if tables:
        terminal.show(stored.folder, tables[0].grids[0])


def left_out(cfg: DictConfig) -> str:
    """One line on what the run holds and `cfg` does not select, so tables would lose it; empty if nothing.

    Of the methods only the paper's count: the related ones have tables of their own.
    """
    stored = [path.parts[-4:-1] for path in run_folder(cfg).glob("*/*/*/degradation.parquet")]
    lost = {dataset for dataset, _, _ in stored} - {*datasets(cfg), *selected(cfg.evident)}
    lost |= {protocol for _, protocol, _ in stored} - {*selected(cfg.protocol)}
    lost |= {method for *_, method in stored if method in PAPER_METHODS} - {*selected(cfg.method)}
    if not lost:
        return ""
    return (
        f"{run_folder(cfg)} also holds {', '.join(sorted(lost))}: nothing is redrawn without them; "
        f"select them as well for scripts/report.py, or choose another folder with run=NAME."
    )


def _compared(cfg: DictConfig) -> methods.Compared:
    """All known methods on the instances that they share; what is refused is said."""
    known, traits, beside = methods.everything(cfg)
    compared = methods.compare(known, traits, beside)
    for line in compared.refused.values():
        print(line)
    return compared


def _write_texts(
    cfg: DictConfig, stored: Stored, overview: Table | None, wanted: list[str], drawn: list[Path]
) -> list[Table]:
    """Write tables, verdicts and the page; returns the tables, Table 1 first, where any were made."""
    tests = comparisons.all_pairs(stored)
    tables = _tables(stored, tests) if {"tables", "html"} & set(wanted) else []
    if "tables" in wanted:
        for table in tables:
            table.write(stored.folder)
    if "verdicts" in wanted or "html" in wanted:
        judged = claims.judge(stored, tests)
        if "verdicts" in wanted:
            # A run under another name, such as that of another seed, keeps its verdicts to itself.
            own = cfg.report.verdicts and str(cfg.run) == str(cfg.preset_name)
            if own and not _whole(stored):
                print(f"{cfg.report.verdicts} stays as it is: not all of the paper's cells are selected.")
                own = False
            reproduction.write(stored, judged, Path(cfg.report.verdicts) if own else None)
        if "html" in wanted:
            shown = [*tables, *([overview] if overview else [])]
            html.write(stored, judged, [grid for table in shown for grid in table.grids], drawn)
    return tables


def _whole(stored: Stored) -> bool:
    """Whether all that the claims are judged by is selected, stored or not."""
    names = stored.names
    return (
        names.datasets.keys() >= {*PAPER_SETS}
        and names.methods.keys() >= {*PAPER_METHODS}
        and names.protocols.keys() >= {*PROTOCOLS}
    )


def _tables(stored: Stored, tests: pd.DataFrame) -> list[Table]:
    """All tables of the run but that of all methods, in the order of the page."""
    others = (right, planted, table2, faithfulness, seeds, agreement, sanity)
    tables = [table1.report(stored, tests), *(part.report(stored) for part in others)]
    return [table.noted(stored.note) for table in tables]
