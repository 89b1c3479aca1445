"""Stage 4: tables, figures, verdicts and the HTML page, from stored rows alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from iba.errors import UserError
from iba.report import (
    claims,
    comparisons,
    faithfulness,
    figure1,
    html,
    planted,
    reproduction,
    table1,
    table2,
)
from iba.report.collect import collect
from iba.report.rows import Stored, load
from iba.report.text import Grid

SECTIONS = ("tables", "figures", "verdicts", "html")


def run(cfg: DictConfig) -> None:
    """Redraw what `cfg.only` names (all by default)."""
    wanted = list(cfg.only or SECTIONS)
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        raise UserError(f"report section {unknown[0]!r} is unknown; choose from {', '.join(SECTIONS)}.")
    stored = load(cfg)
    collect(stored, int(cfg.report.n_examples))
    if "figures" in wanted:
        figure1.write(stored)
    if set(wanted) != {"figures"}:
        _write_texts(cfg, stored, wanted)
    print(f"{stored.folder}: redrew {', '.join(wanted)}")


def _write_texts(cfg: DictConfig, stored: Stored, wanted: list[str]) -> None:
    tests = comparisons.all_pairs(stored)
    if "tables" in wanted:
        comparisons.write(stored, tests)
        table1.write(stored, tests)
        table2.write(stored)
        faithfulness.write(stored)
        planted.write(stored)
    if "verdicts" in wanted or "html" in wanted:
        judged = claims.judge(stored, tests)
        if "verdicts" in wanted:
            copy = Path(cfg.report.verdicts) if cfg.report.verdicts else None
            reproduction.write(stored, judged, copy)
        if "html" in wanted:
            html.write(stored, judged, _grids(stored, tests))


def _grids(stored: Stored, tests: pd.DataFrame) -> list[Grid]:
    """All tables of the page, Table 1 first."""
    recalls = planted.table(stored)
    return [
        *table1.grids(stored, table1.table(stored), tests),
        *([] if recalls is None or recalls.empty else [planted.grid(stored, recalls)]),
        table2.grid(stored, table2.table(stored)),
        *faithfulness.grids(stored, faithfulness.table(stored)),
    ]
