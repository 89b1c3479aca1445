"""Random orders of removal beside every method's: the target's probability after the first degradation step.

Per text and operator: the probability without its first 11 % of the tokens, by each of `n_orders` random
orders (`random_orders-<hash>.parquet` of a data set) and by a cell's scores (`first_step-<hash>.parquet` of
the cell).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.attributor import instance_seed
from iba.errors import UserError
from iba.evaluation.degradation import Ranked, after_removing, n_removed
from iba.evaluation.ranking import FIRST_STEP
from iba.pipeline.attribute import SCORES, folder_of, part_groups
from iba.pipeline.experiment import RowSet, cells, hashed
from iba.pipeline.finetune import classifier_record
from iba.pipeline.parts import Work, compute_in_parts
from iba.pipeline.task import Task, tasks
from iba.pipeline.tuning import tuned
from iba.pipeline.views import StoredCell
from iba.settings import plain
from iba.store import provenance, read_json, read_parquet, write_json, write_parquet

#: The orders of one text, each a ranking of its tokens.
Orders = Callable[[Task, int], list[Ranked]]


def run(cfg: DictConfig) -> None:
    """Compute what is not there yet, of the attributed cells."""
    for task in tasks(cfg, classifier_record):
        name = str(task.dataset.name)
        few = task.on(RowSet(cfg.seed, task.dataset.max_length, cfg.orders.n_test.get(name)))
        depends = order_settings(few)
        random = depends | {"classifier": task.weights_digest, "orders": cfg.orders.n_orders} | task.running
        _compute(few, task.folder, "random_orders", random, _random_orders, f"{name} random orders")
        for cell in (tuned(task, cell) for cell in cells(cfg, name)):
            folder = folder_of(task, cell)
            if not (folder / SCORES).is_file():
                raise UserError(f"{folder}: no finished attributions; run scripts/attribute.py first.")
            order = read_parquet(folder / SCORES, ["instance_id", "order"]).set_index("instance_id")["order"]
            label = f"{cell.view.label} first step"
            _compute(few, folder, "first_step", depends, partial(_own_order, order), label)


def win_rates(cell: StoredCell) -> pd.DataFrame | None:
    """One row per text and operator: instance_id, operator, `prob_target` by the cell's own order, and
    `win_rate`, the share of the text's random orders that leave more of it, ties counting half.

    Of most random orders; None where none were drawn for the cell's classifier and rows.
    """
    key, found = cell.record["key"], []
    for path in sorted(cell.folder.parent.parent.glob("random_orders-*.json")):
        settings = read_json(path)["settings"]
        depends = {name: settings[name] for name in ("rows", "operators")}
        own = cell.folder / f"{hashed('first_step', depends)}.parquet"
        if own.is_file() and all(settings[name] == key[name] for name in ("classifier", "precision")):
            found.append((settings["orders"], own, path.with_suffix(".parquet")))
    if not found:
        return None
    _, own, random = max(found)
    by = ["instance_id", "operator"]
    table = read_parquet(own, [*by, "prob_target"])
    both = read_parquet(random, [*by, "prob_target"]).merge(table, on=by, suffixes=("_random", ""))
    wins = (1 + np.sign(both["prob_target_random"] - both["prob_target"])) / 2
    return table.join(wins.groupby([both[name] for name in by]).mean().rename("win_rate"), by)


def order_settings(task: Task) -> dict[str, Any]:
    """What the rows depend on besides the orders and the classifier."""
    return {"rows": task.samples.test.digest, "operators": plain(task.cfg.orders.operators)}


def _compute(
    task: Task, folder: Path, name: str, settings: dict[str, Any], orders: Orders, label: str
) -> None:
    path = folder / f"{hashed(name, settings)}.parquet"

    def store(table: pd.DataFrame, seconds: float) -> None:
        about = provenance(task.classifier.device, seconds=round(seconds, 2), n_instances=len(task.test))
        write_json(path.with_suffix(".json"), {"settings": settings, "provenance": about})
        write_parquet(path, table)

    work = Work(path, partial(_rows, task, orders), store)
    if not work.is_finished:
        compute_in_parts([work], part_groups(task), task.shard, label)


def _rows(task: Task, orders: Orders, group: Sequence[int]) -> pd.DataFrame:
    ranked = [(i, number, one) for i in group for number, one in enumerate(orders(task, i))]
    counts = [[int(n_removed(FIRST_STEP, len(one.input_ids), len(one.removal)))] for _, _, one in ranked]
    return pd.DataFrame(
        {
            "position": i,
            "instance_id": task.test[i].id,
            "operator": operator,
            "order": number,
            "n_removed": removed,
            "prob_target": probability,
        }
        for operator in task.cfg.orders.operators
        for (i, number, _), [(removed, probability)] in zip(
            ranked,
            after_removing(task.classifier, [one for *_, one in ranked], counts, operator),
            strict=True,
        )
    )


def _random_orders(task: Task, position: int) -> list[Ranked]:
    """Each is drawn for the text alone, from the run's seed."""
    one = task.test[position]
    rng = np.random.default_rng(instance_seed(task.cfg.seed, one.id))
    free = [i for i, special in enumerate(one.special) if not special]
    drawn = [rng.permutation(free) for _ in range(task.cfg.orders.n_orders)]
    return [Ranked(one.input_ids, one.token_type_ids, order, one.example.label) for order in drawn]


def _own_order(order: pd.Series, task: Task, position: int) -> list[Ranked]:
    one = task.test[position]
    removal = np.array(order[one.id], int)
    return [Ranked(one.input_ids, one.token_type_ids, removal, one.example.label)]
