"""Stage 1: a classifier for every data set (kept in the cache, shared between runs) and its accuracy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.data.tokens import Tokenised
from iba.devices import resolve_device
from iba.errors import UserError
from iba.evaluation.variants import Variant, class_probabilities
from iba.models.classifier import probe_inputs, runner_of
from iba.models.frozen import Products
from iba.models.pretrained import new_classifier
from iba.pipeline.experiment import NUMERICS, hashed
from iba.pipeline.task import Task, refuse_long_texts, tasks
from iba.pipeline.training import finetune, is_finished
from iba.store import provenance, read_json, write_json, write_parquet

#: The record of a classifier, which is written last.
CLASSIFIER = "classifier.json"


def run(cfg: DictConfig) -> None:
    """Fine-tune what is not fine-tuned yet, then store predictions, accuracy and label distributions."""
    for task in tasks(cfg, lambda task: task.recipe):  # an encoder that is not there is refused first
        train(task)
        classify(task)


def train(task: Task) -> None:
    """Fine-tune the classifier of `task` unless it is there."""
    if is_finished(task.checkpoint, task.recipe):
        return
    cfg, dataset = task.cfg, task.dataset
    print(f"{dataset.name}: fine-tuning {cfg.model.title} on {len(task.samples.train)} rows")
    config = dataset.finetune.get("model_config")
    model, tokenizer = new_classifier(
        cfg.model, cfg.paths.model_dir, dataset.labels, cfg.finetune.seed, config
    )
    # A model that cannot be run is refused before any training.
    probe = probe_inputs(tokenizer, model.device)
    runner_of(model.eval(), probe, Products(), fast=cfg.fast, layers=cfg.layers)
    refuse_long_texts(model, task.rows.max_length)
    rows = Tokenised.of(task.samples.train, tokenizer, dataset.max_length, Path(cfg.paths.cache))
    finetune(model, tokenizer, rows, task.recipe, task.checkpoint, resolve_device(cfg.device))


def classifier_key(task: Task) -> dict[str, Any]:
    """All that the stored predictions depend on."""
    return {
        "weights": task.weights_digest,
        "recipe": task.recipe.described(),
        "sample_seed": task.cfg.seed,
        "n": len(task.samples.test),
        "test_digest": task.samples.test.digest,
        "scored_digest": task.samples.scored.digest,
        "max_length": task.dataset.max_length,
        **task.running,
        "numerics": NUMERICS,
    }


def classifier_folder(task: Task) -> Path:
    """Where the predictions on the scored rows lie, with a record that holds the accuracy."""
    return task.folder / "classifiers" / hashed(f"seed={task.recipe.seed}", classifier_key(task))


def classifier_record(task: Task) -> dict[str, Any]:
    """The stored record of the classifier; `UserError` where there is none."""
    path = classifier_folder(task) / CLASSIFIER
    if not path.is_file():
        raise UserError(f"{task.dataset.name}: no predictions yet; run scripts/finetune.py first.")
    record: dict[str, Any] = read_json(path)
    return record


def refuse_weak_classifier(task: Task) -> None:
    """Raise `UserError` for a classifier below the data set's accuracy floor."""
    record = classifier_record(task)["provenance"]
    floor = float(task.dataset.accuracy_floor)
    if record["accuracy"] < floor:
        name, accuracy, n = task.dataset.name, record["accuracy"], record["n_accuracy"]
        raise UserError(
            f"{name}: accuracy {accuracy:.3f} on {n} rows is below the floor {floor:g}: attributions would "
            f"explain noise. Train longer or on more rows, or lower dataset.{name}.accuracy_floor."
        )


def classify(task: Task) -> None:
    """Store the classifier's predictions on the scored rows, and what they add up to."""
    folder = classifier_folder(task)
    if (folder / CLASSIFIER).is_file():
        return
    started = time.monotonic()
    rows = prediction_rows(task)
    correct = rows["predicted"] == rows["label"]
    labels = list(task.dataset.labels)
    measured = {
        "accuracy": float(correct.mean()),
        "n_accuracy": len(rows),
        "accuracy_attributed": float(correct[rows["attributed"]].mean()),
        "labels": labels,
        "label_distribution": label_shares(task.samples.scored.labels, labels),
        "label_distribution_train": label_shares(task.samples.train.labels, labels),
        "truncated_share": float(rows["truncated"].mean()),
    }
    about = provenance(task.classifier.device, seconds=round(time.monotonic() - started, 2))
    settings = classifier_key(task) | {"n_layers": task.classifier.n_layers}
    write_parquet(folder / "classifier.parquet", rows)
    write_json(folder / CLASSIFIER, {"settings": settings, "n": len(rows), "provenance": about | measured})
    print(f"{task.dataset.name}: accuracy {correct.mean():.3f} on {len(rows)} rows")


def prediction_rows(task: Task) -> pd.DataFrame:
    """One row per scored instance: label, prediction, the gold class's probability, length, truncation."""
    attributed = set(task.samples.test.ids)
    variants, rows = [], []
    for one in task.scored:
        variants.append(Variant.whole(one.input_ids, one.token_type_ids))
        about = {"instance_id": one.id, "label": one.example.label, "n_tokens": len(one)}
        rows.append(about | {"truncated": one.truncated, "attributed": one.id in attributed})
    found, table = class_probabilities(task.classifier, variants), pd.DataFrame(rows)
    table.insert(2, "predicted", found.argmax(1))
    table.insert(3, "prob_gold", found[np.arange(len(table)), table["label"]])
    return table


def label_shares(given: Sequence[int], labels: Sequence[str]) -> dict[str, float]:
    """Share of every class."""
    counts = Counter(given)
    return {name: counts[number] / len(given) for number, name in enumerate(labels)}
