"""The methods' times in a stored benchmark: side by side, on one device, by one version of the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from iba.report.text import span
from iba.store import read_json

#: Settings of a method that do not change the work it does; the layer is compared by its number.
FREE = {
    "_target_",
    "beta",
    "layer",
    "seed",
    "noise",
    "readout",
    "explained_class",
    "normalise",
    "completeness",
}
#: Classes that do another's work: as many passes, from another point of the network.
SAME_WORK = {"IntegratedGradientsReleased": "IntegratedGradients"}


@dataclass(frozen=True)
class Timed:
    """One stored benchmark in one precision: its methods' settings, layers, and milliseconds per instance.

    `methods`, `layers`: by data set and method. `milliseconds`: data sets × methods, and `reference` those
    of the straightforward version, one text at a time in float32. `sizes`: by data set, `n` texts of
    `mean_tokens` tokens.
    """

    device: str
    precision: str
    methods: Mapping[tuple[str, str], Mapping[str, Any]]
    layers: Mapping[tuple[str, str], int]
    milliseconds: pd.DataFrame
    reference: pd.DataFrame
    sizes: pd.DataFrame

    def ratios(self, datasets: Sequence[str], fast: str, slow: str) -> dict[str, float] | None:
        """Time of `slow` over that of `fast` on each of `datasets`; None unless all were timed."""
        table = self.milliseconds.reindex(index=datasets, columns=[fast, slow])
        if table.isna().any(axis=None):
            return None
        return {str(name): float(ratio) for name, ratio in (table[slow] / table[fast]).items()}

    def reference_ratio(self, dataset: str, fast: str, slow: str) -> float:
        """The same ratio on one data set, of the straightforward version."""
        return float(self.reference.loc[dataset, slow] / self.reference.loc[dataset, fast])

    def described(self, datasets: Sequence[str]) -> str:
        """On what was timed: device, precision, texts per data set and how long they were."""
        sizes = self.sizes.loc[list(datasets)]
        tokens = f"{sizes['mean_tokens'].min():.0f} to {sizes['mean_tokens'].max():.0f} tokens in the mean"
        texts = f"{span(sizes['n'].tolist())} texts per data set"
        return f"benchmark on {self.device} in {self.precision}, {texts}, of {tokens}"

    def stands_for(self, dataset: str, method: str, cell: Mapping[str, Any]) -> bool:
        """Whether the benchmark timed `method` as the cell with this record ran it: the same class, after the
        same layer, with those settings that both records know."""
        ran, timed = cell.get("settings", {}).get("method"), self.methods.get((dataset, method))
        if ran is None or timed is None:
            return False
        same = self.layers.get((dataset, method)) == ran.get("layer") and _work(ran) == _work(timed)
        return same and all(ran[name] == timed[name] for name in (ran.keys() & timed.keys()) - FREE)


def _work(settings: Mapping[str, Any]) -> str:
    name = str(settings.get("_target_")).rpartition(".")[-1]
    return SAME_WORK.get(name, name)


def read_timed(folder: Path, model: Any) -> list[Timed]:
    """The benchmarks below `folder` that timed `model` (its plain settings), in their faster precision."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        record = path.with_suffix(".json")
        settings = read_json(record)["settings"] if record.is_file() else {}
        rows = pd.read_csv(path)
        if settings.get("model") == model and {"operation", "ours_ms"} <= set(rows):
            rows = rows[rows["precision"] == (precision := _faster(rows))]
            times = rows.pivot_table(["ours_ms", "reference_ms"], "dataset", "operation", "min")
            at = rows.dropna(subset="layer").set_index(["dataset", "operation"])["layer"].astype(int)
            sizes = rows.groupby("dataset")[["n", "mean_tokens"]].first()
            about = settings["device"], precision, _methods(settings, list(sizes.index)), at.to_dict()
            found.append(Timed(*about, times["ours_ms"], times["reference_ms"], sizes))
    return found


def _methods(settings: Mapping[str, Any], datasets: Sequence[str]) -> dict[tuple[str, str], Any]:
    """The timed methods' settings by data set; older records hold one set of them for all."""
    shared, own = settings.get("methods", {}), settings.get("dataset", {})
    return {(d, m): s for d in datasets for m, s in own.get(d, {}).get("methods", shared).items()}


def _faster(rows: pd.DataFrame) -> str:
    """The precision that took less time for what was timed in all: a ratio must not mix two of them."""
    wide = rows.pivot_table("ours_ms", "precision", ["dataset", "operation"], "min")
    return str(wide.dropna(axis=1).sum(axis=1).idxmin())
