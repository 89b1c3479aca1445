"""The methods' times in a stored benchmark: side by side, on one device, by one version of the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from iba.store import read_json

#: Settings of a method that do not change the work it does; the layer is compared by its number.
FREE = ("beta", "beta_grid", "layer", "seed")


@dataclass(frozen=True)
class Timed:
    """One stored benchmark: its methods' settings, layers, and milliseconds per instance (sets × methods)."""

    device: str
    methods: Mapping[str, Mapping[str, Any]]
    layers: Mapping[tuple[str, str], int]
    milliseconds: pd.DataFrame

    def ratios(self, datasets: Sequence[str], fast: str, slow: str) -> list[float] | None:
        """Time of `slow` over that of `fast` on each of `datasets`; None unless all were timed."""
        table = self.milliseconds.reindex(index=datasets, columns=[fast, slow])
        if table.isna().any(axis=None):
            return None
        return [float(ratio) for ratio in table[slow] / table[fast]]

    def stands_for(self, dataset: str, method: str, cell: Mapping[str, Any]) -> bool:
        """Whether the benchmark timed `method` as the cell with this record ran it."""
        ran = cell.get("settings", {}).get("method")
        layer = cell.get("provenance", {}).get("resolved", {}).get("layer")
        if ran is None or method not in self.methods:
            return False
        return _work(self.methods[method]) == _work(ran) and self.layers.get((dataset, method)) == layer


def _work(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in FREE}


def read_timed(folder: Path, model: Any) -> list[Timed]:
    """The benchmarks below `folder` that timed `model` (its plain settings), in their fastest precision."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        record = path.with_suffix(".json")
        settings = read_json(record)["settings"] if record.is_file() else {}
        rows = pd.read_csv(path)
        if settings.get("model") == model and {"operation", "ours_ms"} <= set(rows):
            times = rows.pivot_table(index="dataset", columns="operation", values="ours_ms", aggfunc="min")
            at = rows.dropna(subset="layer").set_index(["dataset", "operation"])["layer"].astype(int)
            found.append(Timed(settings["device"], settings["methods"], at.to_dict(), times))
    return found
