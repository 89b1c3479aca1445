"""The benchmark: ours beside the reference, how cost grows, and what lower precision changes.

Every instance of a comparison is timed on both sides, in turns. Ours gets each of the `n` instances
`repeats` times in one call, since batches are what it is made for; the reference gets each one by one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from scipy.stats import spearmanr

from iba.attributor import FitData
from iba.benchmark import host, measure, plots, show
from iba.benchmark.ledger import PROTOCOL, Ledger, Ledgers, Row
from iba.benchmark.operations import Attribute, Operation, Scores
from iba.benchmark.reference import ReferenceModel
from iba.benchmark.subject import Subject
from iba.data.tokens import Instance
from iba.evaluation.degradation import first_step_drops
from iba.evaluation.stats import Resampling, mean_interval, resampling
from iba.models.classifier import Classifier
from iba.models.postnorm import PostNorm
from iba.pipeline.experiment import datasets, method_settings, selected
from iba.store import device_name

#: Groups of instances that a point of the batch sweep is timed on at most: one by one, few tell enough.
_MOST_GROUPS = 16
Call = Callable[[], Any]


def run(cfg: DictConfig) -> None:
    """Measure what is not measured yet, print it and draw it."""
    ledgers = Ledgers(cfg)
    if cfg.benchmark.classifier is None:
        return host.run(ledgers)
    cfg, device = ledgers.cfg, ledgers.device
    comparison, general = (ledgers.open(part, "operation", "dataset") for part in ("", "adapter"))
    scaling = ledgers.open("scaling", "sweep", "operation", "dataset", "value")
    parts = ("precision", "precision_instances")
    precision, instances = (ledgers.open(part, "method", "dataset") for part in parts)
    machine = ledgers.open("machine", "precision")
    peaks = {precision: ledgers.peak(machine, precision) for precision in cfg.benchmark.precisions}
    for position, dataset in enumerate(datasets(cfg)):
        subject = Subject.open(cfg, dataset)
        for name, operation in subject.operations.items():
            key = {"operation": name, "dataset": dataset}
            comparison.measure(key, partial(_compare, subject, operation, peaks))
            if position == 0 and isinstance(subject.classifier.runner, PostNorm):
                general.measure(key, partial(_by_adapter, subject, operation))
            if len(peaks) > 1 and isinstance(operation, Attribute):
                key = {"method": name, "dataset": dataset}
                found = instances.measure(key, partial(_precision, subject, operation))
                precision.measure(key, partial(summary, found, resampling(cfg), device))
        if position == 0:
            _scale(subject, scaling)
    ledgers.finish()
    show.comparison(comparison.rows(), machine.rows(), cfg.benchmark.full_rows)
    show.precision(precision.rows())
    styles = {name: (method.label, method.get("color")) for name, method in selected(cfg.method).items()}
    plots.scaling(scaling.rows(), styles, device_name(device), ledgers.folder / f"{ledgers.stem}_scaling")


def _compare(subject: Subject, operation: Operation, peaks: dict[str, float]) -> list[Row]:
    """One row per precision of ours; the reference runs in float32 as the released code."""
    settings, device = subject.task.cfg.benchmark, subject.classifier.device
    instances = subject.instances(settings.n)
    many = instances * settings.repeats
    ours = {precision: partial(operation.ours, subject.ready[precision], many) for precision in peaks}
    # Asked first: so every shape and precision is warm when the clock runs.
    scores, about = {}, {}
    for precision, call in ours.items():
        scores[precision] = operation.ours(subject.ready[precision], instances)
        count = measure.flops(call) // len(many)
        about[precision] = {"peak_memory_mb": measure.peak_memory(call, device), "flops": count}
    reference = ReferenceModel(subject.classifier)
    for instance in warm_up(instances, device):
        operation.theirs(reference, instance)
    theirs: Scores = []

    def one_by_one() -> None:
        theirs[:] = [operation.theirs(reference, instance) for instance in instances]

    slow, *times = _in_turns(subject, one_by_one, *ours.values())
    slow /= len(instances)
    measured, rows = _measured(subject, operation), []
    for (precision, peak), seconds in zip(peaks.items(), times, strict=True):
        fast = seconds / len(many)
        rate = about[precision]["flops"] / fast
        row = {"precision": precision, "reference_ms": 1e3 * slow, "ours_ms": 1e3 * fast}
        row |= {"ratio": slow / fast} | about[precision] | {"flops_per_s": rate, "peak_share": rate / peak}
        row |= _agreement(scores[precision], theirs, instances, operation)
        rows.append(measured | row | {"device": device_name(device)})
    return rows


def _by_adapter(subject: Subject, operation: Operation) -> list[Row]:
    """The same model by its own forward, through the adapter, beside our blocks; both in float32."""
    settings, fast = subject.task.cfg.benchmark, subject.classifier
    instances = subject.instances(settings.n)
    slow = Classifier(fast.model, fast.tokenizer, fast.device, "fp32", fast.token_budget, fast=False)
    # Warms both up.
    theirs, own = (operation.ours(classifier, instances) for classifier in (slow, fast))
    many = instances * settings.repeats
    calls = (partial(operation.ours, classifier, many) for classifier in (slow, fast))
    adapter, blocks = (seconds / len(many) for seconds in _in_turns(subject, *calls))
    times: Row = {"adapter_ms": 1e3 * adapter, "blocks_ms": 1e3 * blocks, "ratio": adapter / blocks}
    times |= {"device": device_name(fast.device)} | _agreement(theirs, own, instances, operation)
    return [_measured(subject, operation) | times]


def _measured(subject: Subject, operation: Operation) -> Row:
    """What was measured on how many and how long texts."""
    settings = subject.task.cfg.benchmark
    instances = subject.instances(settings.n)
    layer = getattr(operation.method, "layer", None) if isinstance(operation, Attribute) else None
    return {
        "layer": None if layer is None else subject.classifier.resolve_layer(layer),
        "n": len(instances),
        "repeats": settings.repeats,
        "mean_tokens": float(np.mean([len(i) for i in instances])),
    }


def warm_up(instances: Sequence[Instance], device: torch.device) -> list[Instance]:
    """What the reference is warmed up on: on a GPU one instance of every length, whose kernels are chosen
    and loaded when first needed; on a CPU, where that would take minutes, the shortest.
    """
    if device.type != "cuda":
        return [min(instances, key=len)]
    return list({len(instance): instance for instance in instances}.values())


def _in_turns(subject: Subject, slow: Call, *fast: Call) -> list[float]:
    """Median seconds of each call, timed in turns.

    So a machine that slows down meanwhile slows all sides; a long `slow` is timed less often.
    """
    settings, device = subject.task.cfg.benchmark, subject.classifier.device
    found: list[list[float]] = [[] for _ in (slow, *fast)]
    for _ in range(settings.timed_calls):
        if sum(found[0]) < settings.reference_seconds:
            found[0].append(measure.seconds(slow, device))
        for times, call in zip(found[1:], fast, strict=True):
            times.append(measure.seconds(call, device))
    return [statistics.median(times) for times in found]


def _agreement(
    first: Scores, second: Scores, instances: Sequence[Instance], operation: Operation
) -> dict[str, float]:
    """The median over instances of their rank correlation."""
    return {"score_correlation": float(np.median(_correlations(first, second, instances, operation)))}


def _correlations(
    first: Scores, second: Scores, instances: Sequence[Instance], operation: Operation
) -> list[float]:
    """Spearman's rank correlation per instance, over the tokens that may be removed."""
    found = []
    for a, b, instance in zip(first, second, instances, strict=True):
        kept = ~np.array(instance.special) if isinstance(operation, Attribute) else np.full(len(a), True)
        found.append(float(spearmanr(a[kept], b[kept]).statistic))
    return found


def _precision(subject: Subject, operation: Attribute) -> list[Row]:
    """What bf16 changes, per instance: rank correlation of the scores and the drop at 11 %."""
    sizes = subject.task.cfg.benchmark.n_precision
    wanted = sizes.get(subject.name, sizes.default)
    instances = subject.instances(min(wanted, len(subject.task.samples.test)))
    scores, drops = {}, {}
    for precision in ("fp32", "bf16"):
        attributed = operation.attributed(subject.ready[precision], instances)
        scores[precision] = [found.scores.numpy() for found in attributed]
        drops[f"drop_{precision}"] = first_step_drops(attributed, subject.ready[precision], instances)
    table = pd.DataFrame({"instance_id": [instance.id for instance in instances]})
    correlations = _correlations(scores["fp32"], scores["bf16"], instances, operation)
    return table.assign(rank_correlation=correlations, **drops).to_dict("records")


def summary(rows: Sequence[Row], how: Resampling, device: torch.device) -> list[Row]:
    """What bf16 changes over the instances of `rows`, with the interval of the mean difference."""
    table = pd.DataFrame(rows)
    correlations = table["rank_correlation"]
    difference = mean_interval((table["drop_bf16"] - table["drop_fp32"]).to_numpy(float), how)
    return [
        {
            "n": difference.n,
            "rank_correlation_median": float(correlations.median()),
            "rank_correlation_p05": float(correlations.quantile(0.05)),
            "mean_drop_fp32": float(table["drop_fp32"].mean()),
            "mean_drop_bf16": float(table["drop_bf16"].mean()),
            "mean_drop_difference": difference.estimate,
            "difference_low": difference.low,
            "difference_high": difference.high,
            "device": device_name(device),
        }
    ]


def _scale(subject: Subject, ledger: Ledger) -> None:
    """Cost against text length, instances per pass, layer, and number of instances."""
    for name, operation in subject.operations.items():
        for sweep, value, changed in _sweeps(subject, operation):
            key = {"sweep": sweep, "operation": name, "dataset": subject.name, "value": value}
            ledger.measure(key, partial(_point, subject, operation, **changed))


def _sweeps(subject: Subject, operation: Operation) -> Iterator[tuple[str, int, Mapping[str, int]]]:
    """What varies, its value, and what that changes of a point; one thing at a time."""
    sweeps, limit = subject.task.cfg.benchmark.scaling, int(subject.task.dataset.max_length)
    method = operation.method if isinstance(operation, Attribute) else None
    for tokens in (t for t in sweeps.tokens if t <= limit):
        yield "tokens", tokens, {"tokens": tokens}
    for n in sweeps.instances:
        yield "instances", n, {"n": n}
    for rows in sweeps.batch:
        budget = rows * sweeps.base_tokens * (method.copies if method else 1)
        yield "batch", rows, {"n": min(max(sweeps.batch), _MOST_GROUPS * rows), "budget": budget}
    for layer in range(1, subject.classifier.n_layers + 1, sweeps.layer_every):
        if operation.name == "iba":
            yield "layer", layer, {"layer": layer}


def _point(
    subject: Subject,
    operation: Operation,
    tokens: int | None = None,
    n: int | None = None,
    budget: int | None = None,
    layer: int | None = None,
) -> list[Row]:
    """One point of a sweep, at the base values of what is not given."""
    settings = subject.task.cfg.benchmark
    tokens, n = tokens or settings.scaling.base_tokens, n or settings.scaling.base_n
    instances, precision = subject.of_length(tokens, n), settings.precisions[-1]
    classifier = subject.ready[precision].with_budget(budget)
    timed = _at_layer(subject, operation, layer) if isinstance(operation, Attribute) and layer else operation
    call: Call = partial(timed.ours, classifier, instances)
    call()  # warm-up
    ms = 1e3 * measure.seconds(call, classifier.device)
    return [{"tokens": tokens, "n": n, "precision": precision, "ms": ms, "ms_per_instance": ms / n}]


def _at_layer(subject: Subject, operation: Attribute, layer: int) -> Operation:
    """IBA after another layer, its noise statistics learned there."""
    cfg = subject.task.cfg
    settings = method_settings(cfg, subject.name, PROTOCOL, cfg.method[operation.name])
    method = instantiate(settings | {"layer": layer})
    rows = subject.instances(min(int(cfg.benchmark.n), 4))
    return replace(operation, method=method, state=method.fit(subject.classifier, FitData(rows)))
