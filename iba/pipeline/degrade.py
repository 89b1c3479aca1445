"""Stage 3: the degradation test on the stored scores; one row per instance, one column per share removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.errors import UserError
from iba.evaluation.degradation import Ranked, after_removing, n_removed
from iba.evaluation.ranking import Order
from iba.pipeline.attribute import RECORD, SCORES, folder_of, part_groups
from iba.pipeline.experiment import Cell, cells, hashed
from iba.pipeline.finetune import classifier_record
from iba.pipeline.parts import Work, compute_in_parts
from iba.pipeline.task import Task, tasks
from iba.pipeline.tuning import tuned
from iba.store import provenance, read_parquet, write_json, write_parquet

#: `grid` of the paper's steps, and of the shares that comprehensiveness and sufficiency need.
CURVE, ERASER = "curve", "eraser"
ORDERS: tuple[Order, ...] = ("most", "least")


def run(cfg: DictConfig) -> None:
    """Degrade what is not degraded yet."""
    for task in tasks(cfg, classifier_record):
        for cell in cells(cfg, task.dataset.name):
            degrade_cell(task, tuned(task, cell))


def degradation_path(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The table of a cell's curves under these settings, with a record beside it."""
    return folder / f"{hashed('degradation', settings)}.parquet"


def degrade_cell(task: Task, cell: Cell) -> None:
    """Compute and store the degradation rows of one cell; nothing is done twice."""
    folder = folder_of(task, cell)
    path = degradation_path(folder, cell.degradation)
    if path.is_file():
        return
    if not (folder / SCORES).is_file() or not (folder / RECORD).is_file():
        raise UserError(f"{folder}: no finished attributions; run scripts/attribute.py first.")
    ranking = read_parquet(folder / SCORES, ["instance_id", "target", "order"])
    if ranking["order"].isna().any():
        raise UserError(f"{folder}: the ranking of some rows was not kept: delete it and attribute again.")
    work = Work(path, partial(_degrade, task, cell, ranking), partial(_store, task, cell, path))
    compute_in_parts([work], part_groups(task.on(cell.rows)), task.shard, f"{cell.view.label} degradation")


def grids(settings: Mapping[str, Any], order: Order) -> list[tuple[str, int, float]]:
    """(grid, step, fraction) of one order.

    The curve is walked in the configured orders. The ERASER shares always need both: the top share removed
    (most first: comprehensiveness), and that share alone kept (least first: sufficiency).
    """
    shares = np.linspace(0, 1, settings["n_points"] if order in settings["orders"] else 0)
    return [(CURVE, i, float(f)) for i, f in enumerate(shares)] + [
        (ERASER, i, float(f)) for i, f in enumerate(settings["eraser_shares"])
    ]


def columns(settings: Mapping[str, Any]) -> list[tuple[str, str, str, int, float]]:
    """(order, operator, grid, step, fraction) of a table's columns of probabilities."""
    return [
        (order, operator, *step)
        for order in ORDERS
        for operator in settings["operators"]
        for step in grids(settings, order)
    ]


def column(order: str, operator: str, grid: str, step: int) -> str:
    """A column's name, such as `delete/most/curve/1`."""
    return f"{operator}/{order}/{grid}/{step}"


def removed_count(grid: str, order: str, fraction: float, n_tokens: Any, n_removable: Any) -> Any:
    """Tokens to remove, of one text or of many (arrays): those of `fraction` or, for sufficiency, all but
    those."""
    count = n_removed(fraction, n_tokens, n_removable)
    return n_removable - count if (grid, order) == (ERASER, "least") else count


def _degrade(task: Task, cell: Cell, ranking: pd.DataFrame, group: Sequence[int]) -> pd.DataFrame:
    rows = task.on(cell.rows)
    instances = [rows.test[i] for i in group]
    chosen = ranking.iloc[list(group)]
    # Tokens that explain another class are judged by what they do to the gold one.
    gold = [i.example.label for i in instances]
    targets = gold if cell.target == "other" else chosen["target"].tolist()
    ids = [i.id for i in instances]
    table: dict[str, Any] = {
        "position": list(group),
        "instance_id": ids,
        "target": np.array(targets, "int16"),
    }
    for order in ORDERS:
        grid = grids(cell.degradation, order)
        removals = [np.array(best, int)[:: 1 if order == "most" else -1] for best in chosen["order"]]
        ranked = [
            Ranked(i.input_ids, i.token_type_ids, removal, target)
            for i, removal, target in zip(instances, removals, targets, strict=True)
        ]
        counts = [
            [int(removed_count(name, order, f, len(one.input_ids), len(one.removal))) for name, _, f in grid]
            for one in ranked
        ]
        for operator in cell.degradation["operators"]:
            curves = after_removing(task.classifier, ranked, counts, operator)
            for number, (name, step, _) in enumerate(grid):
                found = [points[number][1] for points in curves]
                table[column(order, operator, name, step)] = np.array(found, "float32")
    return pd.DataFrame(table)


def long_form(
    wide: pd.DataFrame, settings: Mapping[str, Any], n_tokens: np.ndarray, n_removable: np.ndarray
) -> pd.DataFrame:
    """Degradation rows as one row per instance and share: instance_id, target, order, operator, grid, step,
    fraction, n_tokens, n_removed, prob_target; the two counts are those of the wide table's rows."""
    told = columns(settings)
    n, k = len(wide), len(told)
    names = zip(("order", "operator", "grid", "step", "fraction"), zip(*told, strict=True), strict=True)
    counts = [removed_count(g, o, f, n_tokens, n_removable) for o, _, g, _, f in told]
    probabilities = wide[[column(*each[:4]) for each in told]].to_numpy(float)
    return pd.DataFrame(
        {
            "instance_id": wide["instance_id"].repeat(k).array,
            "target": wide["target"].to_numpy().repeat(k),
            **{name: np.tile(np.array(values), n) for name, values in names},
            "n_tokens": n_tokens.repeat(k),
            "n_removed": np.stack(counts, axis=1).ravel(),
            "prob_target": probabilities.ravel(),
        }
    )


def _store(task: Task, cell: Cell, path: Path, table: pd.DataFrame, seconds: float) -> None:
    about = provenance(task.classifier.device, seconds=round(seconds, 2))
    write_json(path.with_suffix(".json"), {"settings": cell.degradation, "provenance": about})
    write_parquet(path, table)
