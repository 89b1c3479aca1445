"""The stored rows of a run, read into one object that every table and figure is a function of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig

from iba.errors import UserError
from iba.evaluation.ranking import FIRST_STEP
from iba.evaluation.stats import Resampling, areas, log_odds_drop, mean_drop, resampling
from iba.pipeline.experiment import datasets, run_folder, selected
from iba.pipeline.store import plain, read_json, read_parquet
from iba.report.paper import Paper
from iba.report.timed import Timed, read_timed

#: What identifies a cell, in the order of tables.
CELL = ["protocol", "dataset", "method"]
#: The paper's operator.
DELETE = "delete"


@dataclass(frozen=True)
class Names:
    """What is printed for the members of a group, in the order in which they are listed."""

    datasets: dict[str, str]
    protocols: dict[str, str]
    methods: dict[str, str]
    colours: dict[str, str]

    @classmethod
    def of(cls, cfg: DictConfig, methods: Mapping[str, DictConfig] | None = None) -> Names:
        """From the selected configuration groups; `methods` in place of the selected ones."""
        methods = selected(cfg.method) if methods is None else methods
        return cls(
            {name: str(d.title) for name, d in datasets(cfg).items()},
            {name: str(p.title) for name, p in selected(cfg.protocol).items()},
            {name: str(m.label) for name, m in methods.items()},
            {name: str(m.color) for name, m in methods.items()},
        )


@dataclass(frozen=True, eq=False)  # equal only to itself, so that what is read of it can be cached
class Stored:
    """What the report reads of one run.

    `curves`: the degradation rows. `scores`: one row per cell, operator and instance (see `per_instance`).
    `classifiers`: the record of every data set. `cells`: the attribution record of every cell. `note`:
    what the run is, in its preset's words. `notes`: the same of a data set. `timed`: the benchmarks of the
    run's model. `made_with`: encoder and preset, for the foot of the figures.
    """

    folder: Path
    names: Names
    how: Resampling
    paper: Paper
    curves: pd.DataFrame
    scores: pd.DataFrame
    classifiers: dict[str, dict[str, Any]]
    cells: dict[tuple[str, str, str], dict[str, Any]]
    note: str
    notes: dict[str, str]
    title: str
    timed: list[Timed]
    made_with: str

    @property
    def datasets(self) -> list[str]:
        """Data sets with stored rows, in the order of the configuration."""
        return self._present("dataset", self.names.datasets)

    @property
    def protocols(self) -> list[str]:
        """Protocols with stored rows."""
        return self._present("protocol", self.names.protocols)

    @property
    def methods(self) -> list[str]:
        """Methods with stored rows."""
        return self._present("method", self.names.methods)

    def _present(self, column: str, order: dict[str, str]) -> list[str]:
        found = set(self.curves[column].unique())
        return [name for name in order if name in found]

    def paper_scores(self) -> pd.DataFrame:
        """The per-instance scores under the paper's operator."""
        return self.scores[self.scores["operator"] == DELETE]

    def matrix(self, protocol: str, dataset: str, column: str = "drop_11") -> pd.DataFrame:
        """One score under the paper's operator: instances × methods, of one data set and protocol."""
        rows = self.paper_scores()
        rows = rows[(rows["protocol"] == protocol) & (rows["dataset"] == dataset)]
        wide = rows.pivot(index="instance_id", columns="method", values=column)
        return wide[[method for method in self.names.methods if method in wide]]


def load(cfg: DictConfig) -> Stored:
    """Read what the selected cells of `cfg` have stored; `UserError` where there is nothing to report.

    The methods are compared with each other, so they must have seen the same instances.
    """
    stored = read(cfg, Names.of(cfg))
    _refuse_unequal_samples(stored.scores)
    return stored


def _refuse_other_model(classifiers: dict[str, dict[str, Any]], name: str, folder: Path) -> None:
    for dataset, record in classifiers.items():
        made_with = record.get("settings", {}).get("recipe", {}).get("model", {}).get("name", name)
        if made_with != name:
            raise UserError(
                f"{folder / dataset} was made with model={made_with}, not with {name}: give the model "
                "(or the preset) that the run was made with."
            )


def read(cfg: DictConfig, names: Names) -> Stored:
    """Read what the cells of `names` have stored, on whatever instances."""
    folder = run_folder(cfg)
    tables, records = [], {}
    for dataset in names.datasets:
        for protocol in names.protocols:
            for method in names.methods:
                cell = folder / dataset / protocol / method
                if (cell / "degradation.parquet").is_file():
                    tables.append(read_parquet(cell / "degradation.parquet"))
                if (cell / "attributions.json").is_file():
                    records[protocol, dataset, method] = read_json(cell / "attributions.json")
    if not tables:
        raise UserError(f"{folder} holds no degradation rows yet: run scripts/degrade.py first.")
    curves = pd.concat(tables, ignore_index=True)
    scores = per_instance(curves)
    classifiers = {d: _record(folder / d / "classifier.json") for d in curves["dataset"].unique()}
    _refuse_other_model(classifiers, str(cfg.model.name), folder)
    notes = {d: str(c.note) for d, c in datasets(cfg).items() if c.get("note")}
    return Stored(
        folder,
        names,
        resampling(cfg),
        Paper.read(Path(cfg.paths.root) / "results" / "published"),
        curves,
        scores,
        classifiers,
        records,
        str(cfg.get("note") or ""),
        notes,
        str(cfg.model.title),
        read_timed(Path(cfg.paths.results) / "benchmark", plain(cfg.model)),
        _made_with(cfg),
    )


def _made_with(cfg: DictConfig) -> str:
    """Encoder and preset, and the run where it has a name of its own."""
    named = f"{cfg.model.title}, preset {cfg.preset_name}"
    return named if str(cfg.run) == str(cfg.preset_name) else f"{named}, run {cfg.run}"


def _record(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path} is missing: run scripts/finetune.py first.")
    record: dict[str, Any] = read_json(path)
    return record


def _refuse_unequal_samples(scores: pd.DataFrame) -> None:
    """Methods are compared instance by instance, so they must have seen the same ones."""
    for (protocol, dataset), rows in scores.groupby(["protocol", "dataset"]):
        samples = rows.groupby(["method", "operator"])["instance_id"].agg(frozenset)
        if samples.nunique() > 1:
            raise UserError(
                f"{dataset}, {protocol}: the methods were degraded on different instances; "
                f"run scripts/degrade.py again for all of them."
            )


def per_instance(rows: pd.DataFrame, cell: Sequence[str] = CELL) -> pd.DataFrame:
    """Degradation rows as one row per cell, operator and instance.

    Columns, probabilities unless said: prob_start p(0); prob_11 after the step at 1/9; drop_11 their signed
    difference; log_odds_11 the same in nats; area_under and area_over of the most-first curve;
    area_over_least of the least-first curve; comprehensiveness and sufficiency (NaN where their order was
    not run).
    """
    keys = [*cell, "operator", "instance_id"]
    most = _wide(rows, keys, "curve", "most")
    curve = most.to_numpy(float)
    fractions = _fractions(rows, "curve", "most")
    both = areas(fractions, curve)
    first = curve[:, np.abs(fractions - FIRST_STEP).argmin()]
    found = pd.DataFrame(
        {
            "prob_start": curve[:, 0],
            "prob_11": first,
            "drop_11": curve[:, 0] - first,
            "log_odds_11": log_odds_drop(curve[:, 0], first),
            "area_under": both.under,
            "area_over": both.over,
        },
        index=most.index,
    )
    least = _wide(rows, keys, "curve", "least").reindex(most.index).to_numpy(float)
    found["area_over_least"] = areas(fractions, least).over if least.size else np.nan
    _fractions(rows, "eraser", "most")  # the same of all cells, or their means are of different things
    for name, order in (("comprehensiveness", "most"), ("sufficiency", "least")):
        after = _wide(rows, keys, "eraser", order).reindex(most.index).to_numpy(float)
        found[name] = mean_drop(curve[:, 0], after) if after.size else np.nan
    return found.reset_index()


def _wide(rows: pd.DataFrame, keys: list[str], grid: str, order: str) -> pd.DataFrame:
    chosen = rows[(rows["grid"] == grid) & (rows["order"] == order)]
    return chosen.pivot(index=keys, columns="step", values="prob_target")


def _fractions(rows: pd.DataFrame, grid: str, order: str) -> np.ndarray:
    chosen = rows[(rows["grid"] == grid) & (rows["order"] == order)]
    steps = chosen.groupby("step")["fraction"].agg(["first", "nunique", "size"])
    if (steps["nunique"] > 1).any() or steps["size"].nunique() > 1:
        raise UserError(
            "the stored cells were degraded at different steps: run scripts/degrade.py for all of them "
            "with one degradation.n_points and one eraser_shares, in a folder of its own (run=NAME)."
        )
    return steps["first"].to_numpy(float)
