"""A study as figures and claims see it: one cell many times while one thing varies, beside references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from iba.pipeline.views import Value
from iba.report.frame import DELETE, Frame
from iba.report.stored import Record, Stored

#: The method whose points are read.
METHOD = "iba"
#: The method that stands for the paper's "X alone": the size of a token's vector, without any optimisation.
X_ALONE = "hidden_norm"
#: What that method's setting `of` says it is the norm of.
_NORMS = {
    "standardised": "norm of the standardised X",
    "update": "norm of the layer's update",
    "hidden": "norm of X",
}


@dataclass(frozen=True, eq=False)
class StudyRows:
    """A study on one data set under one protocol; points and references saw the same instances.

    `points`: IBA's rows, by `value`; `references`: those of methods that do not vary, by `method`. Both by
    deletion. `records`: of the points, by value; `reference_records`: of the references, by method.
    """

    name: str
    dataset: str
    protocol: str
    points: Frame
    references: Frame
    records: Mapping[Value, Record]
    reference_records: Mapping[str, Record]

    @cached_property
    def values(self) -> list[Value]:
        """The varied values, ascending."""
        return self.points.present("value")

    @property
    def settings(self) -> Record:
        """The settings of the first point: the method's, `max_length`, and so on."""
        settings: Record = self.records[self.values[0]].get("settings", {})
        return settings

    @property
    def cut(self) -> int | None:
        """Tokens at which texts were cut."""
        return self.settings.get("max_length")

    def x_alone(self) -> str:
        """What stands for the paper's "X alone", named by the stored settings, not by the protocol."""
        method = self.reference_records.get(X_ALONE, {}).get("settings", {}).get("method", {})
        return _NORMS.get(str(method.get("of")), "norm of X (not recorded)")

    @property
    def n(self) -> int:
        """Instances per point."""
        return int(self.points.rows["instance_id"].nunique())

    @property
    def n_calibration(self) -> int | None:
        """Held-out training rows on which β was chosen for every point; None where it was not."""
        found = [self.records[value].get("tuning") for value in self.values]
        return int(found[0]["key"]["rows"]["n"]) if found[0] and all(found) else None

    def matrix(self, measure: str) -> pd.DataFrame:
        """One number per instance: instances × points that have it."""
        return self.points.matrix(measure, "value")

    def level(self, method: str, measure: str) -> pd.Series:
        """One number of a reference, by instance."""
        return self.references.of(method=method).matrix(measure)[method]


def load(stored: Stored, study: str) -> list[StudyRows]:
    """What is stored of a study, by data set and protocol; empty where it was not run."""
    rows = stored.frame.of(study=study, seed=stored.seed, operator=DELETE)
    pairs = [(d, p) for d in stored.names.datasets for p in stored.names.protocols]
    found = [_load(stored, study, rows.of(dataset=d, protocol=p), d, p) for d, p in pairs]
    return [one for one in found if one.values]


def _load(stored: Stored, study: str, rows: Frame, dataset: str, protocol: str) -> StudyRows:
    points, references = rows.of(method=METHOD).having("value"), rows.of(value=None)
    where = protocol, dataset
    return StudyRows(
        study,
        dataset,
        protocol,
        points,
        references,
        {v: stored.record(*where, METHOD, study, v) for v in points.present("value")},
        {m: stored.record(*where, m, study) for m in references.present("method")},
    )
