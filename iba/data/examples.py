"""Reading a data set into labelled examples, and drawing the seeded samples that a run uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from datasets import ClassLabel, Dataset
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from iba.errors import UserError
from iba.store import fingerprint

Span = tuple[int, int]


@dataclass(frozen=True)
class Example:
    """One labelled text (or pair of texts).

    `evidence` holds, for planted sets only, the character spans of the known evidence:
    one list for `text`, one for `text_pair`.
    """

    id: str
    text: str
    text_pair: str | None
    label: int
    evidence: tuple[tuple[Span, ...], tuple[Span, ...]] | None = field(default=None)


@dataclass(frozen=True)
class Samples:
    """The seeded samples of a run.

    `train` trains the classifier, `calibration` are training rows held out from it, `test` is attributed
    and degraded, `scored` (which contains `test`) gives the accuracy. `drawn`: the ids of `test` in the
    order in which they were drawn; the list itself keeps the order of the source.
    """

    train: list[Example]
    calibration: list[Example]
    test: list[Example]
    scored: list[Example]
    drawn: tuple[str, ...]

    @cached_property
    def digests(self) -> dict[str, str]:
        """Per part twelve hexadecimal digits that change with any of its rows, their texts or labels."""
        return {
            part: fingerprint([[e.id, e.text, e.text_pair, e.label] for e in getattr(self, part)])
            for part in ("train", "calibration", "test", "scored")
        }

    def first(self, n_test: int) -> Samples:
        """The same with the first `n_test` test examples that were drawn: the sample of that size."""
        kept = set(self.drawn[:n_test])
        return replace(self, test=[e for e in self.test if e.id in kept], drawn=self.drawn[:n_test])


def read_split(dataset: DictConfig, split: str) -> list[Example]:
    """All examples of `split` ("train" or "test"), in the order of the source.

    Raises `UserError` for a missing column, a label outside the classes, or an empty text.
    """
    table = _table(dataset, split)
    columns = [c for c in (dataset.text, dataset.text_pair, dataset.label) if c is not None]
    missing = [c for c in columns if c not in table.column_names]
    if missing:
        raise UserError(
            f"{dataset.name}, split {split}: no column {missing[0]!r}; the file has {table.column_names}. "
            f"Name the columns with dataset.{dataset.name}.text, .text_pair and .label."
        )
    labels = _label_ids(table, dataset, split)
    nothing = [None] * len(table)
    texts = table[dataset.text][:]  # a slice is read at once, a column row by row
    pairs = table[dataset.text_pair][:] if dataset.text_pair else nothing
    evidence = table["evidence"][:] if "evidence" in table.column_names else nothing
    examples = []
    for row, (text, pair, label, spans) in enumerate(zip(texts, pairs, labels, evidence, strict=True)):
        for column, value in ((dataset.text, text), (dataset.text_pair, pair)):
            if column and not (isinstance(value, str) and value.strip()):
                raise UserError(f"{dataset.name}, split {split}, row {row}: column {column!r} has no text.")
        examples.append(Example(f"{split}:{row}", text, pair, label, _spans(spans)))
    return examples


def _table(dataset: DictConfig, split: str) -> Dataset:
    try:
        table: Dataset = instantiate(dataset.source, split=split)
    except InstantiationException as error:
        # Hydra wraps whatever its target raises; a user's mistake keeps its own words.
        if isinstance(error.__cause__, UserError):
            raise UserError(str(error.__cause__)) from error
        raise
    return table


def _spans(raw: Sequence[Sequence[Sequence[int]]] | None) -> tuple[tuple[Span, ...], tuple[Span, ...]] | None:
    if raw is None:
        return None
    first, second = (tuple((int(a), int(b)) for a, b in part) for part in raw)
    return first, second


def _label_ids(table: Dataset, dataset: DictConfig, split: str) -> list[int]:
    """Labels as positions in `dataset.labels`, matched by name where the source names its classes."""
    names = list(dataset.labels)
    feature = table.features[dataset.label]
    values = table[dataset.label][:]
    if isinstance(feature, ClassLabel):
        unknown = set(feature.names) - set(names)
        if unknown:
            raise UserError(
                f"{dataset.name}: the source has classes {feature.names}, the configuration {names}; "
                f"name them alike in dataset.{dataset.name}.labels."
            )
        values = [feature.names[v] if 0 <= v < len(feature.names) else v for v in values]
    lookup: dict[object, int] = {name: i for i, name in enumerate(names)}
    lookup.update({i: i for i in range(len(names))})
    for row, value in enumerate(values):
        if value not in lookup:
            raise UserError(
                f"{dataset.name}, split {split}, row {row}: label {value!r} is not one of the "
                f"{len(names)} classes {names}."
            )
    return [lookup[v] for v in values]


def draw_samples(dataset: DictConfig, seed: int) -> Samples:
    """Training, calibration and test examples, drawn without replacement by `seed`.

    Calibration rows are set aside from the training split before any training row is drawn,
    so nothing that is chosen on them (β) has been trained on.
    """
    train, test = read_split(dataset, "train"), read_split(dataset, "test")
    order = np.random.default_rng([seed, 0]).permutation(len(train))
    n_calibration = int(dataset.n_calibration)
    n_train = len(train) - n_calibration if dataset.n_train is None else int(dataset.n_train)
    _require(dataset, "train", len(train), max(n_train, 1) + n_calibration)
    n_test = len(test) if dataset.n_test is None else int(dataset.n_test)
    _require(dataset, "test", len(test), n_test)
    n_scored = len(test) if dataset.n_accuracy is None else max(n_test, int(dataset.n_accuracy))
    _require(dataset, "accuracy", len(test), n_scored)
    # The first k of a fixed random order: a larger sample contains the smaller one.
    shuffled = np.random.default_rng([seed, 1]).permutation(len(test))
    return Samples(
        train=[train[i] for i in order[n_calibration : n_calibration + n_train]],
        calibration=[train[i] for i in order[:n_calibration]],
        test=[test[i] for i in sorted(shuffled[:n_test])],
        scored=[test[i] for i in sorted(shuffled[:n_scored])],
        drawn=tuple(test[i].id for i in shuffled[:n_test]),
    )


def _require(dataset: DictConfig, split: str, have: int, want: int) -> None:
    if want > have:
        raise UserError(
            f"{dataset.name}: {want} rows asked ({split}), but the split has {have}; "
            f"lower dataset.{dataset.name}.n_{split} (null takes all)."
        )
