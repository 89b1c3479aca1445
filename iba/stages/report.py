"""Stage 4: tables, figures, verdicts and the HTML page, from stored rows alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from iba.errors import UserError
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
    sanity,
    seeds,
    study_collect,
    table1,
    table2,
)
from iba.report.collect import collect
from iba.report.rows import Stored, load
from iba.report.text import Grid

SECTIONS = ("tables", "methods", "figures", "verdicts", "html")


def run(cfg: DictConfig) -> None:
    """Redraw what `cfg.only` names (all by default)."""
    wanted = list(cfg.only or SECTIONS)
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        raise UserError(f"report section {unknown[0]!r} is unknown; choose from {', '.join(SECTIONS)}.")
    stored = load(cfg)
    collect(stored, int(cfg.report.n_examples))
    study_collect.collect(stored, int(cfg.report.n_examples))
    if "figures" in wanted:
        for figure in (figure1, figure2, figure3, figure4, figure5):
            figure.write(stored)
    compared = _compared(cfg, stored) if {"methods", "html"} & set(wanted) else None
    if compared and "methods" in wanted:
        methods.write(compared)
        methods_figure.write(compared)
    if set(wanted) - {"figures", "methods"}:
        _write_texts(cfg, stored, compared, wanted)
    print(f"{stored.folder}: redrew {', '.join(wanted)}")


def _compared(cfg: DictConfig, stored: Stored) -> methods.Compared:
    """All known methods on the instances that they share; what is refused is said."""
    known, traits, beside = methods.everything(cfg)
    collect(known, int(cfg.report.n_examples))
    compared = methods.compare(known, traits, beside)
    for line in compared.refused.values():
        print(line)
    return compared


def _write_texts(
    cfg: DictConfig, stored: Stored, compared: methods.Compared | None, wanted: list[str]
) -> None:
    tests = comparisons.all_pairs(stored)
    if "tables" in wanted:
        comparisons.write(stored, tests)
        table1.write(stored, tests)
        table2.write(stored)
        faithfulness.write(stored)
        planted.write(stored)
        for part in (seeds, sanity, agreement):
            part.write(stored)
    if "verdicts" in wanted or "html" in wanted:
        judged = claims.judge(stored, tests)
        if "verdicts" in wanted:
            copy = Path(cfg.report.verdicts) if cfg.report.verdicts else None
            reproduction.write(stored, judged, copy)
        if "html" in wanted:
            tables = _grids(stored, tests) + (methods.grids(compared) if compared else [])
            html.write(stored, judged, tables)


def _grids(stored: Stored, tests: pd.DataFrame) -> list[Grid]:
    """All tables of the page, Table 1 first."""
    recalls = planted.table(stored)
    return [
        *table1.grids(stored, table1.table(stored), tests),
        *([] if recalls is None or recalls.empty else [planted.grid(stored, recalls)]),
        table2.grid(stored, table2.table(stored)),
        *faithfulness.grids(stored, faithfulness.table(stored)),
        *[part.grid(stored, rows) for part in (seeds, agreement) if not (rows := part.table(stored)).empty],
        *sanity.grids(stored, sanity.table(stored)),
    ]
