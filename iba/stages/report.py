"""Stage 4: tables, figures, verdicts and the HTML page, from stored rows alone."""

from __future__ import annotations

from omegaconf import DictConfig

from iba.errors import UserError
from iba.report import comparisons, faithfulness, figure1, planted, table1, table2
from iba.report.collect import collect
from iba.report.rows import load

SECTIONS = ("tables", "figures", "verdicts", "html")


def run(cfg: DictConfig) -> None:
    """Redraw what `cfg.only` names (all by default)."""
    wanted = list(cfg.only or SECTIONS)
    unknown = [name for name in wanted if name not in SECTIONS]
    if unknown:
        raise UserError(f"report section {unknown[0]!r} is unknown; choose from {', '.join(SECTIONS)}.")
    stored = load(cfg)
    collect(stored, int(cfg.report.n_examples))
    tests = comparisons.all_pairs(stored)
    if "tables" in wanted:
        comparisons.write(stored, tests)
        table1.write(stored, tests)
        table2.write(stored)
        faithfulness.write(stored)
        planted.write(stored)
    if "figures" in wanted:
        figure1.write(stored)
    print(f"{stored.folder}: redrew {', '.join(wanted)}")
