"""All methods in one table: the paper's and the related ones, under one protocol.

The methods of a data set are compared on the instances that every one of them was degraded on. A slow method
that ran on fewer thus sets their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import pandas as pd

from iba.evaluation.measures import measured_in
from iba.report.frame import DELETE, ESTIMATE, Frame, compare, summarise
from iba.report.notes import chosen_settings, dataset_notes
from iba.report.pairs import significantly_best
from iba.report.stored import CELL, SECONDS, Stored
from iba.report.tables import Grids, Spec, ordered
from iba.report.tables.planted import planted_rows
from iba.report.text import crossed, estimate, number, strong

_RECALL = "planted_recall"
_OF_CURVES = [name for name in measured_in("methods") if name != _RECALL]
_MEASURES = [*_OF_CURVES, _RECALL, SECONDS]
#: How methods are grouped, in this order; a method that names no family comes last.
FAMILIES = ("bottleneck", "gradient", "attention", "perturbation", "control")


@dataclass(frozen=True, eq=False)
class Compared:
    """`whole`: the rows of all known methods under one protocol."""

    stored: Stored
    whole: Frame

    @cached_property
    def frame(self) -> Frame:
        """Cut to the instances that all methods of a data set share."""
        methods, seen = (
            self.whole.rows.groupby(by, observed=True)["method"].transform("nunique")
            for by in ("dataset", ["dataset", "instance_id"])
        )
        return self.whole.where((seen == methods).to_numpy())

    @cached_property
    def datasets(self) -> list[str]:
        """Data sets with methods to compare."""
        return self.frame.present("dataset")

    def label(self, method: str) -> str:
        """The method's name, marked if it explains no class."""
        known = self.stored.known[method]
        return known.label + ("" if known.explains_class else " †")

    @cached_property
    def rows(self) -> pd.DataFrame:
        """A row per data set, measure and method; recall and seconds are over all that a method ran on."""
        found = summarise(self.frame, CELL, _OF_CURVES, self.stored.how)
        recalls = planted_rows(self.stored).rename(columns={"recall": "estimate"}).assign(measure=_RECALL)
        recalls = recalls.merge(found[CELL].astype(str).drop_duplicates(), on=CELL)
        timed = [
            (*cell, SECONDS, record["n"], record["provenance"][SECONDS], record["provenance"]["device"])
            for cell, record in sorted(self.stored.records(self.frame).items())
        ]
        seconds = pd.DataFrame(timed, columns=[*CELL, "measure", "n", "estimate", "device"])
        rows = pd.concat([found, recalls, seconds]).astype({"n": "Int64"})
        rows = ordered(rows, {"dataset": self.datasets, "measure": _MEASURES})
        return rows.reset_index(drop=True)[[*CELL, "measure", *ESTIMATE, "device"]]

    @cached_property
    def tests(self) -> pd.DataFrame:
        """All pairs of methods by the drop at 11 %, one Holm family per data set."""
        found, how = [], self.stored.how
        for dataset in self.datasets:
            matrix = self.frame.of(dataset=dataset).matrix("drop_11")
            # as many permutations as let Holm's correction for all pairs find anything
            many = how.resolving(math.comb(matrix.shape[1], 2), (1 - how.confidence) / 2)
            key = self.stored.methods_protocol, dataset
            found.append(compare({key: matrix}, ["protocol", "dataset"], many, many.of_all))
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["dataset"])

    def cells(self, dataset: str, measure: str) -> pd.DataFrame:
        """The methods of a data set by one measure, indexed by method."""
        rows = self.rows[(self.rows["dataset"] == dataset) & (self.rows["measure"] == measure)]
        return rows.set_index("method")

    def mean_drops(self, of_all: bool = False) -> pd.Series:
        """Mean drop at 11 % over the selected data sets that a method was run on (`of_all`: NaN unless all),
        the largest first; other sets with known evidence stand beside."""
        drops = self.rows[self.rows["measure"] == "drop_11"].astype({"dataset": str})
        drops = drops[drops["dataset"].isin(self.stored.names.datasets)]
        wide = drops.pivot(index="method", columns="dataset", values="estimate")
        return wide.mean(axis=1, skipna=not of_all).sort_values(ascending=False, kind="stable")


@cache
def compare_methods(stored: Stored) -> Compared:
    """The methods of a run under the protocol that is asked for."""
    frame = stored.of_methods(stored.known, stored.names.datasets | stored.evident)
    return Compared(stored, frame.of(operator=DELETE, protocol=stored.methods_protocol))


def grids(found: Compared) -> Grids:
    """The drops of all methods on all data sets, then a table per data set with all measures."""
    stored, keys = found.stored, ["method", "family"]
    under = f"{stored.title}, {stored.names.protocols[stored.methods_protocol]}"
    means = found.mean_drops(of_all=True).rename("estimate").reset_index()
    rows = pd.concat([found.rows, means.assign(dataset="mean", measure="drop_11")])
    rows = rows.astype({"dataset": str}).sort_values("estimate", ascending=False, kind="stable")
    rows["family"] = [stored.known[method].family for method in rows["method"]]
    alpha = 1 - stored.how.confidence
    best = {dataset: significantly_best(tests, alpha) for dataset, tests in found.tests.groupby("dataset")}
    rows["best"] = rows["dataset"].map(best) == rows["method"]
    drops = rows[rows["measure"] == "drop_11"]
    sizes = drops.groupby("dataset")["n"].max().dropna()

    def say(key: str, value: Any) -> str:
        said = found.label(value) if key == "method" else stored.say(key, value)
        return f"{said} (n = {sizes[value]})" if value in sizes else said

    drops = ordered(drops, {"method": found.mean_drops().index, "dataset": [*found.datasets, "mean"]})
    caption = f"All methods: drop of the target's probability after the top 11 % of tokens ({under})"
    yield crossed(caption, say, drops, keys, "dataset", lambda row: _text(row).split()[0], notes(found))
    for dataset in found.datasets:
        own = ordered(rows[rows["dataset"] == dataset].assign(n=sizes[dataset]), {"measure": _MEASURES})
        caption = f"All methods on {stored.say('dataset', dataset)} ({under})"
        yield crossed(caption, say, own, [*keys, "n"], "measure", _text, _sizes(found, dataset))


def _text(row: Any) -> str:
    """A drop with its interval, in bold where it is best; seconds with two digits."""
    if row.measure == SECONDS:
        digits = max(0, 1 - math.floor(math.log10(max(row.estimate, 0.001))))
        return "< 0.001" if row.estimate < 0.001 else f"{row.estimate:.{digits}f}"
    return strong(estimate(row), row.best) if row.measure == "drop_11" else number(row.estimate)


def _sizes(found: Compared, dataset: str) -> list[str]:
    """Which methods made the sample small."""
    own = found.whole.of(dataset=dataset).rows["method"].astype(str).value_counts().sort_index()
    smallest, largest = own.min(), own.max()
    slow = ", ".join(found.label(method) for method in own.index[own == smallest])
    told = (
        f"All methods on the {smallest} instances that they share: {slow} ran on no more, others "
        f"on up to {largest}. Seconds and planted evidence are each method's own, over all that it ran on."
    )
    return [told] if smallest < largest else []


def notes(found: Compared) -> list[str]:
    """What must be known to read the numbers."""
    how, devices = found.stored.how, sorted(found.rows["device"].dropna().unique())
    records = found.stored.records(found.frame)
    return [
        f"Protocol `{found.stored.methods_protocol}`, deletion. The methods of a data set are compared on "
        f"the same instances; n and {how.percent} bootstrap intervals of every number: `methods.csv`.",
        "**Bold**: a larger drop than every other method run on the data set by a paired sign-flip "
        f"permutation test, Holm-corrected for all pairs, p < {1 - how.confidence:.2g}; pairs: "
        "`methods_tests.csv`. Mean: over the data sets (generated ones apart), – if one was not run.",
        "† explains no class: whatever class is asked for, the scores are the same.",
        f"Seconds per instance: the attribution stage's own clock on {' and '.join(devices)}, with other "
        "work beside it, and without what a method learns beforehand (statistics, β, a network). They "
        "compare methods roughly; `make bench` measures.",
        *chosen_settings(records),
        *dataset_notes(found.stored, records),
    ]


TABLE = Spec(
    "methods",
    200,
    lambda stored: compare_methods(stored).rows,
    lambda stored, _: grids(compare_methods(stored)),
    part="methods",
    beside={"methods_tests": lambda stored: compare_methods(stored).tests},
)
