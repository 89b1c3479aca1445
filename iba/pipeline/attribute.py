"""Stage 2: token scores for every test instance, under every protocol, by every method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from iba.attribution import last_layer_note
from iba.attributor import Attribution, Attributor, State, attribute_grouped, refuse_lacking
from iba.data.tokens import Instance
from iba.errors import UserError
from iba.pipeline.bench import Bench, benches
from iba.pipeline.checks import build
from iba.pipeline.experiment import Cell, cells, stand_ins, twins
from iba.pipeline.finetune import predictions, refuse_other_weights, refuse_weak_classifier
from iba.pipeline.parts import StageTable, Work, compute_in_parts
from iba.pipeline.store import atomic, fingerprint, provenance


def run(cfg: DictConfig) -> None:
    """Attribute what is not attributed yet."""
    for bench in benches(cfg, refuse_weak_classifier, refuse_other_weights):
        first = cache(bench.first)  # one classifier for all cells of a size
        for cell in cells(cfg, bench.dataset.name):
            attribute_cell(first(cell.n_test), cell)


def attributions(bench: Bench, cell: Cell) -> StageTable:
    """The table of one cell's token scores."""
    inputs = bench.explaining(cell.weights).inputs
    settings = inputs | {"method": cell.settings, "target": cell.target} | _calibrated_on(bench, cell)
    return StageTable(bench.run / cell.folder, "attributions", settings, feeds=("degradation",))


def _calibrated_on(bench: Bench, cell: Cell) -> dict[str, str]:
    """The held-out rows, where a setting of the method is chosen on them."""
    calibrated = "calibrated" in cell.settings.values()
    return {"calibration_digest": bench.samples.calibration.digest} if calibrated else {}


def attribute_cell(bench: Bench, cell: Cell) -> None:
    """Compute and store the token scores of one cell; nothing is done twice."""
    if not settled(bench, cell, attributions):
        compute_in_parts([attribution_work(bench, cell)], part_groups(bench), bench.shard, cell.label)


def attribution_work(bench: Bench, cell: Cell) -> Work:
    """The token scores of one cell as work to do; what the method learns is learned at once."""
    explained = bench.explaining(cell.weights)
    method = build(cell.method_place, cell.settings)
    bottleneck = {"layer", "beta"} <= cell.settings.keys()
    if bottleneck and (note := last_layer_note(explained.classifier, cell.settings["layer"])):
        print(f"{cell.label}: {note}")
    refuse_lacking(method, explained.classifier)
    state = _fit(explained, cell, method)
    method.restore(state)
    return Work(
        attributions(bench, cell),
        partial(_attribute, explained, cell.target, method),
        partial(_provenance, bench, cell, state),
    )


def _fit(bench: Bench, cell: Cell, method: Attributor) -> State:
    """What the method learns from training rows; kept in the cache, since test rows have no part in it."""
    depends = {
        "classifier": bench.inputs["classifier"],
        "weights": bench.weights,
        "weights_digest": bench.weights_digest,
        "max_length": bench.max_length,
        "calibration": bench.samples.calibration.digest,
        "precision": bench.precision,
        "method": cell.settings,
    }
    path = Path(bench.cfg.paths.cache) / "fitted" / f"{cell.method}-{fingerprint(depends)}.safetensors"
    if not path.is_file():
        with atomic(path) as temporary:
            save_file(dict(method.fit(bench.classifier, bench.fit_data)), temporary)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path} is damaged: delete it and run the same command again.") from error


def part_groups(bench: Bench) -> list[list[int]]:
    """Positions of test instances in the parts of a stage: like lengths together, longest first."""
    lengths = bench.test.lengths
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    size = int(bench.cfg.part_size)
    return [order[i : i + size] for i in range(0, len(order), size)]


def _attribute(bench: Bench, target: str, method: Attributor, group: Sequence[int]) -> pd.DataFrame:
    instances = [bench.test[i] for i in group]
    targets = explained_classes(bench, target, instances)
    rows: list[dict[str, Any]] = [{} for _ in group]

    for chosen, found in attribute_grouped(method, bench.classifier, instances, targets):
        for row, i in enumerate(chosen):
            rows[i] = {"position": group[i], **attribution_row(bench, instances[i], targets[i], found, row)}
    return pd.DataFrame(rows)


def explained_classes(bench: Bench, target: str, instances: Sequence[Instance]) -> list[int]:
    """The class to explain per instance (`target` is one of `TARGETS`)."""
    gold = [i.example.label for i in instances]
    if target == "other":
        return [(label + 1) % len(bench.dataset.labels) for label in gold]
    if target == "gold":
        return gold
    predicted = predictions(bench).read(["instance_id", "predicted"]).set_index("instance_id")["predicted"]
    if unknown := [i.id for i in instances if i.id not in predicted.index]:
        raise UserError(
            f"target=predicted knows no prediction for {unknown[0]}, which is no row of the test set; "
            "use target=gold."
        )
    return [int(predicted[i.id]) for i in instances]


def attribution_row(
    bench: Bench, instance: Instance, target: int, found: Attribution, row: int
) -> dict[str, Any]:
    """One stored row: who, what was explained, the tokens, their scores and what explains them.

    `UserError` for scores that are not finite: they cannot be ranked.
    """
    n = len(instance)
    if not found.scores[row, :n].isfinite().all():
        raise UserError(
            f"{instance.id}: a score is not finite: try precision=fp32, or other settings of the method."
        )
    return {
        "instance_id": instance.id,
        "label": instance.example.label,
        "target": target,
        "tokens": bench.classifier.tokenizer.convert_ids_to_tokens(list(instance.input_ids)),
        "special": list(instance.special),
        "evidence": instance.evidence(),
        "scores": found.scores[row, :n].tolist(),
        **{name: values[row, :n].tolist() for name, values in found.per_token.items()},
        **{name: float(values[row]) for name, values in found.per_instance.items()},
    }


def _provenance(bench: Bench, cell: Cell, state: State, seconds: float) -> dict[str, Any]:
    layer = cell.settings.get("layer")
    resolved = {} if layer is None else {"layer": bench.classifier.resolve_layer(layer)}
    learned = {name: value.tolist() for name, value in state.items() if value.numel() <= 32}
    return provenance(
        bench.classifier.device,
        seconds=round(seconds, 2),
        seconds_per_instance=seconds / max(len(bench.test), 1),
        seed=bench.cfg.seed,
        resolved=resolved,
        learned=learned,
        config=cell.columns,
    )


def settled(bench: Bench, cell: Cell, table: Callable[[Bench, Cell], StageTable], **columns: Any) -> bool:
    """Whether nothing of the stage's `table` is left to compute: it is there, or a twin's is or will be.

    A twin is a cell with the same settings: another protocol under which nothing changes or, for a study,
    also the cell of Table 1. Where an earlier twin waits for other shards, the process that completes it
    comes to this cell next and takes it over, so that shards compute as little as a single process.
    """
    if table(bench, cell).is_finished():
        return True
    same = list(twins(cells(bench.cfg, cell.dataset), cell))
    for other in (*stand_ins(bench.cfg, cell), *same):
        found = table(bench, other)
        if found.holds_the_same():
            table(bench, cell).adopt(found, str(other.folder), **columns)
            return True
    return bool(same) and same[0] != cell
