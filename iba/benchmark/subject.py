"""What is measured: a classifier, and instances of a data set that stand for its lengths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig

from iba.attributor import FitData
from iba.benchmark.ledger import PROTOCOL
from iba.benchmark.null import null_classifier
from iba.benchmark.operations import Attribute, Degrade, Operation
from iba.data.examples import Example
from iba.data.tokens import Instance, tokenise
from iba.devices import resolve_device
from iba.models.classifier import Classifier
from iba.models.pretrained import load_classifier, new_classifier
from iba.pipeline.experiment import method_settings, selected
from iba.pipeline.task import Task


@dataclass(frozen=True)
class Subject:
    """One data set with a classifier in float32 and the operations that are timed on it."""

    task: Task
    classifier: Classifier
    operations: dict[str, Operation]

    @classmethod
    def open(cls, cfg: DictConfig, name: str) -> Subject:
        """Load the fine-tuned classifier (or a fresh head) and let every method learn what it needs."""
        task = Task.open(cfg, name)
        classifier = task.kept["fine-tuned"] = _classifier(task)  # also the task's own, which tokenises
        data = FitData(task.tokenised(task.samples.train[: cfg.benchmark.n_fit]))
        operations: dict[str, Operation] = {}
        for method, settings in selected(cfg.method).items():
            made = instantiate(method_settings(cfg, name, PROTOCOL, settings))
            operations[method] = Attribute(method, made, made.fit(classifier, data))
        operations["degradation"] = Degrade(np.linspace(0, 1, cfg.degradation.n_points).tolist())
        return cls(task, classifier, operations)

    @property
    def name(self) -> str:
        """The data set's name."""
        return str(self.task.dataset.name)

    @cached_property
    def by_length(self) -> list[Instance]:
        """The test instances, shortest first."""
        return sorted(self.task.test, key=len)

    def instances(self, n: int) -> list[Instance]:
        """`n` test instances at evenly spaced quantiles of length, so that their mean cost is the set's."""
        rows = self.by_length
        return [rows[int((i + 0.5) * len(rows) / n)] for i in range(n)]

    def of_length(self, tokens: int, n: int) -> list[Instance]:
        """`n` instances of exactly `tokens` tokens, made from the test texts in a row (single texts)."""
        words = " ".join(e.text for e in self.task.samples.test).split()
        share = len(words) // n
        texts = [
            " ".join(words[k % len(words)] for k in range(i * share, i * share + tokens)) for i in range(n)
        ]
        examples = [Example(f"made:{i}", text, None, 0) for i, text in enumerate(texts)]
        return tokenise(examples, self.classifier.tokenizer, tokens)

    @cached_property
    def ready(self) -> dict[str, Classifier]:
        """The classifier in either precision."""
        return {"fp32": self.classifier, "bf16": self.classifier.in_precision("bf16")}


def _classifier(task: Task) -> Classifier:
    cfg = task.cfg
    if cfg.benchmark.classifier is None:
        return null_classifier(cfg, task.dataset.labels)
    if cfg.benchmark.classifier == "finetuned":
        model, tokenizer = load_classifier(task.trained)
    else:
        model, tokenizer = new_classifier(
            cfg.model, cfg.paths.model_dir, task.dataset.labels, cfg.finetune.seed
        )
    running = cfg.token_budget, cfg.fast, cfg.layers, cfg.memory_gb
    return Classifier(model, tokenizer, resolve_device(cfg.device), "fp32", *running)
