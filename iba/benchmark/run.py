"""The benchmark: ours beside the reference, how cost grows, and what lower precision changes.

Every instance of a comparison is timed on both sides, in turns. Ours gets each of the `n` instances
`repeats` times in one call, since batches are what it is made for; the reference gets each one by one.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from scipy.stats import spearmanr

from iba.attributor import FitData
from iba.benchmark import host, measure, plots, show
from iba.benchmark.ledger import Ledger, Row
from iba.benchmark.operations import Attribute, Operation, Scores
from iba.benchmark.reference import ReferenceModel
from iba.benchmark.subject import PROTOCOL, Subject
from iba.data.tokens import Instance
from iba.devices import resolve_device, resolve_precision
from iba.evaluation.degradation import first_step_drops
from iba.evaluation.stats import Resampling, mean_interval, resampling
from iba.models.classifier import Classifier
from iba.models.postnorm import PostNorm
from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import datasets, method_settings, selected
from iba.settings import plain
from iba.store import device_name, provenance

#: Groups of instances that a point of the batch sweep is timed on at most: one by one, few tell enough.
_MOST_GROUPS = 16


def run(cfg: DictConfig) -> None:
    """Measure what is not measured yet, print it and draw it."""
    check_settings(cfg)
    device = resolve_device("cpu" if cfg.benchmark.classifier is None else cfg.device)
    cfg = sized(cfg, device)
    folder = Path(cfg.paths.results) / "benchmark"
    name = file_name(cfg, device)
    book = partial(new_ledger, cfg, folder, name, device)
    if cfg.benchmark.classifier is None:
        return host.run(cfg, book("host", ("operation", "dataset", "tokens")))
    machine = book("machine", ("precision",))
    comparison = book("", ("operation", "dataset"))
    scaling = book("scaling", ("sweep", "operation", "dataset", "value"))
    precision = book("precision", ("method", "dataset"))
    instances = book("precision_instances", ("method", "dataset"))
    general = book("adapter", ("operation", "dataset"))
    ledgers = (machine, comparison, scaling, precision, instances, general)
    for ledger in ledgers:
        ledger.open()
    peaks = {p: peak_of(machine, cfg, device, p) for p in cfg.benchmark.precisions}
    for position, dataset in enumerate(datasets(cfg)):
        subject = Subject.open(cfg, dataset)
        for operation in subject.operations.values():
            key = {"operation": operation.name, "dataset": dataset}
            comparison.measure(key, partial(_compare, subject, operation, peaks))
            if len(peaks) > 1 and isinstance(operation, Attribute):
                key = {"method": operation.name, "dataset": dataset}
                found = instances.measure(key, partial(_precision, subject, operation))
                precision.measure(key, partial(summary, found, resampling(cfg), device))
        if position == 0:
            if isinstance(subject.classifier.runner, PostNorm):
                for operation in subject.operations.values():
                    key = {"operation": operation.name, "dataset": dataset}
                    general.measure(key, partial(_by_adapter, subject, operation))
            _scale(subject, scaling)
    for ledger in ledgers:
        ledger.finish(provenance(device))
    show.comparison(comparison.rows(), machine.rows(), cfg.benchmark.full_rows)
    show.precision(precision.rows())
    styles = {name: (method.label, method.get("color")) for name, method in selected(cfg.method).items()}
    plots.scaling(scaling.rows(), styles, device_name(device), folder / f"{name}_scaling")


def sized(cfg: DictConfig, device: torch.device) -> DictConfig:
    """The configuration, on a GPU with what `cuda` changes of it and without a precision that it lacks."""
    if device.type != "cuda":
        return cfg
    larger = OmegaConf.merge(cfg, cfg.cuda)
    assert isinstance(larger, DictConfig)
    if resolve_precision("auto", device) == "fp32":  # bf16 would be emulated: no run uses it there
        larger.benchmark.precisions = ["fp32"]
    return larger


def new_ledger(
    cfg: DictConfig, folder: Path, name: str, device: torch.device, part: str, key: tuple[str, ...]
) -> Ledger:
    """The rows of one `part`, with all that they depend on."""
    settings = {
        "benchmark": plain(cfg.benchmark),
        "model": plain(cfg.model),
        "token_budget": cfg.token_budget,
        "n_points": cfg.degradation.n_points,
        "finetune": plain(cfg.finetune),
        "stats": plain(cfg.stats),
        "seed": cfg.seed,
        "device": device_name(device),
    }
    rows = {name: _rows(cfg, name) for name in datasets(cfg)}
    return Ledger(folder, f"{name}_{part}" if part else name, key, settings, rows)


def _rows(cfg: DictConfig, name: str) -> dict[str, Any]:
    """Which rows of a data set are measured, how long they are, and by which classifier and methods."""
    sizes = ("max_length", "n_train", "n_calibration", "n_test", "finetune")
    methods = {m: method_settings(cfg, name, PROTOCOL, each) for m, each in selected(cfg.method).items()}
    return {size: plain(cfg.dataset[name][size]) for size in sizes} | {"methods": methods}


def file_name(cfg: DictConfig, device: torch.device) -> str:
    """The files' name below results/benchmark."""
    slug = re.sub(r"[^a-z0-9]+", "_", device_name(device).lower()).strip("_")
    return str(cfg.benchmark.name or slug)


def peak_of(machine: Ledger, cfg: DictConfig, device: torch.device, precision: str) -> float:
    """FLOP/s of the machine's fastest product of two large matrices, measured once."""
    size = cfg.benchmark.matmul_size[device.type]

    def work() -> list[Row]:
        rate = measure.matmul_peak(device, precision, size)
        return [{"matmul_size": size, "matmul_flops_per_s": rate, "device": device_name(device)}]

    return float(machine.measure({"precision": precision}, work)[0]["matmul_flops_per_s"])


def _compare(subject: Subject, operation: Operation, peaks: dict[str, float]) -> list[Row]:
    """One row per precision of ours; the reference runs in float32 as the released code."""
    settings, device = subject.bench.cfg.benchmark, subject.classifier.device
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

    seconds = _in_turns(subject, one_by_one, ours)
    shared = _measured(subject, operation, instances)
    slow = seconds["reference"] / len(instances)
    rows = []
    for precision, peak in peaks.items():
        times = _times(slow, seconds[precision] / len(many), about[precision], peak)
        correlation = np.median(_correlations(scores[precision], theirs, instances, operation))
        last = {"score_correlation": float(correlation), "device": device_name(device)}
        rows.append(shared | {"precision": precision} | times | last)
    return rows


def _measured(subject: Subject, operation: Operation, instances: Sequence[Instance]) -> Row:
    """What was measured on how many and how long texts."""
    return {
        "layer": _layer(subject, operation),
        "n": len(instances),
        "repeats": subject.bench.cfg.benchmark.repeats,
        "mean_tokens": float(np.mean([len(i) for i in instances])),
    }


def _by_adapter(subject: Subject, operation: Operation) -> list[Row]:
    """The same model by its own forward, through the adapter, beside our blocks; both in float32."""
    fast, instances = subject.classifier, subject.instances(subject.bench.cfg.benchmark.n)
    slow = Classifier(fast.model, fast.tokenizer, fast.device, "fp32", fast.token_budget, fast=False)
    # Warms both up.
    theirs, own = (operation.ours(classifier, instances) for classifier in (slow, fast))
    many = instances * subject.bench.cfg.benchmark.repeats
    adapter, blocks = (partial(operation.ours, classifier, many) for classifier in (slow, fast))
    times = {
        name: 1e3 * seconds / len(many)
        for name, seconds in _in_turns(subject, adapter, {"fp32": blocks}).items()
    }
    return [
        _measured(subject, operation, instances)
        | {"adapter_ms": times["reference"], "blocks_ms": times["fp32"]}
        | {"ratio": times["reference"] / times["fp32"], "device": device_name(fast.device)}
        | {"score_correlation": float(np.median(_correlations(theirs, own, instances, operation)))}
    ]


def _times(slow: float, fast: float, about: Row, peak: float) -> Row:
    """Columns of seconds per instance, of the reference and of ours; `peak` in FLOP/s."""
    rate = about["flops"] / fast
    times = {"reference_ms": 1e3 * slow, "ours_ms": 1e3 * fast, "ratio": slow / fast}
    return times | about | {"flops_per_s": rate, "peak_share": rate / peak}


def warm_up(instances: Sequence[Instance], device: torch.device) -> list[Instance]:
    """What the reference is warmed up on: on a GPU one instance of every length, whose kernels are chosen
    and loaded when first needed; on a CPU, where that would take minutes, the shortest.
    """
    if device.type != "cuda":
        return [min(instances, key=len)]
    return list({len(instance): instance for instance in instances}.values())


def _in_turns(
    subject: Subject, theirs: Callable[[], Any], ours: Mapping[str, Callable[[], Any]]
) -> dict[str, float]:
    """Median seconds of a call of the reference, and of ours in every precision, timed in turns.

    So a machine that slows down meanwhile slows both sides; a long reference is timed less often.
    """
    settings, device = subject.bench.cfg.benchmark, subject.classifier.device
    found: dict[str, list[float]] = {name: [] for name in ("reference", *ours)}
    for _ in range(settings.timed_calls):
        if sum(found["reference"]) < settings.reference_seconds:
            found["reference"].append(measure.seconds(theirs, device))
        for precision, call in ours.items():
            found[precision].append(measure.seconds(call, device))
    return {name: statistics.median(times) for name, times in found.items()}


def _layer(subject: Subject, operation: Operation) -> int | None:
    layer = getattr(operation.method, "layer", None) if isinstance(operation, Attribute) else None
    return None if layer is None else subject.classifier.resolve_layer(layer)


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
    sizes = subject.bench.cfg.benchmark.n_precision
    wanted = sizes.get(subject.name, sizes.default)
    instances = subject.instances(min(wanted, len(subject.bench.samples.test)))
    scores, drops = {}, {}
    for precision in ("fp32", "bf16"):
        attributed = operation.attributed(subject.ready[precision], instances)
        scores[precision] = [found.scores.numpy() for found in attributed]
        drops[precision] = first_step_drops(attributed, subject.ready[precision], instances)
    correlations = _correlations(scores["fp32"], scores["bf16"], instances, operation)
    return [
        {
            "instance_id": instance.id,
            "rank_correlation": correlations[i],
            **{f"drop_{precision}": float(drops[precision][i]) for precision in drops},
        }
        for i, instance in enumerate(instances)
    ]


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
    """Cost against text length, instances per pass, layer, and number of instances; one varies at a time."""
    sweeps = subject.bench.cfg.benchmark.scaling
    base_tokens, base_n = int(sweeps.base_tokens), int(sweeps.base_n)
    limit = int(subject.bench.dataset.max_length)
    for operation in subject.operations.values():
        copies = operation.method.copies if isinstance(operation, Attribute) else 1
        for tokens in (t for t in sweeps.tokens if t <= limit):
            _point(subject, ledger, operation, "tokens", tokens, tokens, base_n)
        for n in sweeps.instances:
            _point(subject, ledger, operation, "instances", n, base_tokens, n)
        for rows in sweeps.batch:
            budget, n = rows * base_tokens * copies, min(max(sweeps.batch), _MOST_GROUPS * rows)
            _point(subject, ledger, operation, "batch", rows, base_tokens, n, budget)
        if isinstance(operation, Attribute) and operation.name == "iba":
            for layer in range(1, subject.classifier.n_layers + 1, int(sweeps.layer_every)):
                moved = partial(_at_layer, subject, operation, layer)
                _point(subject, ledger, operation, "layer", layer, base_tokens, base_n, moved=moved)


def _point(
    subject: Subject,
    ledger: Ledger,
    operation: Operation,
    sweep: str,
    value: int,
    tokens: int,
    n: int,
    budget: int | None = None,
    moved: Callable[[], Operation] | None = None,
) -> None:
    precision = subject.bench.cfg.benchmark.precisions[-1]

    def work() -> list[Row]:
        instances = subject.of_length(tokens, n)
        timed = moved() if moved else operation
        classifier = subject.ready[precision].with_budget(budget)
        call: Callable[[], Scores] = partial(timed.ours, classifier, instances)
        call()  # warm-up
        seconds = measure.seconds(call, classifier.device)
        return [
            {
                "tokens": tokens,
                "n": n,
                "precision": precision,
                "ms": 1e3 * seconds,
                "ms_per_instance": 1e3 * seconds / n,
            }
        ]

    ledger.measure(
        {"sweep": sweep, "operation": operation.name, "dataset": subject.name, "value": value}, work
    )


def _at_layer(subject: Subject, operation: Attribute, layer: int) -> Operation:
    """IBA after another layer, its noise statistics learned there."""
    cfg = subject.bench.cfg
    settings = method_settings(cfg, subject.name, PROTOCOL, cfg.method[operation.name])
    method = instantiate(settings | {"layer": layer})
    rows = subject.instances(min(int(cfg.benchmark.n), 4))
    return replace(operation, method=method, state=method.fit(subject.classifier, FitData(rows)))
