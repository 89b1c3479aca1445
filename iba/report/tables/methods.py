"""All methods in one table: the paper's and the related ones, under one protocol.

The methods of a data set are compared on the same instances: those that every one of them was degraded on.
A slow method that ran on fewer instances thus sets their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import pandas as pd

from iba.evaluation.measures import measured_in
from iba.evaluation.stats import Resampling
from iba.report.frame import DELETE, ESTIMATE, Frame, compare, summarise
from iba.report.notes import chosen_settings, dataset_notes
from iba.report.pairs import significantly_best
from iba.report.stored import CELL, SECONDS, Record, Stored
from iba.report.tables import Spec
from iba.report.tables.planted import planted_rows
from iba.report.text import Grid, crossed, estimate, number, strong

_RECALL = "planted_recall"
_MEASURES = [*(name for name in measured_in("methods") if name != _RECALL), _RECALL, SECONDS]
#: How methods are grouped, in this order; a method that names no family comes last.
FAMILIES = ("bottleneck", "gradient", "attention", "perturbation", "control")
#: Marks methods that give all classes the same scores.
DAGGER = " †"


@dataclass(frozen=True, eq=False)
class Compared:
    """All known methods of a run under `protocol`, on shared instances.

    `frame`: their rows, cut to the instances that the methods of a data set share. `own_n`: how many each
    method had, per data set. `refused`: data sets that are left out, and why. `records`: of the cells.
    """

    stored: Stored
    protocol: str
    frame: Frame
    own_n: dict[str, dict[str, int]]
    refused: dict[str, str]
    records: Mapping[tuple[str, str, str], Record]

    @cached_property
    def datasets(self) -> list[str]:
        """Data sets whose methods can be compared."""
        return self.frame.present("dataset")

    def label(self, method: str) -> str:
        """The method's name, marked if it explains no class."""
        known = self.stored.known[method]
        return known.label + ("" if known.explains_class else DAGGER)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The table: a row per data set, measure and method."""
        found = summarise(self.frame, CELL, _MEASURES[:-2], self.stored.how)
        recalls = planted_rows(self.stored).rename(columns={"recall": "estimate"}).assign(measure=_RECALL)
        recalls = recalls[recalls["protocol"] == self.protocol]
        rows = pd.concat([found, recalls, self._seconds()], ignore_index=True)
        rows = rows[rows["dataset"].isin(self.datasets)].astype({"n": "Int64"})
        for name, order in {"dataset": self.datasets, "measure": _MEASURES}.items():
            rows[name] = pd.Categorical(rows[name], order)
        ordered = rows.sort_values(["dataset", "measure"], kind="stable", ignore_index=True)
        return ordered.reindex(columns=[*CELL, "measure", *ESTIMATE, "device"])

    def _seconds(self) -> pd.DataFrame:
        """What the attribution stage's own clock said."""
        cells = [(self.protocol, d, m) for d, methods in self.own_n.items() for m in methods]
        records = [(cell, self.stored.record(*cell)) for cell in cells]
        told = [(cell, record.get("n"), record.get("provenance", {})) for cell, record in records]
        rows = [(*cell, SECONDS, n, of[SECONDS], of.get("device")) for cell, n, of in told if SECONDS in of]
        return pd.DataFrame(rows, columns=[*CELL, "measure", "n", "estimate", "device"])

    @cached_property
    def tests(self) -> pd.DataFrame:
        """All pairs of methods by the drop at 11 %, one Holm family per data set."""
        families = [pd.DataFrame()]
        for dataset in self.datasets:
            matrix = self.frame.of(dataset=dataset).matrix("drop_11")
            many, key = enough(self.stored.how, matrix.shape[1]), (self.protocol, dataset)
            families.append(compare({key: matrix}, ["protocol", "dataset"], many, many.of_all))
        return pd.concat(families, ignore_index=True)

    @cached_property
    def best(self) -> dict[str, str | None]:
        """The method of a data set that beats every other one, where there is one."""
        families = self.tests.groupby("dataset") if len(self.tests) else ()
        return {str(d): significantly_best(tests, 1 - self.stored.how.confidence) for d, tests in families}

    def cells(self, dataset: str, measure: str) -> pd.DataFrame:
        """The methods of a data set by one measure, indexed by method."""
        rows = self.rows[(self.rows["dataset"] == dataset) & (self.rows["measure"] == measure)]
        return rows.assign(method=rows["method"].astype(str)).set_index("method")

    def mean_drops(self) -> pd.Series:
        """Mean drop at 11 % over the selected data sets that a method was run on, the largest first; other
        sets with known evidence stand beside."""
        beside = self.stored.evident.keys() - self.stored.names.datasets.keys()
        drops = self.rows[(self.rows["measure"] == "drop_11") & ~self.rows["dataset"].isin(beside)]
        means = drops.groupby(drops["method"].astype(str))["estimate"].mean()
        return means.sort_values(ascending=False, kind="stable")


@cache
def compare_methods(stored: Stored) -> Compared:
    """Cut the methods of every data set to the instances that they share.

    Under the protocol that is asked for; where it leaves nothing to compare, under the first that does not.
    """
    frame = stored.of_methods(stored.known, stored.names.datasets | stored.evident).of(operator=DELETE)
    names = stored.methods_protocol, *frame.present("protocol")
    run = {name: frame.of(protocol=name).present("method") for name in names}
    protocol = next(p for p, found in sorted(run.items(), key=lambda of: len(of[1]) < 2) if found)
    frame, own_n, refused, shared = frame.of(protocol=protocol), {}, {}, []
    for dataset in frame.present("dataset"):
        rows = frame.of(dataset=dataset).rows
        samples = rows.groupby(rows["method"].astype(str))["instance_id"].agg(frozenset)
        common = frozenset.intersection(*samples)
        own_n[dataset] = {str(method): len(sample) for method, sample in samples.items()}
        if len(common) < min(map(len, samples)):
            refused[dataset] = _refusal(stored, dataset, samples)
            print(refused[dataset])
        else:
            shared += rows.index[rows["instance_id"].isin(common)].to_list()
    cut = frame.where(frame.rows.index.isin(shared))
    return Compared(stored, protocol, cut, own_n, refused, stored.records(frame))


def _refusal(stored: Stored, dataset: str, samples: pd.Series) -> str:
    """Why a data set is left out: two methods of which neither saw all instances of the other."""
    smallest = samples.map(len).idxmin()
    other = next(m for m, sample in samples.items() if not samples[smallest] <= sample)
    two = " and ".join(stored.known[str(method)].label for method in (smallest, other))
    return (
        f"{stored.say('dataset', dataset)} is left out: {two} were degraded on samples of which neither "
        "holds the other; run scripts/degrade.py for both again."
    )


def enough(how: Resampling, n_methods: int) -> Resampling:
    """As many permutations as Holm's correction for all pairs needs to find anything.

    The smallest corrected p-value must stay well below alpha; it is not printed, so no more is needed.
    """
    return how.resolving(math.comb(n_methods, 2), (1 - how.confidence) / 2)


# --- text ---------------------------------------------------------------------------------------------


def grids(found: Compared) -> list[Grid]:
    """The drops of all methods on all data sets, then one table per data set with all measures."""
    under = f"{found.stored.title}, {found.stored.names.protocols[found.protocol]}"
    return [_overview(found, under), *(_one(found, dataset, under) for dataset in found.datasets)]


def _overview(found: Compared, under: str) -> Grid:
    """Methods against data sets, by the mean, which only those have that ran on all of them."""
    means, selected = found.mean_drops(), [d for d in found.datasets if d in found.stored.names.datasets]
    drops = found.rows[found.rows["measure"] == "drop_11"].astype({"dataset": str})
    sizes = drops.groupby("dataset")["n"].max()
    sets = drops[drops["dataset"].isin(selected)].groupby(drops["method"].astype(str)).size()
    whole = means.where(sets.reindex(means.index) == len(selected)).rename("estimate").reset_index()
    rows = pd.concat([drops, whole.assign(dataset="mean", measure="drop_11")])
    rows = rows.assign(dataset=pd.Categorical(rows["dataset"], [*found.datasets, "mean"]))

    def say(key: str, value: Any) -> str:
        said = found.stored.say(key, value)
        return f"{said} (n = {sizes[value]})" if value in sizes else said

    caption = f"All methods: drop of the target's probability after the top 11 % of tokens ({under})"
    shown, keys = _ranked(found, rows, means.index), ["method", "family"]
    return crossed(
        caption, say, shown, keys, "dataset", lambda row: strong(number(row.estimate), row.best), notes(found)
    )


def _one(found: Compared, dataset: str, under: str) -> Grid:
    """Methods against measures, the largest drop first."""
    drops = found.cells(dataset, "drop_11").sort_values("estimate", ascending=False, kind="stable")
    rows = found.rows[found.rows["dataset"] == dataset]
    rows = _ranked(found, rows.assign(n=rows["method"].astype(str).map(drops["n"])), drops.index)
    caption = f"All methods on {found.stored.say('dataset', dataset)} ({under})"
    keys, sizes = ["method", "family", "n"], _sizes(found, dataset)
    return crossed(caption, found.stored.say, rows, keys, "measure", _text, sizes)


def _ranked(found: Compared, rows: pd.DataFrame, methods: pd.Index) -> pd.DataFrame:
    """The rows of `methods`, in that order, by their labels, with their family and whether they are best."""
    place = {method: place for place, method in enumerate(methods)}
    rows = rows[rows["method"].isin(place)].astype({"method": str})
    rows = rows.sort_values("method", key=lambda names: names.map(place), kind="stable")
    best = rows["dataset"].astype(str).map(found.best) == rows["method"]
    family = [found.stored.known[method].family for method in rows["method"]]
    return rows.assign(best=best, family=family, method=rows["method"].map(found.label))


def _text(row: Any) -> str:
    """A drop with its interval, in bold where it is best; seconds with two digits."""
    if row.measure == SECONDS:
        return _seconds(row.estimate)
    return strong(estimate(row), row.best) if row.measure == "drop_11" else number(row.estimate)


def _seconds(value: float) -> str:
    """With two digits."""
    return "< 0.001" if value < 0.001 else f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"


def _sizes(found: Compared, dataset: str) -> list[str]:
    """Which methods made the sample small."""
    own = found.own_n[dataset]
    smallest, largest = min(own.values()), max(own.values())
    slow = ", ".join(found.label(method) for method, n in own.items() if n == smallest)
    told = (
        f"All methods on the {smallest} instances that they share: {slow} ran on no more, others "
        f"on up to {largest}. Seconds and planted evidence are each method's own, over all that it ran on."
    )
    return [told] if smallest < largest else []


def notes(found: Compared) -> list[str]:
    """What must be known to read the numbers."""
    how, known = found.stored.how, found.stored.known
    devices = sorted(found.rows["device"].dropna().unique())
    lines = [
        f"Protocol `{found.protocol}`, deletion. The methods of a data set are compared on the same "
        f"instances; n and {how.percent} bootstrap intervals of every number: `methods.csv`.",
        "**Bold**: a larger drop than every other method run on the data set by a paired sign-flip "
        f"permutation test, Holm-corrected for all pairs, p < {1 - how.confidence:.2g}; pairs: "
        "`methods_tests.csv`. Mean: over the data sets (generated ones apart), – if one was not run.",
    ]
    if any(not known[method].explains_class for method in found.rows["method"].unique()):
        lines.append("† explains no class: whatever class is asked for, the scores are the same.")
    if devices:
        lines.append(
            f"Seconds per instance: the attribution stage's own clock on {' and '.join(devices)}, with other "
            "work beside it, and without what a method learns beforehand (statistics, β, a network). They "
            "compare methods roughly; `make bench` measures."
        )
    chosen, about = chosen_settings(found.stored, found.records), dataset_notes(found.stored, found.records)
    return [*lines, *found.refused.values(), *chosen, *about]


TABLE = Spec(
    "methods",
    200,
    lambda stored: compare_methods(stored).rows,
    lambda stored, _: grids(compare_methods(stored)),
    part="methods",
    beside={"methods_tests": lambda stored: compare_methods(stored).tests},
)
