"""What a method learns from training rows, and which of its settings they choose: equal care for all methods.

Under a protocol a method may have `tries`, at most seven changes of its settings. Each attributes the same
training rows, which were held out from fine-tuning (`n_calibration` of the data set; never test rows). The
try whose ranking makes the label's probability fall most at the first degradation step (11 %), in the mean
over the rows, gives the cell its settings; of equals the first. All tries are stored with every row's drop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from iba.attributor import Attributor, State, attribute_rows, refuse_lacking
from iba.errors import UserError
from iba.evaluation.degradation import first_step_drops
from iba.pipeline.checks import build
from iba.pipeline.experiment import Cell, Classified, candidates, hashed, run_folder
from iba.pipeline.finetune import classifier_record
from iba.pipeline.parts import Shard, Work, compute_in_parts
from iba.pipeline.task import Task
from iba.store import alone, atomic, provenance, read_json, write_json, write_parquet


def tuned(task: Task, cell: Cell) -> Cell:
    """The cell with the settings of its best try; as it is where it has none."""
    options = candidates(cell.settings)
    chosen = tries(task, cell)["chosen"] if len(options) > 1 else 0
    return replace(cell, settings=options[chosen])


def tuning_path(run: Path, train_name: str, method: str, key: Mapping[str, Any]) -> Path:
    """The table of all tries, with a record beside it; of data sets with the same training rows one."""
    return run / "tuning" / train_name / f"{hashed(method, key)}.parquet"


def tries(task: Task, cell: Cell) -> dict[str, Any]:
    """The record of the cell's tries; of processes that ask together one computes it, others wait.

    The table has a row per try and held-out text: `trial` (the place among the record's `tries`),
    `instance_id` and `drop_11`.
    """
    held_out = task.on(cell.rows).samples
    rows = {"digest": held_out.calibration.digest, "n": len(held_out.calibration)}
    key = cell.tuning_key(Classified.of(classifier_record(task)), rows, task.running)
    path = tuning_path(run_folder(task.cfg), task.dataset.train_name, cell.view.method, key)
    work = Work(path, partial(_try, task, cell), partial(_store, task, cell, path, key))
    if not work.is_finished:
        lock = Path(task.cfg.paths.cache) / "tuning" / f"{path.stem}.lock"
        with alone(lock, f"{path.stem}: another process tries the settings"):
            groups = [[number] for number in range(len(key["tries"]))]
            compute_in_parts([work], groups, Shard(0, 1), f"{cell.view.label} tries")
    record: dict[str, Any] = read_json(path.with_suffix(".json"))
    return record


def _try(task: Task, cell: Cell, group: Sequence[int]) -> pd.DataFrame:
    (number,) = group
    rows, classifier = task.on(cell.rows).calibration, task.explaining(cell.weights)
    method, _ = prepared(task, replace(cell, settings=candidates(cell.settings)[number]))
    drops = first_step_drops(attribute_rows(method, classifier, rows, f"try {number + 1}"), classifier, rows)
    ids = [row.id for row in rows]
    return pd.DataFrame({"position": number, "trial": number, "instance_id": ids, "drop_11": drops})


def _store(
    task: Task, cell: Cell, path: Path, key: Mapping[str, Any], table: pd.DataFrame, seconds: float
) -> None:
    means = table.groupby("trial")["drop_11"].mean()
    found = {"settings": candidates(cell.settings), "drop_11": means.tolist(), "chosen": int(means.idxmax())}
    about = provenance(task.classifier.device, seconds=round(seconds, 2))
    write_json(path.with_suffix(".json"), {"key": key, **found, "provenance": about})
    write_parquet(path, table)


def prepared(task: Task, cell: Cell) -> tuple[Attributor, State]:
    """The cell's method, ready to attribute, and what it learned from training rows: by the first process
    that asks, and kept in the cache, since test rows have no part in it."""
    method, classifier = build(cell.method_place, cell.settings), task.explaining(cell.weights)
    refuse_lacking(method, classifier)
    rows, found = task.on(cell.rows), Classified.of(classifier_record(task))
    key = cell.tuning_key(found, {"digest": rows.samples.train.digest}, task.running)
    name = hashed(cell.view.method, key)
    path = Path(task.cfg.paths.cache) / "fitted" / f"{name}.safetensors"
    with alone(path.with_suffix(".lock"), f"{name}: another process learns it"):
        if not path.is_file():
            with atomic(path) as temporary:
                save_file(dict(method.fit(classifier, rows.fit_data)), temporary)
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: delete it and run the same command again.") from error
    method.restore(state)
    return method, state
