"""The stored rows of a study: one cell many times while one thing varies, beside references that do not.

What is read: `studies/<study>/<dataset>/<protocol>/<method>/<point>/degradation.parquet`, the records beside
it, and the study's small files (see `study_collect`). A point's folder is named by what varies (`layer=9`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from iba.errors import UserError
from iba.pipeline.store import read_json, read_parquet
from iba.report.rows import CELL, DELETE, Stored, per_instance

#: The method whose points are read.
METHOD = "iba"
#: The folder of a method that does not vary.
REFERENCE = "reference"
#: The method that stands for the paper's "X alone": the size of a token's vector, without any optimisation.
X_ALONE = "hidden_norm"
#: What that method's setting `of` says it is the norm of.
_NORMS = {
    "standardised": "norm of the standardised X",
    "update": "norm of the layer's update",
    "hidden": "norm of X",
}
#: What identifies a row of the small files besides the instance.
POINT = [*CELL, "point"]

Value = int | float | str


@dataclass(frozen=True)
class Point:
    """One point or reference of a study, by instance.

    `curve`: the target's probability under most-first deletion, a column per share of removed tokens.
    `numbers`: the scores of `per_instance` and, for IBA, what explains them.
    """

    curve: pd.DataFrame
    numbers: pd.DataFrame


@dataclass(frozen=True)
class StudyRows:
    """A study on one data set under one protocol; points and references saw the same instances.

    `points`: by the varied value, ascending. `references`: by method. `cut`: tokens at which texts were cut.
    `settings`: the method's at one of the points. `learned`: what it learned from training rows, by point.
    `reference_settings`: the method's settings of every reference whose record is stored.
    """

    dataset: str
    protocol: str
    points: dict[Value, Point]
    references: dict[str, Point]
    cut: int | None
    settings: dict[str, Any]
    learned: dict[Value, dict[str, Any]]
    reference_settings: dict[str, dict[str, Any]]

    def x_alone(self) -> str:
        """What stands for the paper's "X alone", named by the stored settings, not by the protocol."""
        return _NORMS.get(str(self.reference_settings.get(X_ALONE, {}).get("of")), "norm of X (not recorded)")

    @property
    def n(self) -> int:
        """Instances per point."""
        return len(next(iter(self.points.values())).curve)

    @property
    def n_calibration(self) -> int | None:
        """Held-out training rows on which β was chosen for every point; None where it was not."""
        found = [self.learned.get(value, {}) for value in self.points]
        chosen = all("beta" in values for values in found)
        return int(found[0]["n_calibration"]) if chosen else None

    def matrix(self, column: str) -> pd.DataFrame:
        """One per-instance number: instances × points that have it."""
        return pd.DataFrame({v: p.numbers[column] for v, p in self.points.items() if column in p.numbers})


def value_of(point: str) -> Value:
    """The varied value that a folder such as `layer=9` is named by."""
    text = point.partition("=")[2]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


@cache
def load(stored: Stored, study: str) -> list[StudyRows]:
    """What is stored of a study, by data set and protocol; empty where it was not run."""
    folder, numbers = stored.folder / "studies" / study, small_file(stored, study, "diagnostics")
    pairs = [(dataset, protocol) for dataset in stored.names.datasets for protocol in stored.names.protocols]
    found = [_load(folder / dataset / protocol, numbers) for dataset, protocol in pairs]
    return [rows for rows in found if rows is not None]


def small_file(stored: Stored, study: str, name: str) -> pd.DataFrame | None:
    """`diagnostics` or `examples` of a study; None where there is none."""
    path = stored.folder / "studies" / study / f"{name}.parquet"
    return read_parquet(path) if path.is_file() else None


def record(stored: Stored, study: str, dataset: str, protocol: str) -> dict[str, Any]:
    """The attribution record of one point; empty where there is none."""
    return _record(stored.folder / "studies" / study / dataset / protocol)


def _record(folder: Path) -> dict[str, Any]:
    paths = sorted(folder.glob(f"{METHOD}/*=*/attributions.json"))
    return dict(read_json(paths[0])) if paths else {}


def _load(folder: Path, numbers: pd.DataFrame | None) -> StudyRows | None:
    dataset, protocol = folder.parts[-2:]
    points: dict[Value, Point] = {}
    references: dict[str, Point] = {}
    records: dict[Value, dict[str, Any]] = {}
    made: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*/*/degradation.parquet")):
        method, point = path.parts[-3:-1]
        if point == REFERENCE:
            references[method] = _point(read_parquet(path))
            beside = path.with_name("attributions.json")
            made[method] = read_json(beside)["settings"].get("method", {}) if beside.is_file() else {}
        elif method == METHOD:
            key = dict(zip(POINT, (protocol, dataset, method, point), strict=True))
            points[value_of(point)] = _point(read_parquet(path), _numbers(numbers, key))
            records[value_of(point)] = read_json(path.with_name("attributions.json"))
    if not points:
        return None
    _refuse_unequal_samples(folder, [*points.values(), *references.values()])
    described = next(iter(records.values())).get("settings", {})
    return StudyRows(
        dataset,
        protocol,
        dict(sorted(points.items())),
        references,
        described.get("max_length"),
        described.get("method", {}),
        {value: kept.get("provenance", {}).get("learned", {}) for value, kept in records.items()},
        made,
    )


def _point(rows: pd.DataFrame, numbers: pd.DataFrame | None = None) -> Point:
    rows = rows[rows["operator"] == DELETE]
    chosen = rows[(rows["grid"] == "curve") & (rows["order"] == "most")]
    curve = chosen.pivot(index="instance_id", columns="fraction", values="prob_target")
    scores = per_instance(rows).set_index("instance_id").loc[curve.index]
    return Point(curve, scores if numbers is None else scores.join(numbers))


def _numbers(numbers: pd.DataFrame | None, key: dict[str, str]) -> pd.DataFrame | None:
    if numbers is None:
        return None
    mine = numbers[(numbers[POINT] == pd.Series(key)).all(axis=1)]
    return mine.set_index("instance_id").drop(columns=POINT)


def _refuse_unequal_samples(folder: Path, points: list[Point]) -> None:
    """Points are compared instance by instance."""
    if any(not point.curve.index.equals(points[0].curve.index) for point in points):
        raise UserError(
            f"{folder}: the points were degraded on different instances; run scripts/study.py again for all "
            f"of them."
        )
