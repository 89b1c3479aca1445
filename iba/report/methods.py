"""All methods in one table: the paper's and the related ones, under one protocol.

The methods of a data set are compared on the same instances: those that every one of them was degraded on.
A slow method that ran on fewer instances thus sets their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from iba.evaluation.measures import measured_in
from iba.evaluation.stats import Resampling
from iba.report.frame import DELETE, ESTIMATE, Frame, compare, summarise
from iba.report.notes import chosen_settings, dataset_notes
from iba.report.stored import Record, Stored
from iba.report.tables import planted_rows, significantly_best
from iba.report.text import Grid, Table, crossed, estimate, number, strong

_RECALL, SECONDS = "planted_recall", "seconds_per_instance"
COLUMNS = ["protocol", "dataset", "method", "measure", *ESTIMATE, "device"]
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
    records: dict[tuple[str, str, str], Record]

    @cached_property
    def datasets(self) -> list[str]:
        """Data sets whose methods can be compared."""
        return self.frame.present("dataset")

    @property
    def beside(self) -> set[str]:
        """Data sets with known evidence that were not selected: they stand beside the others."""
        return self.stored.evident.keys() - self.stored.names.datasets.keys()

    def say(self, key: str, value: Any) -> str:
        """What the value of a key is called."""
        if key == "method":
            return self.label(value)
        return "s per instance ↓" if value == SECONDS else self.stored.say(key, value)

    def family(self, method: str) -> str:
        """The method's family."""
        return self.stored.known[method].family

    def label(self, method: str) -> str:
        """The method's name, marked if it explains no class."""
        known = self.stored.known[method]
        return known.label + ("" if known.explains_class else DAGGER)

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The table: a row per data set, measure and method."""
        by, measures = ["protocol", "dataset", "method"], [m for m in measured_in("methods") if m != _RECALL]
        found = summarise(self.frame, by, measures, self.stored.how)
        rows = pd.concat([found, self._recalls(), self._seconds()], ignore_index=True)
        places = {"dataset": self.datasets, "measure": [*measures, _RECALL, SECONDS]}
        for name, order in places.items():
            rows[name] = pd.Categorical(rows[name], order)
        ordered = rows.sort_values([*places], kind="stable", ignore_index=True).astype({"n": "Int64"})
        return ordered.reindex(columns=COLUMNS)

    def _recalls(self) -> pd.DataFrame:
        """The recall of known evidence, each method's over all that it ran on."""
        rows = planted_rows(self.stored).rename(columns={"recall": "estimate"}).assign(measure=_RECALL)
        return rows[(rows["protocol"] == self.protocol) & rows["dataset"].isin(self.datasets)].drop(
            columns="chance"
        )

    def _seconds(self) -> pd.DataFrame:
        """What the attribution stage's own clock said."""
        cells = [(dataset, method) for dataset in self.datasets for method in self.own_n[dataset]]
        records = [(cell, self.stored.record(self.protocol, *cell)) for cell in cells]
        return pd.DataFrame(
            [
                (self.protocol, *cell, SECONDS, record.get("n"), measured[SECONDS], measured.get("device"))
                for cell, record in records
                if SECONDS in (measured := record.get("provenance", {}))
            ],
            columns=["protocol", "dataset", "method", "measure", "n", "estimate", "device"],
        )

    @cached_property
    def tests(self) -> pd.DataFrame:
        """All pairs of methods by the drop at 11 %, one Holm family per data set."""
        families = [
            compare({(self.protocol, d): matrix}, ["protocol", "dataset"], many, many)
            for d in self.datasets
            for matrix in [self.frame.of(dataset=d).matrix("drop_11")]
            for many in [enough(self.stored.how, matrix.shape[1])]
        ]
        return (
            pd.concat(families, ignore_index=True)
            if families
            else compare({}, ["protocol", "dataset"], self.stored.how)
        )

    def cells(self, dataset: str, measure: str) -> pd.DataFrame:
        """The methods of a data set by one measure, indexed by method."""
        rows = self.rows[(self.rows["dataset"] == dataset) & (self.rows["measure"] == measure)]
        return rows.assign(method=rows["method"].astype(str)).set_index("method")

    def mean_drops(self) -> pd.Series:
        """Mean drop at 11 % over the data sets that a method was run on, the largest first."""
        drops = self.rows[(self.rows["measure"] == "drop_11") & ~self.rows["dataset"].isin(self.beside)]
        means = drops.groupby(drops["method"].astype(str))["estimate"].mean()
        return means.sort_values(ascending=False, kind="stable")


def compare_methods(stored: Stored, protocol: str) -> Compared:
    """Cut the methods of every data set to the instances that they share.

    Under `protocol`; where it leaves nothing to compare, under the first that does not.
    """
    frame = stored.of_methods(stored.known, stored.names.datasets | stored.evident).of(operator=DELETE)
    run = {p: frame.of(protocol=p).present("method") for p in (protocol, *frame.present("protocol"))}
    protocol = next(p for p, found in sorted(run.items(), key=lambda of: len(of[1]) < 2) if found)
    frame, own_n, refused, shared = frame.of(protocol=protocol), {}, {}, []
    for dataset in frame.present("dataset"):
        rows = frame.of(dataset=dataset).rows
        samples = rows.groupby(rows["method"].astype(str))["instance_id"].agg(frozenset)
        common = frozenset.intersection(*samples)
        own_n[dataset] = {str(method): len(sample) for method, sample in samples.items()}
        if len(common) < min(map(len, samples)):
            refused[dataset] = _refusal(stored, dataset, samples)
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


# --- tables -------------------------------------------------------------------------------------------


def grids(found: Compared) -> list[Grid]:
    """The drops of all methods on all data sets, then one table per data set with all measures."""
    best = {
        str(dataset): significantly_best(tests, 1 - found.stored.how.confidence)
        for dataset, tests in found.tests.groupby("dataset")
    }
    return [_overview(found, best), *(_one(found, dataset, best) for dataset in found.datasets)]


def _overview(found: Compared, best: dict[str, str | None]) -> Grid:
    """Methods against data sets, by the mean, which only those have that ran on all of them."""
    means, chosen = found.mean_drops(), {*found.datasets} - found.beside
    drops = found.rows[found.rows["measure"] == "drop_11"].astype({"dataset": str, "method": str})
    sets = drops[drops["dataset"].isin(chosen)].groupby("method").size().reindex(means.index)
    whole = means.where(sets == len(chosen)).rename("estimate").rename_axis("method").reset_index()
    rows = pd.concat([drops, whole.assign(dataset="mean")])
    place = {method: place for place, method in enumerate(means.index)}
    rows = rows[rows["method"].isin(place)].sort_values("method", key=lambda m: m.map(place), kind="stable")
    sizes = drops.groupby("dataset")["n"].max()

    def say(key: str, value: Any) -> str:
        return f"{found.say(key, value)} (n = {sizes[value]})" if value in sizes else found.say(key, value)

    return crossed(
        f"All methods: drop of the target's probability after the top 11 % of tokens ({_under(found)})",
        say,
        rows.assign(family=rows["method"].map(found.family)),
        ["method", "family"],
        ("dataset", [*found.datasets, "mean"]),
        lambda row: strong(number(row.estimate), best.get(row.dataset) == row.method),
        notes(found),
    )


def _one(found: Compared, dataset: str, best: dict[str, str | None]) -> Grid:
    """Methods against measures, the largest drop first."""
    drops = found.cells(dataset, "drop_11").sort_values("estimate", ascending=False, kind="stable")
    rows = found.rows[found.rows["dataset"] == dataset].astype({"method": str, "measure": str})
    rows = rows[rows["method"].isin(drops.index)]
    rows = rows.assign(n=rows["method"].map(drops["n"]), family=rows["method"].map(found.family))
    rows = rows.sort_values("method", key=lambda method: method.map(drops.index.get_loc), kind="stable")

    def text(row: Any) -> str:
        if row.measure == "drop_11":
            return strong(estimate(row), best.get(dataset) == row.method)
        return _seconds(row.estimate) if row.measure == SECONDS else number(row.estimate)

    return crossed(
        f"All methods on {found.say('dataset', dataset)} ({_under(found)})",
        found.say,
        rows,
        ["method", "family", "n"],
        ("measure", [m for m in (*measured_in("methods"), SECONDS) if m in set(rows["measure"])]),
        text,
        _sizes(found, dataset),
    )


def _seconds(value: float) -> str:
    """With two digits."""
    return "< 0.001" if value < 0.001 else f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}"


def _under(found: Compared) -> str:
    return f"{found.stored.title}, {found.stored.names.protocols[found.protocol]}"


def _sizes(found: Compared, dataset: str) -> list[str]:
    """Which methods made the sample small."""
    own = found.own_n[dataset]
    smallest, largest = min(own.values()), max(own.values())
    if smallest == largest:
        return []
    slow = [found.label(method) for method, n in own.items() if n == smallest]
    return [
        f"All methods on the {smallest} instances that they share: {', '.join(slow)} ran on no more, others "
        f"on up to {largest}. Seconds and planted evidence are each method's own, over all that it ran on."
    ]


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


def methods(found: Compared) -> Table:
    """`methods.*` and `methods_tests.csv`."""
    return Table("methods", found.rows, grids(found), "methods", {"methods_tests": found.tests})
