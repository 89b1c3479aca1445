"""Stage 3: the degradation test on the stored scores; one row per instance, order, operator and fraction."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.data.tokens import Instance
from iba.errors import UserError
from iba.evaluation.degradation import Ranked, after_removing, n_removed
from iba.evaluation.ranking import Order, removal_order
from iba.pipeline.attribute import attributions, part_groups, settled
from iba.pipeline.bench import Bench, benches
from iba.pipeline.experiment import Cell, cells
from iba.pipeline.finetune import refuse_other_weights
from iba.pipeline.parts import StageTable, Work, compute_in_parts
from iba.pipeline.store import fingerprint, plain, provenance

#: `grid` of the paper's steps, and of the shares that comprehensiveness and sufficiency need.
CURVE, ERASER = "curve", "eraser"


def run(cfg: DictConfig) -> None:
    """Degrade what is not degraded yet."""
    for bench in benches(cfg, refuse_other_weights):
        first = cache(bench.first)  # one classifier for all cells of a size
        for cell in cells(cfg, bench.dataset.name):
            degrade_cell(first(cell.n_test), cell)


def degradations(bench: Bench, cell: Cell) -> StageTable:
    """The table of one cell's degradation curves."""
    settings: dict[str, Any] = {
        "attributions": fingerprint(attributions(bench, cell).settings),
        "degradation": plain(bench.cfg.degradation),
        "precision": bench.precision,
    }
    return StageTable(bench.run / cell.folder, "degradation", settings)


def degrade_cell(bench: Bench, cell: Cell) -> None:
    """Compute and store the degradation rows of one cell; nothing is done twice."""
    if settled(bench, cell, degradations, **cell.columns):
        return
    source = attributions(bench, cell)
    if not source.is_finished():
        raise UserError(f"{source.folder}: no finished attributions; run scripts/attribute.py first.")
    scores = source.read(["instance_id", "target", "scores"]).set_index("instance_id")
    compute, about = partial(_degrade, bench, cell, scores), partial(_provenance, bench, cell)
    work = Work(degradations(bench, cell), compute, about)
    compute_in_parts([work], part_groups(bench), bench.shard, f"{cell.label} degradation")


def grids(settings: DictConfig, order: Order) -> list[tuple[str, int, float]]:
    """(grid, step, fraction) of one order.

    The curve is walked in the configured orders. The ERASER shares always need both: the top share removed
    (most first: comprehensiveness), and that share alone kept (least first: sufficiency).
    """
    points = np.linspace(0, 1, settings.n_points if order in settings.orders else 0)
    return [(CURVE, i, float(f)) for i, f in enumerate(points)] + [
        (ERASER, i, float(f)) for i, f in enumerate(settings.eraser_shares)
    ]


def removed_count(grid: str, order: Order, fraction: float, instance: Ranked) -> int:
    """Tokens to remove: those of `fraction` or, for sufficiency, all but those."""
    count = n_removed(fraction, len(instance.input_ids), len(instance.removal))
    return len(instance.removal) - count if (grid, order) == (ERASER, "least") else count


def _degrade(bench: Bench, cell: Cell, scores: pd.DataFrame, group: Sequence[int]) -> pd.DataFrame:
    settings, instances = bench.cfg.degradation, [bench.test[i] for i in group]
    tables = []
    orders: tuple[Order, ...] = ("most", "least")
    for order in orders:
        ranked = [_ranked(cell, scores, instance, order) for instance in instances]
        grid = grids(settings, order)
        for operator in settings.operators:
            counts = [[removed_count(name, order, f, one) for name, _, f in grid] for one in ranked]
            curves = after_removing(bench.classifier, ranked, counts, operator)
            rows: list[dict[str, Any]] = [
                {
                    "position": position,
                    **cell.columns,
                    "instance_id": instance.id,
                    "target": one.target,
                    "order": order,
                    "operator": operator,
                    "grid": name,
                    "step": step,
                    "fraction": fraction,
                    "n_tokens": len(one.input_ids),
                    "n_removed": removed,
                    "prob_target": probability,
                }
                for position, instance, one, points in zip(group, instances, ranked, curves, strict=True)
                for (name, step, fraction), (removed, probability) in zip(grid, points, strict=True)
            ]
            tables.append(pd.DataFrame(rows))
    return pd.concat(tables, ignore_index=True)


def _ranked(cell: Cell, scores: pd.DataFrame, instance: Instance, order: Order) -> Ranked:
    row = scores.loc[instance.id]
    removal = removal_order(list(row["scores"]), instance.special, order)
    # Tokens that explain another class are judged by what they do to the gold one.
    target = instance.example.label if cell.target == "other" else int(row["target"])
    return Ranked(instance.input_ids, instance.token_type_ids, removal, target)


def _provenance(bench: Bench, cell: Cell, seconds: float) -> dict[str, Any]:
    return provenance(
        bench.classifier.device,
        seconds=round(seconds, 2),
        n_instances=len(bench.test),
        seed=bench.cfg.seed,
        config=cell.columns,
    )
