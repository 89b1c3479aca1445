"""What the stages that need a model share: one data set's samples, classifier and tokenised instances."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from transformers import PreTrainedModel

from iba.attributor import FitData
from iba.data.examples import Example, Examples, Samples, draw_samples
from iba.data.tokens import Instance, Tokenised, tokenise
from iba.devices import resolve_device, resolve_precision
from iba.errors import UserError
from iba.models.classifier import Classifier
from iba.models.pretrained import (
    WEIGHTS_FILE,
    encoder_identity,
    file_digest,
    load_classifier,
    n_positions,
    new_classifier,
)
from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import RowSet, datasets, forced, run_folder
from iba.pipeline.parts import Shard
from iba.pipeline.training import Recipe, is_finished
from iba.settings import plain
from iba.store import read_json


@dataclass(frozen=True)
class Task:
    """One data set of a run, ready to work on; a classifier is loaded when first asked for.

    `rows`: which of the sample's test rows, cut where. `kept`: what tasks of the same data set share.
    """

    cfg: DictConfig
    dataset: DictConfig
    samples: Samples
    rows: RowSet
    kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def open(cls, cfg: DictConfig, name: str) -> Task:
        """Read the data of the selected data set `name` and draw its samples."""
        resolve_device(cfg.device)
        dataset = cfg.dataset[name]
        return cls(cfg, dataset, draw_samples(dataset, cfg.seed), RowSet(cfg.seed, dataset.max_length))

    def on(self, rows: RowSet) -> Task:
        """The same data set with other rows of the sample that this task holds."""
        if rows not in self.kept:
            samples = replace(self.samples, calibration=self.samples.calibration[: rows.n_calibration])
            if rows.named is not None:
                samples = replace(samples, test=Examples.of([*self._named(rows.ids or ()), *rows.own]))
            elif rows.n is not None:
                samples = samples.first(rows.n)
            self.kept[rows] = replace(self, samples=samples, rows=rows)
        found: Task = self.kept[rows]
        return found

    def _named(self, ids: Sequence[str]) -> list[Example]:
        known = {example.id: example for example in self.samples.test}
        if missing := [name for name in ids if name not in known]:
            raise UserError(
                f"{self.dataset.name} row {missing[0]} is not among the attributed test rows; choose from "
                f"{self.folder}/classifiers/*/classifier.parquet (attributed = true)."
            )
        return [known[name] for name in ids]

    @property
    def folder(self) -> Path:
        """`results/<run>/<dataset>`."""
        return run_folder(self.cfg) / str(self.dataset.name)

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
            train_digest=self.samples.train.digest,
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

    @property
    def classifier(self) -> Classifier:
        """The fine-tuned classifier, on the configured device and in the configured precision."""
        return self.explaining("fine-tuned")

    def explaining(self, weights: str) -> Classifier:
        """The classifier of these weights: "fine-tuned"; "pretrained" (the encoder with a random head);
        "random" (nothing is trained)."""
        if weights not in self.kept:
            self.kept[weights] = self._load(weights)
        found: Classifier = self.kept[weights]
        refuse_long_texts(found.model, self.rows.max_length)
        return found

    def _load(self, weights: str) -> Classifier:
        cfg, trained = self.cfg, self.trained  # needed by a control too: it is compared with its own
        if weights == "fine-tuned":
            model, tokenizer = load_classifier(trained)
        else:
            model, tokenizer = new_classifier(
                cfg.model, cfg.paths.model_dir, self.dataset.labels, self.recipe.seed
            )
            if weights == "random":
                model = type(model)(model.config)
        running = cfg.token_budget, cfg.fast, cfg.layers, cfg.memory_gb
        return Classifier(model, tokenizer, resolve_device(cfg.device), self.precision, *running)

    @property
    def weights_digest(self) -> str:
        """SHA-256 of the fine-tuned weights, which another machine may train otherwise by the same recipe:
        those in the cache or, without any, those whose predictions are stored."""
        if is_finished(self.checkpoint, self.recipe):
            return file_digest(self.checkpoint / WEIGHTS_FILE)
        recipe = self.recipe.described()
        stored = [read_json(path)["settings"] for path in self.folder.glob("classifiers/*/classifier.json")]
        digests = {str(known["weights"]) for known in stored if known["recipe"] == recipe}
        if len(digests) == 1:
            return digests.pop()
        return file_digest(self.trained / WEIGHTS_FILE)  # says that there is none

    @property
    def precision(self) -> str:
        """fp32 or bf16, for running the classifier."""
        return resolve_precision(self.cfg.precision, resolve_device(self.cfg.device))

    @property
    def running(self) -> dict[str, Any]:
        """How the classifier is run, as a part of what results depend on."""
        return {"precision": self.precision} | forced(self.cfg)

    @cached_property
    def scored(self) -> Tokenised:
        """The tokenised rows behind the accuracy; the first `n_test` of the random order are attributed."""
        return self.tokenised(self.samples.scored)

    @cached_property
    def test(self) -> Tokenised:
        """The tokenised test instances that are attributed and degraded."""
        return self.tokenised(self.samples.test)

    def tokenised(self, examples: Examples) -> Tokenised:
        """Examples cut where the rows say."""
        cache = Path(self.cfg.paths.cache)
        return Tokenised.of(examples, self.classifier.tokenizer, self.rows.max_length, cache)

    @cached_property
    def fit_data(self) -> FitData:
        """The training rows that methods may learn from."""
        return FitData(self.tokenised(self.samples.train))

    @cached_property
    def calibration(self) -> list[Instance]:
        """The tokenised training rows, held out from fine-tuning, on which a method's settings are chosen."""
        return tokenise(self.samples.calibration, self.classifier.tokenizer, self.rows.max_length)

    @property
    def shard(self) -> Shard:
        """This process's share of the work."""
        return Shard.parse(str(self.cfg.shard))


def tasks(cfg: DictConfig, *checks: Callable[[Task], object]) -> Iterator[Task]:
    """The selected data sets, one after the other.

    All are read and pass `checks` before the first is handed out, so that a mistake in the last does not
    wait until the others are done.
    """
    check_settings(cfg)
    waiting = [Task.open(cfg, name) for name in datasets(cfg)]
    for task in waiting:
        for check in checks:
            check(task)
    while waiting:
        yield waiting.pop(0)


def refuse_long_texts(model: PreTrainedModel, max_length: int) -> None:
    """Raise `UserError` where texts may be longer than the encoder has positions for."""
    if max_length > n_positions(model):
        raise UserError(f"max_length={max_length}: this encoder has {n_positions(model)} positions.")
