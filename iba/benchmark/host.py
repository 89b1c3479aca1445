"""CPU work per text: every operation with a model that costs nothing, beside a straightforward version.

The whole process's CPU time is taken, all threads together, and the least of `timed_calls`: it depends less
than other times on what else the machine does. torch works on one thread, since its work is a GPU's.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from baselines.lime_released import LimeReleased
from baselines.lime_tokens import LimeTokens
from iba.benchmark import measure, show
from iba.benchmark.ledger import Ledger, Ledgers, Row
from iba.benchmark.null import NullReference
from iba.benchmark.operations import Attribute, Operation
from iba.benchmark.subject import Subject
from iba.data.tokens import Instance
from iba.pipeline.experiment import datasets, method_settings, selected


def run(ledgers: Ledgers) -> None:
    """Measure what is not measured yet, on texts of every data set's words, and print it."""
    ledger = ledgers.open("host", "operation", "dataset", "tokens")
    with measure.one_thread():
        _measure(ledgers.cfg, ledger)
    ledgers.finish()
    rows = ledger.rows()
    forms = {name: "{}" if rows[name].dtype.kind not in "fi" else "{:.4g}" for name in rows}
    columns = {name: (name.replace("_", " "), form) for name, form in forms.items()}
    show.table("CPU milliseconds per text beside a forward pass that costs nothing", rows, columns)


def _measure(cfg: DictConfig, ledger: Ledger) -> None:
    for dataset, about in datasets(cfg).items():
        subject = Subject.open(cfg, dataset)
        for tokens in (t for t in cfg.benchmark.scaling.tokens if t <= about.max_length):
            instances = subject.of_length(tokens, cfg.benchmark.n)
            for operation in (*subject.operations.values(), *_released(cfg, dataset)):
                key = {"operation": operation.name, "dataset": dataset, "tokens": tokens}
                ledger.measure(key, partial(_row, subject, operation, instances))


def _released(cfg: DictConfig, dataset: str) -> list[Operation]:
    """LIME as released, which tokenises its samples; nothing where it is not selected."""
    if "lime" not in selected(cfg.method) or "released" not in selected(cfg.protocol):
        return []
    settings = method_settings(cfg, dataset, "released", cfg.method.lime)
    return [Attribute("lime as released", instantiate(settings), {})]


def _row(subject: Subject, operation: Operation, instances: list[Instance]) -> list[Row]:
    classifier, calls = subject.classifier, int(subject.task.cfg.benchmark.timed_calls)
    ours = operation.ours(classifier, instances)
    spent = measure.cpu_seconds(partial(operation.ours, classifier, instances), calls) / len(instances)
    row: Row = {"n": len(instances), "cpu_ms": 1e3 * spent}
    if isinstance(operation, Attribute) and not isinstance(operation.method, LimeTokens | LimeReleased):
        return [row]  # the straightforward version of the others is the work of a real model
    plain = NullReference(classifier)
    theirs = [operation.theirs(plain, instance) for instance in instances]
    slow = measure.cpu_seconds(lambda: [operation.theirs(plain, i) for i in instances], calls)
    row["straightforward_cpu_ms"] = 1e3 * slow / len(instances)
    row["largest_difference"] = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    return [row]
