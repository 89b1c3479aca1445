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
from iba.pipeline.bench import Bench, benches, refuse_long_texts
from iba.pipeline.experiment import NUMERICS, hashed
from iba.pipeline.training import finetune, is_finished
from iba.store import provenance, read_json, write_json, write_parquet

#: The record of a classifier, which is written last.
CLASSIFIER = "classifier.json"


def run(cfg: DictConfig) -> None:
    """Fine-tune what is not fine-tuned yet, then store predictions, accuracy and label distributions."""
    for bench in benches(cfg, lambda bench: bench.recipe):  # an encoder that is not there is refused first
        train(bench)
        classify(bench)


def train(bench: Bench) -> None:
    """Fine-tune the classifier of `bench` unless it is there."""
    if is_finished(bench.checkpoint, bench.recipe):
        return
    cfg, dataset = bench.cfg, bench.dataset
    print(f"{dataset.name}: fine-tuning {cfg.model.title} on {len(bench.samples.train)} rows")
    config = dataset.finetune.get("model_config")
    model, tokenizer = new_classifier(
        cfg.model, cfg.paths.model_dir, dataset.labels, cfg.finetune.seed, config
    )
    # A model that cannot be run is refused before any training.
    probe = probe_inputs(tokenizer, model.device)
    runner_of(model.eval(), probe, Products(), fast=cfg.fast, layers=cfg.layers)
    refuse_long_texts(model, bench.rows.max_length)
    rows = Tokenised.of(bench.samples.train, tokenizer, dataset.max_length, Path(cfg.paths.cache))
    finetune(model, tokenizer, rows, bench.recipe, bench.checkpoint, resolve_device(cfg.device))


def classifier_key(bench: Bench) -> dict[str, Any]:
    """All that the stored predictions depend on."""
    return {
        "weights": bench.weights_digest,
        "recipe": bench.recipe.described(),
        "sample_seed": bench.cfg.seed,
        "n": len(bench.samples.test),
        "test_digest": bench.samples.test.digest,
        "scored_digest": bench.samples.scored.digest,
        "max_length": bench.dataset.max_length,
        **bench.running,
        "numerics": NUMERICS,
    }


def classifier_folder(bench: Bench) -> Path:
    """Where the predictions on the scored rows lie, with a record that holds the accuracy."""
    return bench.folder / "classifiers" / hashed(f"seed={bench.recipe.seed}", classifier_key(bench))


def classifier_record(bench: Bench) -> dict[str, Any]:
    """The stored record of the classifier; `UserError` where there is none."""
    path = classifier_folder(bench) / CLASSIFIER
    if not path.is_file():
        raise UserError(f"{bench.dataset.name}: no predictions yet; run scripts/finetune.py first.")
    record: dict[str, Any] = read_json(path)
    return record


def refuse_weak_classifier(bench: Bench) -> None:
    """Raise `UserError` for a classifier below the data set's accuracy floor."""
    record = classifier_record(bench)["provenance"]
    floor = float(bench.dataset.accuracy_floor)
    if record["accuracy"] < floor:
        name, accuracy, n = bench.dataset.name, record["accuracy"], record["n_accuracy"]
        raise UserError(
            f"{name}: accuracy {accuracy:.3f} on {n} rows is below the floor {floor:g}: attributions would "
            f"explain noise. Train longer or on more rows, or lower dataset.{name}.accuracy_floor."
        )


def classify(bench: Bench) -> None:
    """Store the classifier's predictions on the scored rows, and what they add up to."""
    folder = classifier_folder(bench)
    if (folder / CLASSIFIER).is_file():
        return
    started = time.monotonic()
    rows = prediction_rows(bench)
    correct = rows["predicted"] == rows["label"]
    labels = list(bench.dataset.labels)
    measured = {
        "accuracy": float(correct.mean()),
        "n_accuracy": len(rows),
        "accuracy_attributed": float(correct[rows["attributed"]].mean()),
        "labels": labels,
        "label_distribution": label_shares(bench.samples.scored.labels, labels),
        "label_distribution_train": label_shares(bench.samples.train.labels, labels),
        "truncated_share": float(rows["truncated"].mean()),
    }
    about = provenance(bench.classifier.device, seconds=round(time.monotonic() - started, 2))
    settings = classifier_key(bench) | {"n_layers": bench.classifier.n_layers}
    write_parquet(folder / "classifier.parquet", rows)
    write_json(folder / CLASSIFIER, {"settings": settings, "n": len(rows), "provenance": about | measured})
    print(f"{bench.dataset.name}: accuracy {correct.mean():.3f} on {len(rows)} rows")


def prediction_rows(bench: Bench) -> pd.DataFrame:
    """One row per scored instance: label, prediction, the gold class's probability, length, truncation."""
    attributed = set(bench.samples.test.ids)
    variants, rows = [], []
    for one in bench.scored:
        variants.append(Variant.whole(one.input_ids, one.token_type_ids))
        about = {"instance_id": one.id, "label": one.example.label, "n_tokens": len(one)}
        rows.append(about | {"truncated": one.truncated, "attributed": one.id in attributed})
    found, table = class_probabilities(bench.classifier, variants), pd.DataFrame(rows)
    table.insert(2, "predicted", found.argmax(1))
    table.insert(3, "prob_gold", found[np.arange(len(table)), table["label"]])
    return table


def label_shares(given: Sequence[int], labels: Sequence[str]) -> dict[str, float]:
    """Share of every class."""
    counts = Counter(given)
    return {name: counts[number] / len(given) for number, name in enumerate(labels)}
