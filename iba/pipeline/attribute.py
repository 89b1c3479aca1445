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
from iba.pipeline.bench import Bench, benches
from iba.pipeline.experiment import Cell, Classified, cell_folder, cells, hashed
from iba.pipeline.finetune import classifier_folder, classifier_record, refuse_weak_classifier
from iba.pipeline.parts import Work, compute_in_parts
from iba.pipeline.tuning import prepared, tuned
from iba.store import provenance, read_parquet, write_json, write_parquet

#: A cell's files: the record and, beside it, the scores, which are written last, and per-instance numbers.
RECORD, SCORES, NUMBERS = "cell.json", "scores.parquet", "numbers.parquet"
#: Bits of a float32's fraction, and how many are kept of a score that only its rank matters of: float16's 10.
_FRACTION, _KEPT = 23, 10


def run(cfg: DictConfig) -> None:
    """Attribute what is not attributed yet."""
    for bench in benches(cfg, refuse_weak_classifier):
        for cell in (tuned(bench, cell) for cell in cells(cfg, bench.dataset.name)):
            if not (folder_of(bench, cell) / SCORES).is_file():
                groups, label = part_groups(bench.on(cell.rows)), cell.view.label
                compute_in_parts([attribution_work(bench, cell)], groups, bench.shard, label)


def cell_key(bench: Bench, cell: Cell) -> dict[str, Any]:
    """All that the cell's scores depend on; the cell has been tuned."""
    digest = bench.on(cell.rows).samples.test.digest
    return cell.key(Classified.of(classifier_record(bench)), {"digest": digest}, bench.running)


def folder_of(bench: Bench, cell: Cell) -> Path:
    """Where the cell lies: one folder for all that asks for it."""
    return cell_folder(bench.folder, cell.view.method, cell_key(bench, cell))


def attribution_work(bench: Bench, cell: Cell) -> Work:
    """The token scores of one cell as work to do; what the method learns is learned at once."""
    classifier = bench.explaining(cell.weights)
    bottleneck = {"layer", "beta"} <= cell.settings.keys()
    if bottleneck and (note := last_layer_note(classifier, cell.settings["layer"])):
        print(f"{cell.view.label}: {note}")
    method, state = prepared(bench, cell)
    return Work(
        folder_of(bench, cell) / SCORES,
        partial(_attribute, bench, cell, method),
        partial(_store, bench, cell, state),
    )


def part_groups(bench: Bench) -> list[list[int]]:
    """Positions of test instances in the parts of a stage: like lengths together, longest first."""
    lengths = bench.test.lengths
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    size = int(bench.cfg.part_size)
    return [order[i : i + size] for i in range(0, len(order), size)]


def _attribute(bench: Bench, cell: Cell, method: Attributor, group: Sequence[int]) -> pd.DataFrame:
    rows = bench.on(cell.rows)
    instances = [rows.test[i] for i in group]
    targets = explained_classes(bench, cell.target, instances)
    whole = shown(rows)
    found: list[dict[str, Any]] = [{} for _ in group]
    classifier = bench.explaining(cell.weights)
    for chosen, said in attribute_grouped(method, classifier, instances, targets):
        for row, i in enumerate(chosen):
            scores = attribution_row(instances[i], targets[i], said, row, group[i] in whole)
            found[i] = {"position": group[i], **scores}
    return pd.DataFrame(found)


def explained_classes(bench: Bench, target: str, instances: Sequence[Instance]) -> list[int]:
    """The class to explain per instance (`target` is one of `TARGETS`)."""
    gold = [i.example.label for i in instances]
    if target == "other":
        return [(label + 1) % len(bench.dataset.labels) for label in gold]
    if target == "gold":
        return gold
    path = classifier_folder(bench) / "classifier.parquet"
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


def shown(bench: Bench) -> set[int]:
    """Positions of the rows that the report may show, at even distances: rows may be sorted by class."""
    n = len(bench.samples.test)
    return {int(i) for i in np.linspace(0, n - 1, int(bench.cfg.report.n_examples)).round()}


def stored_rows(bench: Bench) -> Path:
    """The file of what all cells on these rows share; `tokens` are those of rows that the report may show."""
    told = {"digest": bench.samples.test.digest, "max_length": bench.rows.max_length}
    path = bench.folder / f"{hashed('rows', told | {'model': str(bench.cfg.model.name)})}.parquet"
    if not path.is_file():
        name, whole = bench.classifier.tokenizer.convert_ids_to_tokens, shown(bench)
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
            for i, one in enumerate(bench.test)
        ]
        write_parquet(path, pd.DataFrame(rows))
    return path


def _store(bench: Bench, cell: Cell, state: State, table: pd.DataFrame, seconds: float) -> None:
    path, rows, key = folder_of(bench, cell) / RECORD, bench.on(cell.rows), cell_key(bench, cell)
    learned = {name: value.tolist() for name, value in state.items() if value.numel() <= 32}
    about = provenance(
        bench.classifier.device,
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
