"""What the stages that need a model share: one data set's samples, classifier and tokenised instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import PreTrainedModel

from iba.attributor import FitData
from iba.data.examples import Samples, draw_samples
from iba.data.tokens import Instance, Tokenised, tokenise
from iba.errors import UserError
from iba.models.classifier import Classifier
from iba.models.devices import resolve_device, resolve_precision
from iba.models.pretrained import (
    WEIGHTS_FILE,
    encoder_identity,
    file_digest,
    load_classifier,
    n_positions,
    new_classifier,
)
from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import datasets, run_folder
from iba.pipeline.parts import Shard
from iba.pipeline.store import fingerprint, plain
from iba.pipeline.training import Recipe, is_finished


@dataclass(frozen=True)
class Bench:
    """One data set of a run, ready to work on; the classifier is loaded when first asked for.

    `cut`: texts are cut at this many tokens instead of the data set's `max_length`, where a study says so.
    `weights`: "fine-tuned"; "pretrained" (the encoder with a random head); "random" (nothing is trained).
    """

    cfg: DictConfig
    dataset: DictConfig
    samples: Samples
    cut: int | None = None
    weights: str = "fine-tuned"

    @classmethod
    def open(cls, cfg: DictConfig, name: str) -> Bench:
        """Read the data of the selected data set `name` and draw its samples."""
        resolve_device(cfg.device)
        dataset = cfg.dataset[name]
        return cls(cfg, dataset, draw_samples(dataset, cfg.seed))

    @property
    def run(self) -> Path:
        """`results/<run>`."""
        return run_folder(self.cfg)

    def explaining(self, weights: str) -> Bench:
        """The same rows with the classifier of other weights."""
        return self if weights == self.weights else replace(self, weights=weights)

    def first(self, n_test: int | None) -> Bench:
        """The same with the first `n_test` test instances that were drawn; None keeps all."""
        if n_test is None or n_test >= len(self.samples.test):
            return self
        return replace(self, samples=self.samples.first(n_test))

    @cached_property
    def recipe(self) -> Recipe:
        """What the classifier is made of."""
        cfg, dataset = self.cfg, self.dataset
        shared = {name: cfg.finetune[name] for name in ("weight_decay", "warmup", "schedule", "save_every")}
        return Recipe(
            train_name=dataset.train_name,
            model=encoder_identity(cfg.model, cfg.paths.model_dir),
            settings=plain(dataset.finetune) | shared,
            labels=tuple(dataset.labels),
            max_length=dataset.max_length,
            seed=cfg.finetune.seed,
            precision=resolve_precision(cfg.finetune.precision, resolve_device(cfg.device)),
            n_train=len(self.samples.train),
            train_digest=self.samples.digests["train"],
        )

    @property
    def checkpoint(self) -> Path:
        """The fine-tuned classifier's folder in the cache."""
        return self.recipe.folder(Path(self.cfg.paths.cache))

    @property
    def trained(self) -> Path:
        """The checkpoint, which must be there; `UserError` where nothing was fine-tuned on this machine."""
        if not is_finished(self.checkpoint, self.recipe):
            raise UserError(
                f"{self.dataset.name}: no fine-tuned classifier in {self.cfg.paths.cache}; "
                "run scripts/finetune.py first."
            )
        return self.checkpoint

    @cached_property
    def classifier(self) -> Classifier:
        """The fine-tuned classifier, on the configured device and in the configured precision."""
        trained = self.trained  # needed by the weights of a control too: they are compared with its own
        device = resolve_device(self.cfg.device)
        if self.weights == "fine-tuned":
            model, tokenizer = load_classifier(trained)
        else:
            model, tokenizer = new_classifier(
                self.cfg.model, self.cfg.paths.model_dir, self.dataset.labels, self.recipe.seed
            )
            if self.weights == "random":
                model = type(model)(model.config)
        refuse_long_texts(model, self.max_length)
        cfg = self.cfg
        running = cfg.token_budget, cfg.fast, cfg.layers, cfg.memory_gb
        return Classifier(model, tokenizer, device, self.precision, *running)

    @property
    def weights_digest(self) -> str:
        """SHA-256 of the fine-tuned weights; the same recipe may give others on another machine."""
        return file_digest(self.trained / WEIGHTS_FILE)

    @property
    def precision(self) -> str:
        """fp32 or bf16, for running the classifier."""
        return resolve_precision(self.cfg.precision, resolve_device(self.cfg.device))

    @cached_property
    def scored(self) -> list[Instance]:
        """The tokenised rows behind the accuracy; the first `n_test` of the random order are attributed."""
        return self.tokenised(self.samples.scored)

    @cached_property
    def test(self) -> list[Instance]:
        """The tokenised test instances that are attributed and degraded."""
        return self.tokenised(self.samples.test)

    def tokenised(self, examples: list[Any]) -> list[Instance]:
        """Examples cut at the data set's `max_length`."""
        return tokenise(examples, self.classifier.tokenizer, self.max_length)

    @property
    def max_length(self) -> int:
        """Tokens of a text that are read, special tokens included."""
        return int(self.cut or self.dataset.max_length)

    @cached_property
    def fit_data(self) -> FitData:
        """The training rows that methods may learn from."""
        train = Tokenised(self.samples.train, self.classifier.tokenizer, self.max_length)
        return FitData(train, self.tokenised(self.samples.calibration))

    @property
    def inputs(self) -> dict[str, Any]:
        """What every result on this data set depends on: classifier, rows, cut, precision."""
        # By whatever path, scores agree but for rounding: only a path that was forced is told apart.
        forced = {
            "fast": ("auto", self.cfg.fast),
            "layers": (None, self.cfg.layers),
            "weights": ("fine-tuned", self.weights),
        }
        return {
            "classifier": fingerprint(self.recipe.described()),
            "test_digest": self.samples.digests["test"],
            "n": len(self.samples.test),
            "max_length": self.max_length,
            "precision": self.precision,
            "sample_seed": self.cfg.seed,
        } | {name: chosen for name, (usual, chosen) in forced.items() if chosen != usual}

    @property
    def shard(self) -> Shard:
        """This process's share of the work."""
        return Shard.parse(str(self.cfg.shard))


def benches(cfg: DictConfig, *checks: Callable[[Bench], object]) -> Iterator[Bench]:
    """The selected data sets, one after the other.

    All are read and pass `checks` before the first is handed out, so that a mistake in the last does not
    wait until the others are done.
    """
    check_settings(cfg)
    waiting = [Bench.open(cfg, name) for name in datasets(cfg)]
    for bench in waiting:
        for check in checks:
            check(bench)
    while waiting:
        yield waiting.pop(0)


def refuse_long_texts(model: PreTrainedModel, max_length: int) -> None:
    """Raise `UserError` where texts may be longer than the encoder has positions for."""
    if max_length > n_positions(model):
        raise UserError(f"max_length={max_length}: this encoder has {n_positions(model)} positions.")
