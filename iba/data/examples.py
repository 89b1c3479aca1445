"""Reading a data set into labelled examples, and drawing the seeded samples that a run uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from iba.errors import UserError
from iba.settings import fingerprint

Span = tuple[int, int]

#: Types of a column of texts; "null": it holds nothing.
_TEXT_KINDS = ("string", "large_string", "string_view", "null")
#: How data sets mark a row without a label; "-" is MultiNLI's.
_UNLABELLED = (None, -1, "", "-")

# Every stage reads the data anew.
_say_once = cache(print)


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
    """The examples of `split` ("train" or "test"), in the order of the source; an id is a row's place there.

    Rows without a text or a label are left out and counted on the terminal, or raise `UserError` where
    `dataset.drop_unlabelled` is false. So does a column that is missing or of another type, or another label.
    """
    table = _table(dataset, split)
    text_columns = [c for c in (dataset.text, dataset.text_pair) if c is not None]
    _check_columns(table, dataset, split, text_columns)
    columns: dict[str, list[Any]] = {name: _texts(table, name) for name in text_columns}
    columns[dataset.label] = _label_ids(table, dataset, split)
    rows = list(zip(*columns.values(), strict=True))
    missing = [
        next((c for c, value in zip(columns, row, strict=True) if value is None), None) for row in rows
    ]
    _report_missing(dataset, split, missing)
    evidence = table["evidence"][:] if "evidence" in table.column_names else [None] * len(rows)
    return [
        Example(f"{split}:{i}", row[0], row[1] if dataset.text_pair else None, row[-1], _spans(evidence[i]))
        for i, row in enumerate(rows)
        if missing[i] is None
    ]


def _check_columns(table: Dataset, dataset: DictConfig, split: str, text_columns: Sequence[str]) -> None:
    """Raise `UserError` unless the table has its columns, of text and of labels."""
    for column in (*text_columns, dataset.label):
        if column not in table.column_names:
            raise UserError(
                f"{dataset.name}, split {split}: no column {column!r}; the file has {table.column_names}. "
                f"Name the columns with dataset.{dataset.name}.text, .text_pair and .label."
            )
        feature = table.features[column]
        kind = getattr(feature, "dtype", None)  # lists and structs have none
        if kind is None or (column in text_columns and kind not in _TEXT_KINDS):
            wanted = "texts" if column in text_columns else "labels"
            raise UserError(
                f"{dataset.name}, split {split}: column {column!r} holds {feature}, not {wanted}."
            )


def _texts(table: Dataset, column: str) -> list[str | None]:
    """The texts of a column, None for an empty one."""
    return [text if (text or "").strip() else None for text in table[column][:]]  # a slice is read at once


def _report_missing(dataset: DictConfig, split: str, missing: Sequence[str | None]) -> None:
    """Say how many rows lack a text or a label; `missing`: per row, the column where it is lacking."""
    n, unlabelled = sum(c is not None for c in missing), missing.count(dataset.label)
    counts = f"{unlabelled:,} unlabelled, {n - unlabelled:,} without text"
    if n and not dataset.drop_unlabelled:
        row, column = next((i, c) for i, c in enumerate(missing) if c)
        raise UserError(
            f"{dataset.name}, split {split}, row {row}: column {column!r} has no "
            f"{'label' if column == dataset.label else 'text'} ({counts} in all)."
        )
    if n == len(missing):
        raise UserError(f"{dataset.name}, split {split}: none of the {n:,} rows can be used ({counts}).")
    if n:
        _say_once(f"{dataset.name} {split}: dropped {n:,} of {len(missing):,} rows ({counts})")


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


def _label_ids(table: Dataset, dataset: DictConfig, split: str) -> list[int | None]:
    """Labels as positions in `dataset.labels`, matched by name where the source names its classes.

    None for an unlabelled row.
    """
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
        known = dict(enumerate(feature.names))
        values = [known.get(v, v) for v in values]
    lookup: dict[object, int] = {name: i for i, name in enumerate(names)}
    lookup.update({i: i for i in range(len(names))})
    for row, value in enumerate(values):
        if value not in lookup and not _is_unlabelled(value):
            raise UserError(
                f"{dataset.name}, split {split}, row {row}: label {value!r} is not one of the "
                f"{len(names)} classes {names}."
            )
    return [lookup.get(v) for v in values]


def _is_unlabelled(value: object) -> bool:
    return value in _UNLABELLED or value != value  # NaN


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
    samples = Samples(
        train=[train[i] for i in order[n_calibration : n_calibration + n_train]],
        calibration=[train[i] for i in order[:n_calibration]],
        test=[test[i] for i in sorted(shuffled[:n_test])],
        scored=[test[i] for i in sorted(shuffled[:n_scored])],
        drawn=tuple(test[i].id for i in shuffled[:n_test]),
    )
    _check_classes(dataset, samples)
    return samples


def _require(dataset: DictConfig, split: str, have: int, want: int) -> None:
    if want > have:
        raise UserError(
            f"{dataset.name}: {want} rows asked ({split}), but the split has {have}; "
            f"lower dataset.{dataset.name}.n_{split} (null takes all)."
        )


def _check_classes(dataset: DictConfig, samples: Samples) -> None:
    """Raise `UserError` for one class alone in training, and for a floor that saying one class reaches."""
    name, labels, floor = dataset.name, dataset.labels, dataset.accuracy_floor
    if len(trained := {example.label for example in samples.train}) == 1:
        raise UserError(
            f"{name}: all {len(samples.train):,} training rows have the label {labels[trained.pop()]!r}: "
            f"give rows of other classes too, or more rows with dataset.{name}.n_train."
        )
    [(label, n)] = Counter(example.label for example in samples.scored).most_common(1)
    if 0 < floor <= (share := n / len(samples.scored)):
        raise UserError(
            f"dataset.{name}.accuracy_floor={floor:g}: always saying {labels[label]!r} would pass, as "
            f"{share:.3f} of the {len(samples.scored):,} scored rows have that label. Set it higher, score "
            f"more rows with dataset.{name}.n_accuracy, or give 0 for no floor."
        )
