"""How long Table 1 takes with an encoder: its passes timed, the methods' floating-point operations counted.

No reference is run and no test set gone through, so an encoder of bert-base's size takes a GPU a minute. What
the processor does beside the device, such as drawing LIME's samples, is not in the projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.benchmark import measure, show
from iba.benchmark.ledger import Ledgers, Row
from iba.benchmark.operations import Operation
from iba.benchmark.subject import Subject
from iba.models.classifier import Classifier
from iba.pipeline.experiment import datasets

FORWARD, BACKWARD = "forward", "forward and backward"
#: A pass holds one in so many of the token budget's tokens, since activations are kept for the way back.
_SHARE = 4
#: Tokens at a time while operations are counted: few, so that hardly any padding is counted. Among the many
#: texts of a run there is little.
_COUNTED = 512


def run(cfg: DictConfig) -> None:
    """Measure and count what is not known yet, and print what Table 1 takes by it."""
    ledgers = Ledgers(cfg, f"_{cfg.model.name}")
    cfg, precision = ledgers.cfg, ledgers.cfg.benchmark.precisions[-1]
    passes, counts = ledgers.open("passes", "work", "tokens"), ledgers.open("flops", "operation", "dataset")
    peak = ledgers.peak(ledgers.open("machine", "precision"), precision)
    for position, dataset in enumerate(datasets(cfg)):
        subject = Subject.open(cfg, dataset)
        classifier = subject.ready[precision]
        for tokens in cfg.benchmark.scaling.tokens if position == 0 else ():
            for work in (FORWARD, BACKWARD):
                key = {"work": work, "tokens": tokens}
                passes.measure(key, partial(_pass, classifier, subject, work, tokens, peak))
        for operation in subject.operations.values():
            key = {"operation": operation.name, "dataset": dataset}
            counts.measure(key, partial(_count, classifier, subject, operation))
    ledgers.finish()
    _show(passes.rows(), counts.rows(), cfg.benchmark.full_rows)


def _pass(classifier: Classifier, subject: Subject, work: str, tokens: int, peak: float) -> list[Row]:
    """One pass through all layers; backward to what enters the first, as for an attribution."""
    n = max(1, classifier.token_budget // tokens // _SHARE)
    inputs = classifier.batch(subject.of_length(tokens, n)).inputs
    entering = classifier.entering(inputs).requires_grad_(work == BACKWARD)

    def call() -> None:
        entering.grad = None
        logits = classifier.logits_from(entering, inputs, 0)
        if work == BACKWARD:
            logits[:, 0].sum().backward()

    counted = measure.flops(call)  # warms up as well
    seconds = min(measure.seconds(call, classifier.device) for _ in range(3))
    rate = counted / seconds
    return [{"n": n, "ms": 1e3 * seconds, "flops": counted, "flops_per_s": rate, "peak_share": rate / peak}]


def _count(classifier: Classifier, subject: Subject, operation: Operation) -> list[Row]:
    """Floating-point operations per text, of texts that stand for the set's lengths."""
    instances = subject.instances(subject.task.cfg.benchmark.n)
    counted = measure.flops(partial(operation.ours, classifier.with_budget(_COUNTED), instances))
    forward = getattr(getattr(operation, "method", None), "needs", "logits") == "logits"
    return [
        {
            "work": FORWARD if forward else BACKWARD,
            "n": len(instances),
            "mean_tokens": float(np.mean([len(i) for i in instances])),
            "flops": counted // len(instances),
        }
    ]


def seconds_at(counts: pd.DataFrame, full_rows: Mapping[str, int], rate: float | pd.Series) -> float | None:
    """Seconds of Table 1 at `rate` FLOP/s, one for all or one per row of `counts`."""
    return show.table_1_seconds(counts.assign(ours_ms=1e3 * counts["flops"] / rate), full_rows)


def rates(counts: pd.DataFrame, passes: pd.DataFrame) -> pd.Series:
    """FLOP/s for each row of `counts`: of the pass of the same kind whose length is nearest."""

    def rate(row: pd.Series) -> float:
        same = passes[passes["work"] == row["work"]]
        return float(same.loc[(same["tokens"] - row["mean_tokens"]).abs().idxmin(), "flops_per_s"])

    return counts.apply(rate, axis=1)


def _show(passes: pd.DataFrame, counts: pd.DataFrame, full_rows: Mapping[str, int]) -> None:
    for one in passes.itertuples():
        speed = f"{one.flops_per_s / 1e12:,.2f} TFLOP/s, {one.peak_share:.0%} of the measured peak"
        print(f"{one.work}, {one.n} texts of {one.tokens} tokens: {one.ms:,.1f} ms, {speed}")
    print("Projected from counted operations and these passes:")
    show.projected(seconds_at(counts, full_rows, rates(counts, passes)), full_rows)
