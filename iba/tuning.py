"""What a method learns from training rows, and which of its settings they choose: equal care for all methods.

Under a protocol a method may have `tries`, at most seven changes of its settings. Each attributes the same
training rows, which were held out from fine-tuning (`n_calibration` of the data set; never test rows). The
try whose ranking makes the label's probability fall most at the first degradation step (11 %), in the mean
over the rows, gives the cell its settings; of equals the first. All tries are stored with every row's drop.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from iba.attributor import Attributor, State, refuse_lacking
from iba.calibration import attribute_rows, first_step_drops
from iba.errors import UserError
from iba.experiment import Cell, candidates
from iba.parts import Shard, StageTable, Work, compute_in_parts
from iba.stages.bench import Bench
from iba.stages.checks import build
from iba.store import atomic, fingerprint, provenance


def tuned(bench: Bench, cell: Cell) -> Cell:
    """The cell with the settings of its best try; as it is where it has none. Computed once, then read."""
    options = candidates(cell.settings)
    if len(options) == 1:
        return replace(cell, settings=options[0])
    table = tries(bench.explaining(cell.weights), cell)
    drops = table.read(["trial", "drop_11"]).groupby("trial")["drop_11"].mean()
    return replace(cell, settings=options[int(drops.idxmax())])


def tries(bench: Bench, cell: Cell) -> StageTable:
    """The finished table of the cell's tries; of processes that ask together one computes it, others wait.

    A row per try and held-out text: `trial` (the place in the record's list of settings), `instance_id` and
    `drop_11`. Its name tells all that it depends on: data sets with the same training rows, protocols and
    studies share it.
    """
    settings = _learned_on(bench) | {
        "calibration_digest": bench.samples.digests["calibration"],
        "method": candidates(cell.settings),
    }
    name = f"{cell.method}-{fingerprint(settings)}"
    table = StageTable(bench.run / "tuning" / bench.dataset.train_name, name, settings)
    if not table.is_finished():
        lock = Path(bench.cfg.paths.cache) / "tuning" / f"{name}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            work = Work(table, partial(_try, bench, cell), partial(_provenance, bench, cell))
            groups = [[number] for number in range(len(settings["method"]))]
            compute_in_parts([work], groups, Shard(0, 1), f"{cell.label} tries")
    return table


def _try(bench: Bench, cell: Cell, group: Sequence[int]) -> pd.DataFrame:
    (number,) = group
    rows = bench.calibration
    method, _ = prepared(bench, replace(cell, settings=candidates(cell.settings)[number]))
    attributed = attribute_rows(method, bench.classifier, rows, f"try {number + 1}")
    return pd.DataFrame(
        {
            "position": number,
            "trial": number,
            "instance_id": [row.id for row in rows],
            "drop_11": first_step_drops(attributed, bench.classifier, rows),
        }
    )


def _provenance(bench: Bench, cell: Cell, seconds: float) -> dict[str, Any]:
    return provenance(bench.classifier.device, seconds=round(seconds, 2), config=cell.columns)


def prepared(bench: Bench, cell: Cell) -> tuple[Attributor, State]:
    """The cell's method, ready to attribute, and what it learned from training rows (kept in the cache)."""
    method = build(cell.method_place, cell.settings)
    refuse_lacking(method, bench.classifier)
    depends = _learned_on(bench) | {"method": cell.settings}
    path = Path(bench.cfg.paths.cache) / "fitted" / f"{cell.method}-{fingerprint(depends)}.safetensors"
    if not path.is_file():
        with atomic(path) as temporary:
            save_file(dict(method.fit(bench.classifier, bench.fit_data)), temporary)
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: delete it and run the same command again.") from error
    method.restore(state)
    return method, state


def _learned_on(bench: Bench) -> dict[str, Any]:
    """What all that is learned from training rows depends on."""
    return {
        "classifier": bench.inputs["classifier"],
        "weights": bench.weights,
        "weights_digest": bench.weights_digest,
        "max_length": bench.max_length,
        "precision": bench.precision,
    }
