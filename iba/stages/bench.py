"""What the stages that need a model share: one data set's samples, classifier and tokenised instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from omegaconf import DictConfig, OmegaConf
from transformers import PreTrainedModel

from iba.attributor import FitData
from iba.data.examples import Samples, draw_samples
from iba.data.tokens import Instance, Tokenised, tokenise
from iba.degradation import OPERATORS
from iba.devices import resolve_device, resolve_precision
from iba.encoder import Classifier
from iba.errors import UserError, refuse_unless_whole
from iba.experiment import TARGETS, datasets, run_folder, selected
from iba.finetune import Recipe, is_finished
from iba.parts import Shard
from iba.pretrained import (
    WEIGHTS_FILE,
    encoder_identity,
    file_digest,
    load_classifier,
    n_positions,
    new_classifier,
)
from iba.ranking import FIRST_STEP, Order
from iba.stats import resampling
from iba.store import fingerprint, plain

#: Of which classifier the prediction is explained; the degradation test always asks the fine-tuned one.
WEIGHTS = ("fine-tuned", "pretrained", "random")
#: Whole numbers of the configuration, and of every data set, with the smallest that makes sense.
_SMALLEST = {
    "seed": 0,
    "token_budget": 1,
    "part_size": 1,
    "finetune.seed": 0,
    "finetune.save_every": 1,
    "stats.seed": 0,
    "stats.n_resamples": 1,
}
_SMALLEST_OF_DATA = {"max_length": 4, "n_train": 1, "n_calibration": 0, "n_accuracy": 1, "n_test": 1}


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
        check(cfg)
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
        return Classifier(model, tokenizer, device, self.precision, self.cfg.token_budget)

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
        return {
            "classifier": fingerprint(self.recipe.described()),
            "test_digest": self.samples.digests["test"],
            "n": len(self.samples.test),
            "max_length": self.max_length,
            "precision": self.precision,
            "sample_seed": self.cfg.seed,
        } | ({} if self.weights == "fine-tuned" else {"weights": self.weights})

    @property
    def shard(self) -> Shard:
        """This process's share of the work."""
        return Shard.parse(str(self.cfg.shard))


def benches(cfg: DictConfig, *checks: Callable[[Bench], object]) -> Iterator[Bench]:
    """The selected data sets, one after the other.

    All are read and pass `checks` before the first is handed out, so that a mistake in the last does not
    wait until the others are done.
    """
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


def check(cfg: DictConfig) -> None:
    """Raise `UserError` for settings that would otherwise fail only after expensive work; reads no data."""
    if cfg.target not in TARGETS:
        raise UserError(f"target={cfg.target} is unknown; choose from {', '.join(TARGETS)}.")
    resolve_precision(cfg.precision, resolve_device(cfg.device))
    Shard.parse(str(cfg.shard))
    resampling(cfg)
    studies = selected(cfg.get("study") or DictConfig({}))
    _check_numbers("", cfg, _SMALLEST)
    for name, dataset in datasets(cfg).items():
        _check_numbers(f"dataset.{name}.", dataset, _SMALLEST_OF_DATA)
    _check_degradation("degradation", cfg.degradation)
    _check_steps(cfg.degradation.n_points)
    for name, method in selected(cfg.method).items():
        _check_sizes(f"method.{name}.n_test.", method.get("n_test") or {})
    for name, study in studies.items():
        _check_degradation(f"study.{name}.degradation", study.degradation)
        _check_sizes(f"study.{name}.n_test.", study.n_test)


def _check_degradation(setting: str, chosen: DictConfig) -> None:
    """Known names only, and with them what Table 1 is made of: deletion, most important first."""
    for part, known, needed in (
        ("operators", tuple(OPERATORS), "delete"),
        ("orders", get_args(Order), "most"),
    ):
        unknown = [name for name in chosen[part] if name not in known]
        if unknown:
            choice = f"choose from [{', '.join(known)}]"
            raise UserError(f"{setting}.{part}: {unknown[0]!r} is unknown; {choice}.")
        if needed not in chosen[part]:
            raise UserError(f"{setting}.{part} must hold {needed!r}, which Table 1 is made of.")


def _check_steps(points: Any) -> None:
    """One of the steps must be the one that Table 1 reads."""
    found = isinstance(points, int) and points > 1 and np.isclose(np.linspace(0, 1, points), FIRST_STEP).any()
    if not found:
        raise UserError(
            f"degradation.n_points={points}: no step is at 1/9 (11 %), Table 1's; take 10, 19, 28, …"
        )


def _check_numbers(prefix: str, cfg: DictConfig, smallest: Mapping[str, int]) -> None:
    for setting, least in smallest.items():
        of_rows = setting in ("n_train", "n_accuracy", "n_test")
        refuse_unless_whole(prefix + setting, OmegaConf.select(cfg, setting), least, of_rows)


def _check_sizes(prefix: str, sizes: Mapping[str, Any]) -> None:
    for name, n in sizes.items():
        refuse_unless_whole(prefix + name, n, 1, of_rows=True)
