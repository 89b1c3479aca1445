"""A study as figures and claims see it: one cell many times while one thing varies, beside references."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
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

    `points`: IBA's rows, by `value`; `references`: those of methods that do not vary, by `method`; both by
    deletion. `curves`: names and curves (instances × names × steps) of the points, then of the references.
    `records`: of the points, by value; `reference_records`: of the references, by method.
    """

    dataset: str
    protocol: str
    title: str
    points: Frame
    references: Frame
    curves: tuple[list[Any], np.ndarray]
    records: Mapping[Value, Record]
    reference_records: Mapping[str, Record]

    @property
    def values(self) -> list[Value]:
        """The varied values, ascending."""
        return [*self.records]

    @property
    def record(self) -> Record:
        """That of the first point, for what all points share: method, `max_length`, whether β was chosen."""
        return self.records[self.values[0]]

    @property
    def cut(self) -> int:
        """Tokens at which texts were cut."""
        return int(self.record["settings"]["max_length"])

    @property
    def n_calibration(self) -> int | None:
        """Held-out training rows on which β was chosen for every point; None where it was not."""
        tuning = self.record.get("tuning")
        return int(tuning["key"]["rows"]["n"]) if tuning else None

    def x_alone(self) -> str:
        """What stands for the paper's "X alone", named by the stored settings, not by the protocol."""
        return _NORMS[self.reference_records[X_ALONE]["settings"]["method"]["of"]]

    def matrix(self, measure: str) -> pd.DataFrame:
        """One number per instance: instances × points that have it."""
        return self.points.matrix(measure, "value")

    def level(self, method: str, measure: str) -> pd.Series:
        """One number of a reference, by instance."""
        return self.references.matrix(measure)[method]


def load(stored: Stored, study: str) -> list[StudyRows]:
    """What is stored of a study, by data set and protocol; empty where it was not run."""
    rows = stored.frame.of(study=study, seed=stored.seed, operator=DELETE)
    keys = product(stored.names.datasets, stored.names.protocols)
    found = [_load(stored, study, rows.of(dataset=d, protocol=p), d, p) for d, p in keys]
    return [one for one in found if one.values]


def _load(stored: Stored, study: str, rows: Frame, dataset: str, protocol: str) -> StudyRows:
    points, references = rows.of(method=METHOD).having("value"), rows.of(value=None)
    named = points.rows.assign(point=points.rows["value"].astype(object))
    others = references.rows.assign(point=references.rows["method"].astype(str))
    curves = replace(rows, rows=pd.concat([named, others])).stacked("point")
    title = f"{stored.say('dataset', dataset)}, {stored.say('protocol', protocol)}"
    where = protocol, dataset
    records = {v: stored.record(*where, METHOD, study, v) for v in points.present("value")}
    of_references = {m: stored.record(*where, m, study) for m in references.present("method")}
    return StudyRows(dataset, protocol, title, points, references, curves, records, of_references)
