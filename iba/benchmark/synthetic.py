"""Stored results as the stages would leave them, with numbers from elsewhere: no data, no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.pipeline.attribute import RECORD, SCORES
from iba.pipeline.degrade import column, columns, degradation_path
from iba.pipeline.experiment import Cell, Classified, candidates, cell_folder, dataset_config
from iba.pipeline.tuning import tuning_path
from iba.settings import plain
from iba.store import write_json, write_parquet


def write_classifier(
    cfg: DictConfig, run: Path, dataset: str, predictions: pd.DataFrame, seed: int, **measured: Any
) -> dict[str, Any]:
    """A fine-tuned classifier of `cfg` with these predictions. Its record."""
    config, n = dataset_config(cfg, dataset), len(predictions)
    folder = run / dataset / "classifiers" / f"seed={seed}-{n}"
    write_parquet(folder / "classifier.parquet", predictions.assign(attributed=True))
    shared = {key: cfg.finetune[key] for key in ("weight_decay", "warmup", "schedule", "save_every")}
    recipe = {
        "seed": seed,
        "model": {"name": cfg.model.name},
        "train_name": config.train_name,
        "settings": plain(config.finetune) | shared,
        "precision": "fp32",
        "labels": plain(config.labels),
        "max_length": config.max_length,
        "n_train": config.n_train or 100,
    }
    known = {"weights": f"{dataset}-{seed}", "n_layers": 12, "sample_seed": cfg.seed, "precision": "fp32"}
    settings = known | {"n": n, "recipe": recipe, "max_length": config.max_length}
    told = {"n_accuracy": n, "truncated_share": 0.25, "labels": plain(config.labels)} | measured
    record = {"settings": settings, "provenance": told}
    write_json(folder / "classifier.json", record)
    return record


def key_of(cell: Cell, classifier: Mapping[str, Any]) -> dict[str, Any]:
    """The cell's key, for the classifier with this record."""
    return cell.key(Classified.of(classifier), {"digest": "rows"}, {"precision": "fp32"})


def write_tries(run: Path, cell: Cell, classifier: Mapping[str, Any], chosen: int) -> Cell:
    """The cell with the settings of one of its tries, stored as the best; as it is where it has none."""
    options = candidates(cell.settings)
    if len(options) > 1:
        rows = {"digest": "held out", "n": 16}
        key = cell.tuning_key(Classified.of(classifier), rows, {"precision": "fp32"})
        train_name = classifier["settings"]["recipe"]["train_name"]
        path = tuning_path(run, train_name, cell.view.method, key).with_suffix(".json")
        drops = [float(number == chosen) for number in range(len(options))]
        write_json(path, {"key": key, "settings": options, "drop_11": drops, "chosen": chosen})
    return replace(cell, settings=options[chosen])


def write_cell(
    run: Path,
    cell: Cell,
    classifier: Mapping[str, Any],
    rows: pd.DataFrame,
    probabilities: np.ndarray,
    **provenance: Any,
) -> Path:
    """A cell whose table of curves is `probabilities` (instances × `columns`); `rows`: instance_id, target,
    order and scores. Its folder."""
    key = key_of(cell, classifier)
    folder = cell_folder(run / cell.view.dataset, cell.view.method, key)
    names = [column(*each[:4]) for each in columns(cell.degradation)]
    curves = pd.DataFrame(dict(zip(names, probabilities.T.astype("float32"), strict=True)))
    path = degradation_path(folder, cell.degradation)
    write_parquet(path, pd.concat([rows[["instance_id", "target"]], curves], axis=1))
    write_json(path.with_suffix(".json"), {"settings": cell.degradation})
    record = {"key": key, "method": cell.settings, "rows": rows_name(rows), "provenance": provenance}
    write_json(folder / RECORD, record)
    write_parquet(folder / SCORES, rows)
    return folder


def rows_name(rows: pd.DataFrame) -> str:
    """The file of what cells on as many instances share."""
    return f"rows-{len(rows)}.parquet"


def write_rows(folder: Path, ids: Sequence[str], special: Sequence[Any], **more: Any) -> None:
    """What cells on the same instances share."""
    n_tokens, n_special = np.array([len(s) for s in special]), np.array([sum(s) for s in special])
    table: dict[str, Any] = {"instance_id": ids, "label": 1, "n_tokens": n_tokens, "special": list(special)}
    table["n_removable"] = n_tokens - n_special
    whole = pd.DataFrame(table | {"evidence": None, "tokens": None} | more)
    write_parquet(folder / rows_name(whole), whole)
