"""Stage 2: token scores for every test instance, under every protocol, by every method."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.attribution import last_layer_note
from iba.attributor import Attribution, Attributor, State, attribute_grouped
from iba.data.tokens import Instance
from iba.errors import UserError
from iba.evaluation.ranking import removal_order
from iba.pipeline.experiment import Cell, Classified, cell_folder, cells, hashed
from iba.pipeline.finetune import classifier_folder, classifier_record, refuse_weak_classifier
from iba.pipeline.parts import Work, compute_in_parts
from iba.pipeline.task import Task, tasks
from iba.pipeline.tuning import prepared, tuned
from iba.store import provenance, read_parquet, write_json, write_parquet

#: A cell's files: the record and, beside it, the scores, which are written last, and per-instance numbers.
RECORD, SCORES, NUMBERS = "cell.json", "scores.parquet", "numbers.parquet"
#: Bits of a float32's fraction, and how many are kept of a score that only its rank matters of: float16's 10.
_FRACTION, _KEPT = 23, 10


def run(cfg: DictConfig) -> None:
    """Attribute what is not attributed yet."""
    for task in tasks(cfg, refuse_weak_classifier):
        for cell in (tuned(task, cell) for cell in cells(cfg, task.dataset.name)):
            if not (folder_of(task, cell) / SCORES).is_file():
                groups, label = part_groups(task.on(cell.rows)), cell.view.label
                compute_in_parts([attribution_work(task, cell)], groups, task.shard, label)


def cell_key(task: Task, cell: Cell) -> dict[str, Any]:
    """All that the cell's scores depend on; the cell has been tuned."""
    digest = task.on(cell.rows).samples.test.digest
    return cell.key(Classified.of(classifier_record(task)), {"digest": digest}, task.running)


def folder_of(task: Task, cell: Cell) -> Path:
    """Where the cell lies: one folder for all that asks for it."""
    return cell_folder(task.folder, cell.view.method, cell_key(task, cell))


def attribution_work(task: Task, cell: Cell) -> Work:
    """The token scores of one cell as work to do; what the method learns is learned at once."""
    classifier = task.explaining(cell.weights)
    bottleneck = {"layer", "beta"} <= cell.settings.keys()
    if bottleneck and (note := last_layer_note(classifier, cell.settings["layer"])):
        print(f"{cell.view.label}: {note}")
    method, state = prepared(task, cell)
    return Work(
        folder_of(task, cell) / SCORES,
        partial(_attribute, task, cell, method),
        partial(_store, task, cell, state),
    )


def part_groups(task: Task) -> list[list[int]]:
    """Positions of test instances in the parts of a stage: like lengths together, longest first."""
    lengths = task.test.lengths
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    size = int(task.cfg.part_size)
    return [order[i : i + size] for i in range(0, len(order), size)]


def _attribute(task: Task, cell: Cell, method: Attributor, group: Sequence[int]) -> pd.DataFrame:
    rows = task.on(cell.rows)
    instances = [rows.test[i] for i in group]
    targets = explained_classes(task, cell.target, instances)
    whole = shown(rows)
    found: list[dict[str, Any]] = [{} for _ in group]
    classifier = task.explaining(cell.weights)
    for chosen, said in attribute_grouped(method, classifier, instances, targets):
        for row, i in enumerate(chosen):
            scores = attribution_row(instances[i], targets[i], said, row, group[i] in whole)
            found[i] = {"position": group[i], **scores}
    return pd.DataFrame(found)


def explained_classes(task: Task, target: str, instances: Sequence[Instance]) -> list[int]:
    """The class to explain per instance (`target` is one of `TARGETS`)."""
    gold = [i.example.label for i in instances]
    if target == "other":
        return [(label + 1) % len(task.dataset.labels) for label in gold]
    if target == "gold":
        return gold
    path = classifier_folder(task) / "classifier.parquet"
    predicted = read_parquet(path, ["instance_id", "predicted"]).set_index("instance_id")["predicted"]
    if unknown := [i.id for i in instances if i.id not in predicted.index]:
        raise UserError(
            f"target=predicted knows no prediction for {unknown[0]}, which is no row of the test set; "
            "use target=gold."
        )
    return [int(predicted[i.id]) for i in instances]


def attribution_row(
    instance: Instance, target: int, found: Attribution, row: int, whole: bool
) -> dict[str, Any]:
    """One stored row: who, what was explained, the removable tokens in the order of their scores, the scores
    (to float16's digits where not `whole`) and what explains them.

    `UserError` for scores that are not finite: they cannot be ranked.
    """
    n = len(instance)
    scores = found.scores[row, :n]
    if not scores.isfinite().all():
        raise UserError(
            f"{instance.id}: a score is not finite: try precision=fp32, or other settings of the method."
        )
    per_token = {"scores": scores} | {name: values[row, :n] for name, values in found.per_token.items()}
    order = np.array(removal_order(scores.tolist(), instance.special, "most"), dtype=np.uint16)
    return {
        "instance_id": instance.id,
        "target": np.int16(target),
        "order": order,
        **{name: rounded(values.float().numpy(), whole) for name, values in per_token.items()},
        **{name: np.float32(values[row]) for name, values in found.per_instance.items()},
    }


def rounded(values: np.ndarray, whole: bool) -> np.ndarray:
    """float32 with as many digits as float16 has (in float32's range), which take as little room; or all."""
    step = np.int32(0 if whole else _FRACTION - _KEPT)
    bits = np.ascontiguousarray(values, np.float32).view(np.int32)
    half = np.int32(1 << (step - 1)) if step else np.int32(0)
    return ((bits + half) >> step << step).view(np.float32)


def shown(task: Task) -> set[int]:
    """Positions of the rows that the report may show, at even distances: rows may be sorted by class."""
    n = len(task.samples.test)
    return {int(i) for i in np.linspace(0, n - 1, int(task.cfg.report.n_examples)).round()}


def stored_rows(task: Task) -> Path:
    """The file of what all cells on these rows share; `tokens` are those of rows that the report may show."""
    told = {"digest": task.samples.test.digest, "max_length": task.rows.max_length}
    path = task.folder / f"{hashed('rows', told | {'model': str(task.cfg.model.name)})}.parquet"
    if not path.is_file():
        name, whole = task.classifier.tokenizer.convert_ids_to_tokens, shown(task)
        rows = [
            {
                "instance_id": one.id,
                "label": np.int16(one.example.label),
                "n_tokens": np.int32(len(one)),
                "n_removable": np.int32(len(one) - sum(one.special)),
                "special": list(one.special),
                "evidence": one.evidence(),
                "tokens": name(list(one.input_ids)) if i in whole else None,
            }
            for i, one in enumerate(task.test)
        ]
        write_parquet(path, pd.DataFrame(rows))
    return path


def _store(task: Task, cell: Cell, state: State, table: pd.DataFrame, seconds: float) -> None:
    path, rows, key = folder_of(task, cell) / RECORD, task.on(cell.rows), cell_key(task, cell)
    learned = {name: value.tolist() for name, value in state.items() if value.numel() <= 32}
    about = provenance(
        task.classifier.device,
        seconds=round(seconds, 2),
        seconds_per_instance=seconds / max(len(rows.test), 1),
        learned=learned,
    )
    numbers = [name for name, kind in table.dtypes.items() if kind == np.float32]
    if numbers:
        write_parquet(path.with_name(NUMBERS), table[["instance_id", *numbers]])
    record = {"key": key, "method": cell.settings, "rows": stored_rows(rows).name, "provenance": about}
    write_json(path, record)
    write_parquet(path.with_name(SCORES), table.drop(columns=numbers))
