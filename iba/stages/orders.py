"""Random orders of removal beside every method's: the target's probability after the first degradation step.

Per text and operator: the probability without its first 11 % of the tokens, by each of `n_orders` random
orders (`random_orders.parquet` of a data set) and by a cell's scores (`first_step.parquet` of the cell).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.attributor import instance_seed
from iba.degradation import Ranked, after_removing, n_removed
from iba.errors import UserError
from iba.experiment import Cell, cells
from iba.parts import StageTable, Work, compute_in_parts
from iba.ranking import FIRST_STEP, removal_order
from iba.stages.attribute import attributions, part_groups
from iba.stages.bench import Bench, benches
from iba.stages.finetune import refuse_other_weights
from iba.store import fingerprint, plain, provenance
from iba.tuning import tuned

#: The orders of one text, each a ranking of its tokens.
Orders = Callable[[Bench, int], list[Ranked]]


def run(cfg: DictConfig) -> None:
    """Compute what is not there yet, of the attributed cells."""
    for bench in benches(cfg, refuse_other_weights):
        name = str(bench.dataset.name)
        few = bench.first(cfg.orders.n_test.get(name))
        random = StageTable(
            bench.run / name, "random_orders", _settings(few) | {"orders": cfg.orders.n_orders}
        )
        _compute(few, random, _random_orders, f"{name} random orders")
        for cell in cells(cfg, name):
            _first_step(bench.first(cell.n_test), few, cell)


def _first_step(bench: Bench, few: Bench, cell: Cell) -> None:
    cell = tuned(bench, cell)
    source = attributions(bench, cell)
    if not source.is_finished():
        raise UserError(f"{source.folder}: no finished attributions; run scripts/attribute.py first.")
    scores = source.read(["instance_id", "scores"]).set_index("instance_id")["scores"]
    settings = _settings(few) | {"attributions": fingerprint(source.settings)}
    table = StageTable(source.folder, "first_step", settings)
    _compute(few, table, partial(_own_order, scores), f"{cell.label} first step")


def _settings(bench: Bench) -> dict[str, Any]:
    return bench.inputs | {"operators": plain(bench.cfg.orders.operators)}


def _compute(bench: Bench, table: StageTable, orders: Orders, label: str) -> None:
    about = partial(provenance, bench.classifier.device, n_instances=len(bench.test), seed=bench.cfg.seed)
    work = Work(table, partial(_rows, bench, orders), lambda seconds: about(seconds=round(seconds, 2)))
    compute_in_parts([work], part_groups(bench), bench.shard, label)


def _rows(bench: Bench, orders: Orders, group: Sequence[int]) -> pd.DataFrame:
    ranked = [(i, number, one) for i in group for number, one in enumerate(orders(bench, i))]
    counts = [[n_removed(FIRST_STEP, len(one.input_ids), len(one.removal))] for _, _, one in ranked]
    return pd.DataFrame(
        {
            "position": i,
            "instance_id": bench.test[i].id,
            "operator": operator,
            "order": number,
            "n_removed": removed,
            "prob_target": probability,
        }
        for operator in bench.cfg.orders.operators
        for (i, number, _), [(removed, probability)] in zip(
            ranked,
            after_removing(bench.classifier, [one for *_, one in ranked], counts, operator),
            strict=True,
        )
    )


def _random_orders(bench: Bench, position: int) -> list[Ranked]:
    """Each is drawn for the text alone, from the run's seed."""
    one = bench.test[position]
    rng = np.random.default_rng(instance_seed(bench.cfg.seed, one.id))
    free = [i for i, special in enumerate(one.special) if not special]
    drawn = [rng.permutation(free) for _ in range(bench.cfg.orders.n_orders)]
    return [Ranked(one.input_ids, one.token_type_ids, order, one.example.label) for order in drawn]


def _own_order(scores: pd.Series, bench: Bench, position: int) -> list[Ranked]:
    one = bench.test[position]
    removal = removal_order(list(scores[one.id]), one.special, "most")
    return [Ranked(one.input_ids, one.token_type_ids, removal, one.example.label)]
