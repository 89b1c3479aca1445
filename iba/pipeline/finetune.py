"""Stage 1: a classifier for every data set (kept in the cache, shared between runs) and its accuracy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.data.tokens import Tokenised
from iba.errors import UserError
from iba.evaluation.variants import Variant, class_probabilities
from iba.models.classifier import example_inputs, runner_of
from iba.models.devices import resolve_device
from iba.models.frozen import Products
from iba.models.pretrained import new_classifier
from iba.pipeline.bench import Bench, benches, refuse_long_texts
from iba.pipeline.parts import StageTable
from iba.pipeline.store import provenance, read_json
from iba.pipeline.training import finetune, is_finished


def run(cfg: DictConfig) -> None:
    """Fine-tune what is not fine-tuned yet, then store predictions, accuracy and label distributions."""
    # A folder made with other settings is refused before any training.
    for bench in benches(cfg, lambda bench: predictions(bench).is_finished(), refuse_orphans):
        train(bench)
        refuse_other_weights(bench)
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
    example = example_inputs(tokenizer, model.device)
    runner_of(model.eval(), example, Products(), fast=cfg.fast, layers=cfg.layers)
    refuse_long_texts(model, bench.max_length)
    rows = Tokenised.of(bench.samples.train, tokenizer, dataset.max_length, Path(cfg.paths.cache))
    finetune(model, tokenizer, rows, bench.recipe, bench.checkpoint, resolve_device(cfg.device))


def predictions(bench: Bench) -> StageTable:
    """The table of predictions on the scored rows; its record holds the accuracy."""
    settings = bench.inputs | {
        "recipe": bench.recipe.described(),
        "scored_digest": bench.samples.scored.digest,
    }
    return StageTable(bench.run / bench.dataset.name, "classifier", settings)


def refuse_weak_classifier(bench: Bench) -> None:
    """Raise `UserError` for a classifier below the data set's accuracy floor."""
    table = predictions(bench)
    if not table.is_finished():
        raise UserError(f"{bench.dataset.name}: no predictions yet; run scripts/finetune.py first.")
    record = read_json(table.record)["provenance"]
    floor = float(bench.dataset.accuracy_floor)
    if record["accuracy"] < floor:
        name, accuracy, n = bench.dataset.name, record["accuracy"], record["n_accuracy"]
        raise UserError(
            f"{name}: accuracy {accuracy:.3f} on {n} rows is below the floor {floor:g}: attributions would "
            f"explain noise. Train longer or on more rows, or lower dataset.{name}.accuracy_floor."
        )


def refuse_other_weights(bench: Bench) -> None:
    """Raise `UserError` where the run's predictions are of other weights than the cache holds now.

    Training again need not give the same ones (another device, another number of threads), and rows of two
    classifiers must not stand side by side. Older records do not name the weights.
    """
    table = predictions(bench)
    if not (table.holds_the_same() and is_finished(bench.checkpoint, bench.recipe)):
        return
    known = read_json(table.record).get("provenance", {}).get("weights_sha256")
    if known not in (None, bench.weights_digest):
        raise UserError(
            f"{bench.dataset.name}: {table.folder} was made with other fine-tuned weights than "
            f"{bench.checkpoint} now holds: put those back, choose another folder with run=NAME, or delete "
            f"{_folders(bench)}."
        )


def refuse_orphans(bench: Bench) -> None:
    """Raise `UserError` where the run holds attributions of the data set but no record of their classifier.

    Another one, trained by the same recipe, would be taken for theirs.
    """
    if predictions(bench).record.is_file():
        return
    name = bench.dataset.name
    for pattern in (f"{name}/*/*/attributions.json", f"studies/*/{name}/*/*/*/attributions.json"):
        for record in sorted(bench.run.glob(pattern)):
            raise UserError(
                f"{name}: {record.parent} was made with a classifier of which no record is left: choose "
                f"another folder with run=NAME, or delete {_folders(bench)}."
            )


def _folders(bench: Bench) -> str:
    """All that the run holds of the data set."""
    name = str(bench.dataset.name)
    found = [bench.run / name, *sorted(bench.run.glob(f"studies/*/{name}"))]
    return " and ".join(str(folder) for folder in found if folder.is_dir())


def classify(bench: Bench) -> None:
    """Store the classifier's predictions on the scored rows, and what they add up to."""
    table = predictions(bench)
    if table.is_finished():
        return
    table.claim()
    started = time.monotonic()
    rows = prediction_rows(bench)
    correct = rows["predicted"] == rows["label"]
    labels = list(bench.dataset.labels)
    table.finish(
        rows,
        provenance(bench.classifier.device, seconds=round(time.monotonic() - started, 2))
        | {
            "weights_sha256": bench.weights_digest,
            "accuracy": float(correct.mean()),
            "n_accuracy": len(rows),
            "accuracy_attributed": float(correct[rows["attributed"]].mean()),
            "labels": labels,
            "label_distribution": label_shares(bench.samples.scored.labels, labels),
            "label_distribution_train": label_shares(bench.samples.train.labels, labels),
            "truncated_share": float(rows["truncated"].mean()),
        },
    )
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
