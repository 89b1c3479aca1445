"""What the report reads: the stored cells by the names that the configuration has for them.

The only place that knows where rows lie. Everything is looked up in stored files: no data set and no model
is opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig

from iba.pipeline.experiment import datasets, run_folder, selected
from iba.pipeline.store import read_json, read_parquet

Value = int | float | str
_NAMES = ["protocol", "dataset", "method"]


@dataclass(frozen=True)
class View:
    """What a cell is called in the report.

    `seed`: of the fine-tuning. `study`: None in Table 1. `value`: of what the study varies; None in Table 1
    and for a reference of a study.
    """

    seed: int
    study: str | None
    value: Value | None
    protocol: str
    dataset: str
    method: str


@dataclass(frozen=True)
class StoredCell:
    """A stored cell under one of its names.

    `record`: settings, `n` and provenance. `cell`: the same text for all names of one and the same cell.
    """

    view: View
    record: Mapping[str, Any]
    cell: str
    folder: Path
    run: Path

    @property
    def n(self) -> int:
        """How many instances it has."""
        return int(
            read_parquet(self.folder / "degradation.parquet", ["instance_id"])["instance_id"].nunique()
        )

    def degradation(self) -> pd.DataFrame:
        """instance_id, target, order, operator, grid, step, fraction, n_tokens, n_removed, prob_target."""
        return read_parquet(self.folder / "degradation.parquet").drop(columns=_NAMES)

    def numbers(self) -> pd.DataFrame | None:
        """One row per instance and one column per number that the method reported; None without any."""
        if self._attributions.is_file():
            rows = read_parquet(self._attributions)
            names = rows.select_dtypes("number").columns.difference(["label", "target"], sort=False)
            return rows[["instance_id", *names]] if len(names) else None
        return self._kept("diagnostics")

    def scores(self) -> pd.DataFrame | None:
        """instance_id, label, target, tokens, special, evidence, scores; None where they were not kept."""
        rows = read_parquet(self._attributions) if self._attributions.is_file() else self._kept("examples")
        return None if rows is None or "scores" not in rows else rows

    @property
    def _attributions(self) -> Path:
        return self.folder / "attributions.parquet"

    def _kept(self, name: str) -> pd.DataFrame | None:
        """What `name` holds of this cell: beside it, of its study, or of the run."""
        beside, study = self.folder / f"{name}.parquet", self.view.study
        if beside.is_file():
            return read_parquet(beside)
        shared = (self.run / "studies" / study if study else self.run) / f"{name}.parquet"
        if not shared.is_file():
            return None
        rows = _shared(shared, shared.stat().st_mtime_ns)
        mine = (rows[_NAMES] == [getattr(self.view, name) for name in _NAMES]).all(axis=1)
        if study:
            mine &= rows["point"] == self.folder.name
        return rows[mine].drop(columns=[*_NAMES, *({"point"} & {*rows})]) if mine.any() else None


@lru_cache(maxsize=2)  # one file for many cells
def _shared(path: Path, changed: int) -> pd.DataFrame:
    return read_parquet(path)


def stored_cells(cfg: DictConfig) -> list[StoredCell]:
    """All that is stored and has a name in `cfg`: Table 1's cells, other seeds and studies, of all known
    methods, in the order of the configuration."""
    return [cell for run, seed in _runs(cfg) for cell in _cells(cfg, run, seed)]


def classifiers(cfg: DictConfig) -> dict[tuple[str, int], dict[str, Any]]:
    """The records of the fine-tuned classifiers, by data set and fine-tuning seed."""
    return {
        (dataset, seed): read_json(path)
        for run, seed in _runs(cfg)
        for dataset in _datasets(cfg)
        if (path := run / dataset / "classifier.json").is_file()
    }


def predictions(cfg: DictConfig) -> dict[tuple[str, int], pd.DataFrame]:
    """instance_id and predicted class of every scored row, by data set and fine-tuning seed."""
    return {
        (dataset, seed): read_parquet(path, ["instance_id", "predicted"])
        for run, seed in _runs(cfg)
        for dataset in _datasets(cfg)
        if (path := run / dataset / "classifier.parquet").is_file()
    }


def unselected(cfg: DictConfig, methods: Collection[str]) -> set[str]:
    """What the run holds and `cfg` does not select: data sets, protocols, and of `methods`."""
    found = [path.parts[-4:-1] for path in run_folder(cfg).glob("*/*/*/degradation.parquet")]
    stored = [{name[i] for name in found} for i in range(3)]
    chosen = _datasets(cfg), selected(cfg.protocol), [*selected(cfg.method), *(stored[2] - {*methods})]
    return set().union(*(names - {*known} for names, known in zip(stored, chosen, strict=True)))


def known_methods(cfg: DictConfig) -> dict[str, DictConfig]:
    """The methods that the report can name, run or not."""
    return selected(cfg.known) | selected(cfg.method)


def _datasets(cfg: DictConfig) -> list[str]:
    return [*(datasets(cfg) | selected(cfg.evident))]


def _runs(cfg: DictConfig) -> Iterator[tuple[Path, int]]:
    """The run's folder and those of its other fine-tuning seeds."""
    yield run_folder(cfg), int(cfg.finetune.seed)
    for folder in sorted((run_folder(cfg) / "seeds").glob("*")):
        yield folder, int(folder.name)


def _cells(cfg: DictConfig, run: Path, seed: int) -> Iterator[StoredCell]:
    for dataset in _datasets(cfg):
        for protocol in selected(cfg.protocol):
            for method in known_methods(cfg):
                below = Path(dataset, protocol, method)
                yield from _stored(run, run / below, View(seed, None, None, protocol, dataset, method))
                for folder in sorted(run.glob(f"studies/*/{below}/*")):
                    study = folder.relative_to(run).parts[1]
                    view = View(seed, study, _value(folder.name), protocol, dataset, method)
                    yield from _stored(run, folder, view)


def _stored(run: Path, folder: Path, view: View) -> Iterator[StoredCell]:
    """The cell, if it is there; where its scores were not made here, its record says less."""
    made, degraded = folder / "attributions.json", folder / "degradation.json"
    if not (folder / "degradation.parquet").is_file():
        return
    record = read_json(made) if made.is_file() else {}
    known = read_json(degraded)["settings"] if degraded.is_file() else {}
    settings = {"precision": known.get("precision")} | record.get("settings", {})
    other = record.get("same_as") or str(folder.relative_to(run))
    if "/" not in other:  # older records name the protocol alone
        other = f"{view.dataset}/{other}/{view.method}"
    yield StoredCell(view, record | {"settings": settings}, other, folder, run)


def _value(point: str) -> Value | None:
    """The varied value that a folder such as `layer=9` is named by; None of a reference."""
    text = point.partition("=")[2]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None
