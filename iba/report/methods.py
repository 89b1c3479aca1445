"""All methods in one table: the paper's and the related ones, under one protocol.

The methods of a data set are compared on the same instances: those that every one of them was degraded on.
A slow method that ran on fewer instances thus sets their number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd
from omegaconf import DictConfig

from iba.errors import UserError
from iba.evaluation.stats import Resampling, mean_interval
from iba.pipeline.experiment import run_folder, selected
from iba.report import planted
from iba.report.comparisons import pairs, significantly_best
from iba.report.notes import chosen_betas, dataset_notes
from iba.report.rows import Names, Stored, read
from iba.report.text import Grid, Table, interval, number

#: Column of the per-instance scores → what the table calls it; the arrow says which way is better.
MEASURES = {
    "drop_11": "drop at 11 % ↑",
    "area_over": "area over the curve ↑",
    "comprehensiveness": "comprehensiveness ↑",
    "sufficiency": "sufficiency ↓",
}
RECALL, SECONDS = "planted_recall", "seconds_per_instance"
COLUMNS = ["protocol", "dataset", "method", "measure", "n", "estimate", "ci_low", "ci_high", "device"]
_HEADS = MEASURES | {RECALL: "planted evidence ↑", SECONDS: "s per instance ↓"}
#: How methods are grouped, in this order; a method that names no family comes last.
FAMILIES = ("bottleneck", "gradient", "attention", "perturbation", "control")
OTHER = "other"
#: Marks methods that give all classes the same scores.
DAGGER = " †"


@dataclass(frozen=True)
class Traits:
    """What the table says of a method besides its numbers."""

    family: str
    explains_class: bool


@dataclass(frozen=True)
class Compared:
    """The methods of a run on shared instances.

    `stored`: every method that the configuration knows, under `protocol` alone; its scores are cut to the
    shared instances. `own_n`: how many each method had, per data set. `refused`: data sets that are left
    out, and why. `rows`: the table. `tests`: all pairs of methods, one Holm family per data set.
    """

    stored: Stored
    protocol: str
    traits: dict[str, Traits]
    own_n: dict[str, dict[str, int]]
    refused: dict[str, str]
    rows: pd.DataFrame
    tests: pd.DataFrame
    beside: frozenset[str] = frozenset()

    @property
    def datasets(self) -> list[str]:
        """Data sets whose methods can be compared."""
        return [name for name in self.stored.datasets if name not in self.refused]

    def label(self, method: str) -> str:
        """The method's name, marked if it explains no class."""
        mark = "" if self.traits[method].explains_class else DAGGER
        return f"{self.stored.names.methods[method]}{mark}"

    def cells(self, dataset: str, measure: str) -> pd.DataFrame:
        """The methods of a data set by one measure, indexed by method."""
        rows = self.rows
        return rows[(rows["dataset"] == dataset) & (rows["measure"] == measure)].set_index("method")

    def mean_drops(self) -> pd.Series:
        """Mean drop at 11 % over the data sets that a method was run on, the largest first."""
        drops = self.rows[(self.rows["measure"] == "drop_11") & ~self.rows["dataset"].isin(self.beside)]
        return drops.groupby("method")["estimate"].mean().sort_values(ascending=False, kind="stable")


def everything(cfg: DictConfig) -> tuple[Stored, dict[str, Traits], frozenset[str]]:
    """The rows of all known methods under the protocol of the comparison, on whatever instances.

    Sets with known evidence come after the selected data sets; where they were not selected themselves,
    they are named last, to be shown beside the others.
    """
    members = selected(cfg.known) | selected(cfg.method)
    names = Names.of(cfg, members)
    evident = {name: str(d.title) for name, d in selected(cfg.evident).items() if name not in names.datasets}
    names = replace(names, datasets=names.datasets | evident)
    traits = {
        name: Traits(str(m.get("family") or OTHER), bool(m.get("explains_class", True)))
        for name, m in members.items()
    }
    return read(cfg, replace(names, protocols=_protocol(cfg, names))), traits, frozenset(evident)


def _protocol(cfg: DictConfig, names: Names) -> dict[str, str]:
    """The configured protocol and its title; where nothing of it is stored, the first that has rows."""
    for protocol in (str(cfg.report.methods_protocol), *names.protocols):
        cells = (run_folder(cfg) / d / protocol / m for d in names.datasets for m in names.methods)
        if protocol in names.protocols and any((c / "degradation.parquet").is_file() for c in cells):
            return {protocol: names.protocols[protocol]}
    raise UserError(f"{run_folder(cfg)} holds no degradation rows yet: run scripts/degrade.py first.")


def compare(stored: Stored, traits: dict[str, Traits], beside: frozenset[str] = frozenset()) -> Compared:
    """Cut the methods of every data set to the instances that they share, and compare them."""
    scores = stored.paper_scores()
    own_n, refused, cut = {}, {}, []
    for dataset, rows in scores.groupby("dataset", sort=False):
        samples = rows.groupby("method")["instance_id"].agg(frozenset)
        shared = frozenset.intersection(*samples)
        own_n[str(dataset)] = {str(method): len(sample) for method, sample in samples.items()}
        if len(shared) < min(map(len, samples)):
            refused[str(dataset)] = _refusal(stored, str(dataset), samples)
        else:
            cut.append(rows[rows["instance_id"].isin(shared)])
    common = replace(stored, scores=pd.concat(cut, ignore_index=True) if cut else scores.head(0))
    (protocol,) = stored.protocols
    found = Compared(common, protocol, traits, own_n, refused, pd.DataFrame(), pd.DataFrame(), beside)
    rows = pd.DataFrame(_rows(found), columns=COLUMNS)
    return replace(found, rows=rows.astype({"n": "Int64"}), tests=_tests(found))


def _refusal(stored: Stored, dataset: str, samples: pd.Series) -> str:
    """Why a data set is left out: two methods of which neither saw all instances of the other."""
    smallest = samples.map(len).idxmin()
    other = next(m for m, sample in samples.items() if not samples[smallest] <= sample)
    labels = stored.names.methods
    return (
        f"{stored.names.datasets[dataset]} is left out: {labels[str(smallest)]} and {labels[str(other)]} "
        f"were degraded on samples of which neither holds the other; run scripts/degrade.py for both again."
    )


def _rows(found: Compared) -> Iterator[dict[str, object]]:
    for dataset in found.datasets:
        for measure in MEASURES:
            for method, values in found.stored.matrix(found.protocol, dataset, measure).items():
                if values.notna().all():
                    mean = mean_interval(values.to_numpy(float), found.stored.how)
                    yield _row(
                        found, dataset, str(method), measure, mean.n, mean.estimate, mean.low, mean.high, None
                    )
        for row in _recalls(found, dataset).to_dict("records"):
            ends = row["ci_low"], row["ci_high"]
            yield _row(found, dataset, row["method"], RECALL, row["n"], row["recall"], *ends, None)
        for method in found.own_n[dataset]:
            record = found.stored.cells.get((found.protocol, dataset, method), {})
            measured = record.get("provenance", {})
            if SECONDS in measured:
                seconds, device = measured[SECONDS], measured.get("device")
                yield _row(found, dataset, method, SECONDS, record.get("n"), seconds, None, None, device)


def _row(found: Compared, dataset: str, method: str, measure: str, *numbers: object) -> dict[str, object]:
    return dict(zip(COLUMNS, (found.protocol, dataset, method, measure, *numbers), strict=True))


def _recalls(found: Compared, dataset: str) -> pd.DataFrame:
    """The stored recalls of planted evidence by the methods of one data set."""
    rows = planted.table(found.stored)
    if rows is None:
        return pd.DataFrame()
    return rows[(rows["dataset"] == dataset) & rows["method"].isin(found.own_n[dataset])]


def _tests(found: Compared) -> pd.DataFrame:
    tables = []
    for dataset in found.datasets:
        matrix = found.stored.matrix(found.protocol, dataset)
        if matrix.shape[1] > 1:
            enough_for_all = enough(found.stored.how, matrix.shape[1])
            tests = pairs(matrix, enough_for_all, enough_for_all)
            tests.insert(0, "dataset", dataset)
            tests.insert(0, "protocol", found.protocol)
            tables.append(tests)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["protocol", "dataset"])


def enough(how: Resampling, n_methods: int) -> Resampling:
    """As many permutations as Holm's correction for all pairs needs to find anything.

    The smallest corrected p-value must stay well below alpha; it is not printed, so no more is needed.
    """
    return how.resolving(math.comb(n_methods, 2), (1 - how.confidence) / 2)


# --- tables -------------------------------------------------------------------------------------------


def grids(found: Compared) -> list[Grid]:
    """The drops of all methods on all data sets, then one table per data set with all measures."""
    best = {
        dataset: significantly_best(tests, 1 - found.stored.how.confidence)
        for dataset, tests in found.tests.groupby("dataset")
    }
    return [_overview(found, best), *(_one(found, dataset, best) for dataset in found.datasets)]


def _overview(found: Compared, best: dict[str, str | None]) -> Grid:
    drops = {dataset: found.cells(dataset, "drop_11")["estimate"] for dataset in found.datasets}
    lines = []
    for method, mean in found.mean_drops().items():
        values = [_bold(drops[d].get(method), best.get(d) == method) for d in found.datasets]
        whole = all(method in drops[d] for d in found.datasets if d not in found.beside)
        family = found.traits[str(method)].family
        lines.append([found.label(str(method)), family, *values, number(mean) if whole else "–"])
    sizes = {d: found.cells(d, "drop_11")["n"].max() for d in found.datasets}
    titles = [f"{found.stored.names.datasets[d]} (n = {n})" for d, n in sizes.items()]
    heads = ["method", "family", *titles, "mean"]
    caption = f"All methods: drop of the target's probability after the top 11 % of tokens ({_under(found)})"
    return Grid(caption, heads, lines, notes(found))


def _one(found: Compared, dataset: str, best: dict[str, str | None]) -> Grid:
    columns = {measure: found.cells(dataset, measure) for measure in _HEADS}
    columns = {measure: cells for measure, cells in columns.items() if len(cells)}
    lines = []
    for method, row in (
        columns.pop("drop_11").sort_values("estimate", ascending=False, kind="stable").iterrows()
    ):
        drop = _bold(row["estimate"], best.get(dataset) == method)
        others = [
            (_seconds if measure == SECONDS else number)(cells["estimate"].get(method))
            for measure, cells in columns.items()
        ]
        ends = interval(row["ci_low"], row["ci_high"])
        family = found.traits[str(method)].family
        lines.append([found.label(str(method)), family, str(row["n"]), f"{drop} {ends}".strip(), *others])
    heads = ["method", "family", "n", *(_HEADS[m] for m in ("drop_11", *columns))]
    name = found.stored.names.datasets[dataset]
    return Grid(f"All methods on {name} ({_under(found)})", heads, lines, _sizes(found, dataset))


def _bold(value: float | None, strong: bool) -> str:
    return f"**{number(value)}**" if strong else number(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
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
    how = found.stored.how
    rows = found.rows
    devices = sorted(rows["device"].dropna().unique())
    lines = [
        f"Protocol `{found.protocol}`, deletion. The methods of a data set are compared on the same "
        f"instances; n and {how.percent} bootstrap intervals of every number: `methods.csv`.",
        "**Bold**: a larger drop than every other method run on the data set by a paired sign-flip "
        f"permutation test, Holm-corrected for all pairs, p < {1 - how.confidence:.2g}; pairs: "
        "`methods_tests.csv`. Mean: over the data sets (generated ones apart), – if one was not run.",
    ]
    if any(not found.traits[str(method)].explains_class for method in rows["method"].unique()):
        lines.append("† explains no class: whatever class is asked for, the scores are the same.")
    if devices:
        lines.append(
            f"Seconds per instance: the attribution stage's own clock on {' and '.join(devices)}, with other "
            "work beside it, and without what a method learns beforehand (statistics, β, a network). They "
            "compare methods roughly; `make bench` measures."
        )
    return [*lines, *found.refused.values(), *chosen_betas(found.stored), *dataset_notes(found.stored)]


def report(found: Compared) -> Table:
    """`methods.*` and `methods_tests.csv`."""
    return Table("methods", found.rows, grids(found), "methods", {"methods_tests": found.tests})
