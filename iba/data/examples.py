"""Reading a data set into labelled examples, and drawing the seeded samples that a run uses."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from iba.data.rows import Rows
from iba.errors import UserError

Span = tuple[int, int]

#: Types of a column of texts; "null": it holds nothing.
_TEXT_KINDS = ("string", "large_string", "string_view", "null")
#: How data sets mark a row without a label; "-" is MultiNLI's.
_UNLABELLED = (None, -1, "", "-")


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

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Example:
        """From a table's row, whose columns have the fields' names."""
        spans = row["evidence"] and tuple(tuple((a, b) for a, b in part) for part in row["evidence"])
        return cls(row["id"], row["text"], row["text_pair"], row["label"], spans)


class Examples(Rows[Example]):
    """Examples in a table whose columns have the fields' names."""

    _made = staticmethod(Example.of_row)

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Examples:
        """The given ones as a table."""
        rows = [asdict(example) for example in examples]
        return cls(Dataset.from_dict({f.name: [row[f.name] for row in rows] for f in fields(Example)}))

    @property
    def ids(self) -> list[str]:
        """Every example's id."""
        return list(self.table["id"][:])

    @property
    def labels(self) -> list[int]:
        """Every example's label."""
        return list(self.table["label"][:])

    @cached_property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with any row, its texts or its label."""
        sha = hashlib.sha256(b"[")
        for start, batch in enumerate(self.table.iter(1000)):
            rows = zip(batch["id"], batch["text"], batch["text_pair"], batch["label"], strict=True)
            sha.update((", " if start else "").encode() + json.dumps(list(rows))[1:-1].encode())
        sha.update(b"]")
        return sha.hexdigest()[:12]


@dataclass(frozen=True)
class Samples:
    """The seeded samples of a run.

    `train` trains the classifier, `calibration` are training rows held out from it, `test` is attributed
    and degraded, `scored` (which contains `test`) gives the accuracy. `drawn`: the ids of `test` in the
    order in which they were drawn; the list itself keeps the order of the source.
    """

    train: Examples
    calibration: Examples
    test: Examples
    scored: Examples
    drawn: tuple[str, ...]

    def first(self, n_test: int) -> Samples:
        """The same with the first `n_test` test examples that were drawn: the sample of that size."""
        kept = set(self.drawn[:n_test])
        places = [place for place, name in enumerate(self.test.ids) if name in kept]
        return replace(self, test=self.test.pick(places), drawn=self.drawn[:n_test])


#: What was read in this process: stages, and data sets with the same training rows, share it.
_READ: dict[Any, Examples] = {}


def read_split(dataset: DictConfig, split: str) -> Examples:
    """The examples of `split` ("train" or "test"), in the order of the source; an id is a row's place there.

    Rows without a text or a label are left out and counted on the terminal, or raise `UserError` where
    `dataset.drop_unlabelled` is false. So does a column that is missing or of another type, or another label.
    """
    source = _table(dataset, split)
    text_columns = [c for c in (dataset.text, dataset.text_pair) if c is not None]
    _check_columns(source, dataset, split, text_columns)
    settings = (*text_columns, dataset.label, *dataset.labels, dataset.drop_unlabelled)
    key = (source._fingerprint, split, *settings)  # changes with the source's file
    if key not in _READ:
        _READ[key] = _examples(source, dataset, split, text_columns)
    return _READ[key]


def _examples(source: Dataset, dataset: DictConfig, split: str, text_columns: Sequence[str]) -> Examples:
    columns = source.with_format("arrow")[:]
    labels, nothing = _label_ids(source, dataset, split), pa.nulls(len(source))
    lacking = {name: _is_blank(columns[name]) for name in text_columns}
    lacking[dataset.label] = np.array([label is None for label in labels])
    _report_missing(dataset, split, lacking)
    table = {
        "id": [f"{split}:{i}" for i in range(len(source))],
        "text": columns[dataset.text],
        "text_pair": columns[dataset.text_pair] if dataset.text_pair else nothing,
        "label": pa.array(labels, pa.int64()),
        "evidence": columns["evidence"] if "evidence" in columns.column_names else nothing,
    }
    whole = ~np.any(list(lacking.values()), axis=0)
    return Examples(Dataset(pa.table(table).filter(pa.array(whole))))


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


def _is_blank(texts: pa.ChunkedArray) -> np.ndarray:
    """Which texts are missing or hold nothing but white space."""
    trimmed = pc.utf8_trim_whitespace(texts.cast(pa.large_string()).fill_null(""))
    return np.asarray(pc.equal(trimmed, ""))


def _report_missing(dataset: DictConfig, split: str, lacking: Mapping[str, np.ndarray]) -> None:
    """Say how many rows lack a text or a label; `lacking`: per column, the labels' last, which rows do."""
    table = np.array(list(lacking.values()))
    wrong, without_text = table.any(axis=0), table[:-1].any(axis=0)
    n, n_rows = int(wrong.sum()), table.shape[1]
    counts = f"{n - without_text.sum():,} unlabelled, {without_text.sum():,} without text"
    if n and not dataset.drop_unlabelled:
        row = int(wrong.argmax())
        column = list(lacking)[int(table[:, row].argmax())]
        raise UserError(
            f"{dataset.name}, split {split}, row {row}: column {column!r} has no "
            f"{'label' if column == dataset.label else 'text'} ({counts} in all)."
        )
    if n == n_rows:
        raise UserError(f"{dataset.name}, split {split}: none of the {n:,} rows can be used ({counts}).")
    if n:
        print(f"{dataset.name} {split}: dropped {n:,} of {n_rows:,} rows ({counts})")


def _table(dataset: DictConfig, split: str) -> Dataset:
    try:
        table: Dataset = instantiate(dataset.source, split=split)
    except InstantiationException as error:
        # Hydra wraps whatever its target raises; a user's mistake keeps its own words.
        if isinstance(error.__cause__, UserError):
            raise UserError(str(error.__cause__)) from error
        raise
    return table


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
    n_calibration = int(dataset.n_calibration)
    n_train = len(train) - n_calibration if dataset.n_train is None else int(dataset.n_train)
    _require(dataset, "train", len(train), max(n_train, 1) + n_calibration)
    n_test = len(test) if dataset.n_test is None else int(dataset.n_test)
    _require(dataset, "test", len(test), n_test)
    n_scored = len(test) if dataset.n_accuracy is None else max(n_test, int(dataset.n_accuracy))
    _require(dataset, "accuracy", len(test), n_scored)
    ids = test.ids
    samples = Samples(
        train=_training_part(train, seed, n_calibration, n_train),
        calibration=_training_part(train, seed, 0, n_calibration),
        test=_test_part(test, seed, n_test),
        scored=_test_part(test, seed, n_scored),
        drawn=tuple(ids[i] for i in _order(test, seed, 1)[:n_test]),
    )
    _check_classes(dataset, samples)
    return samples


def _order(rows: Examples, seed: int, stream: int) -> np.ndarray:
    """A fixed random order of which samples take the first: a larger one contains the smaller."""
    return np.random.default_rng([seed, stream]).permutation(len(rows))


@cache
def _training_part(rows: Examples, seed: int, start: int, n: int) -> Examples:
    return rows.pick(_order(rows, seed, 0)[start : start + n])


@cache
def _test_part(rows: Examples, seed: int, n: int) -> Examples:
    return rows.pick(np.sort(_order(rows, seed, 1)[:n]))


def _require(dataset: DictConfig, split: str, have: int, want: int) -> None:
    if want > have:
        raise UserError(
            f"{dataset.name}: {want} rows asked ({split}), but the split has {have}; "
            f"lower dataset.{dataset.name}.n_{split} (null takes all)."
        )


def _check_classes(dataset: DictConfig, samples: Samples) -> None:
    """Raise `UserError` for one class alone in training, and for a floor that saying one class reaches."""
    name, labels, floor = dataset.name, dataset.labels, dataset.accuracy_floor
    if len(trained := set(samples.train.labels)) == 1:
        raise UserError(
            f"{name}: all {len(samples.train):,} training rows have the label {labels[trained.pop()]!r}: "
            f"give rows of other classes too, or more rows with dataset.{name}.n_train."
        )
    [(label, n)] = Counter(samples.scored.labels).most_common(1)
    if 0 < floor <= (share := n / len(samples.scored)):
        raise UserError(
            f"dataset.{name}.accuracy_floor={floor:g}: always saying {labels[label]!r} would pass, as "
            f"{share:.3f} of the {len(samples.scored):,} scored rows have that label. Set it higher, score "
            f"more rows with dataset.{name}.n_accuracy, or give 0 for no floor."
        )
