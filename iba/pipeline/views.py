"""What the report reads: the stored cells by the names that the configuration has for them.

Everything is looked up in stored records: no data set and no model is opened. What a record alone can tell
(the digest of the rows, the precision that `auto` chose) is taken as it is there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf

from iba.errors import UserError
from iba.pipeline.attribute import NUMBERS, RECORD, SCORES
from iba.pipeline.degrade import column, columns, degradation_path, long_form
from iba.pipeline.experiment import (
    Cell,
    Classified,
    Value,
    View,
    candidates,
    cells,
    dataset_config,
    datasets,
    forced,
    run_folder,
    selected,
    unresolved,
)
from iba.pipeline.finetune import CLASSIFIER
from iba.pipeline.studies import study_cells, study_datasets
from iba.settings import fingerprint, plain
from iba.store import differences, read_json, read_parquet

#: By operator, order and grid: the fractions, and instances × steps.
Curves = dict[tuple[str, str, str], tuple[np.ndarray, np.ndarray]]
__all__ = ["StoredCell", "Value", "View", "classifiers", "known_methods", "predictions", "stored_cells"]


@dataclass(frozen=True)
class StoredCell:
    """A stored cell under one of its names.

    `record`: settings, `n`, provenance and, where settings were chosen, `tuning`. `cell`: the same text for
    all names of one and the same cell.
    """

    view: View
    record: Mapping[str, Any]
    cell: str
    folder: Path
    curves: Path

    @property
    def degraded(self) -> bool:
        """Whether there are curves."""
        return self.curves.is_file()

    def degradation(self) -> pd.DataFrame:
        """instance_id, target, order, operator, grid, step, fraction, n_tokens, n_removed, prob_target."""
        wide, rows = read_parquet(self.curves), self._rows(["n_tokens", "n_removable"])
        settings = read_json(self.curves.with_suffix(".json"))["settings"]
        return long_form(wide, settings, rows["n_tokens"].to_numpy(), rows["n_removable"].to_numpy())

    def probabilities(self) -> tuple[pd.DataFrame, Curves]:
        """instance_id and target; and the target's probability by operator, order and grid."""
        wide, steps = read_parquet(self.curves), defaultdict(list)
        for order, operator, grid, step, fraction in columns(
            read_json(self.curves.with_suffix(".json"))["settings"]
        ):
            steps[operator, order, grid].append((fraction, column(order, operator, grid, step)))
        found = {key: tuple(zip(*each, strict=True)) for key, each in steps.items()}
        curves = {key: (np.array(f), wide[[*names]].to_numpy(float)) for key, (f, names) in found.items()}
        return wide[["instance_id", "target"]], curves

    def numbers(self) -> pd.DataFrame | None:
        """One row per instance and one column per number that the method reported; None without any."""
        path = self.folder / NUMBERS
        return read_parquet(path) if path.is_file() else None

    def scores(self) -> pd.DataFrame | None:
        """instance_id, label, target, tokens, special, evidence, order and scores, and what explains them;
        None where none were kept."""
        rows = self._rows(["label", "tokens", "special", "evidence"])
        table = pd.concat([rows, read_parquet(self.folder / SCORES)], axis=1)
        table = table[table["scores"].notna()].reset_index(drop=True)
        return table if len(table) else None

    def _rows(self, columns: list[str]) -> pd.DataFrame:
        """What the cell's rows share with those of other cells, in the same order."""
        return read_parquet(self.folder.parent.parent / self.record["rows"], columns)


@dataclass(frozen=True)
class _Stored:
    """A classifier's or a cell's folder, and its record."""

    folder: Path
    record: dict[str, Any]

    @classmethod
    def at(cls, paths: Iterable[Path]) -> list[_Stored]:
        """Those whose records are at `paths`."""
        return [cls(path.parent, read_json(path)) for path in sorted(paths)]

    @property
    def attributed(self) -> bool:
        """Whether a cell's token scores are there: they are written last."""
        return (self.folder / SCORES).is_file()


def stored_cells(cfg: DictConfig) -> list[StoredCell]:
    """All that is stored and has a name in `cfg`, degraded or not: Table 1's cells, other seeds and studies,
    of all known methods, in the order of the configuration."""
    methods, studies = known_methods(cfg), list(known_studies(cfg).values())
    return [cell for name in _datasets(cfg) for cell in _cells(cfg, name, methods, studies)]


def classifiers(cfg: DictConfig) -> dict[tuple[str, int], dict[str, Any]]:
    """The records of the fine-tuned classifiers, by data set and fine-tuning seed."""
    return {(d, seed): t.record for d in _datasets(cfg) for seed, t in _trained(cfg, d).items()}


def predictions(cfg: DictConfig) -> dict[tuple[str, int], pd.DataFrame]:
    """instance_id and predicted class of every scored row, by data set and fine-tuning seed."""
    return {
        (d, seed): read_parquet(t.folder / "classifier.parquet", ["instance_id", "predicted"])
        for d in _datasets(cfg)
        for seed, t in _trained(cfg, d).items()
    }


def known_methods(cfg: DictConfig) -> dict[str, DictConfig]:
    """The methods that the report can name, run or not, with what a preset changes of them."""
    return _known_members(cfg, "known", "method")


def known_studies(cfg: DictConfig) -> dict[str, DictConfig]:
    """The studies that the report can show, the same way."""
    return _known_members(cfg, "known_studies", "study")


def _known_members(cfg: DictConfig, known: str, group: str) -> dict[str, DictConfig]:
    changed = cfg.get(group) or DictConfig({})  # `study=[]` leaves no group
    members = selected(cfg[known]) | selected(changed)
    merged = {n: OmegaConf.merge(unresolved(m), changed.get(n) or {}) for n, m in members.items()}
    return {name: DictConfig(member, parent=cfg) for name, member in merged.items()}


def _datasets(cfg: DictConfig) -> list[str]:
    return [*(datasets(cfg) | selected(cfg.evident))]


def _trained(cfg: DictConfig, dataset: str) -> dict[int, _Stored]:
    """The classifiers that the configuration's recipe makes, by seed, its own first."""
    folder, own = run_folder(cfg) / dataset, cfg.finetune.seed
    found, wrong = defaultdict(list), []
    for each in (stored := _Stored.at(folder.glob(f"classifiers/*/{CLASSIFIER}"))):
        seed = int(each.record["settings"]["recipe"]["seed"])
        if wrong := _differences(cfg, dataset, each.record["settings"], seed == own):
            continue
        found[seed].append(each)
    if stored and not found:
        raise UserError(
            f"{folder} holds no classifier of this configuration ({'; '.join(wrong[:3])}): give the preset "
            "and the settings that the run was made with."
        )
    seeds = sorted(found, key=lambda seed: (seed != own, seed))
    return {seed: _only(found[seed], lambda each: each.record["settings"]["n"]) for seed in seeds}


def _differences(cfg: DictConfig, name: str, stored: Mapping[str, Any], own: bool) -> list[str]:
    """Where a classifier's record says otherwise than the configuration; other seeds may have fewer rows."""
    recipe, dataset, tuning = stored["recipe"], dataset_config(cfg, name), cfg.finetune
    shared = {key: tuning[key] for key in ("weight_decay", "warmup", "schedule", "save_every")}
    found = {
        "model": (recipe["model"]["name"], cfg.model.name),
        "train_name": (recipe["train_name"], dataset.train_name),
        "finetune": (recipe["settings"], plain(dataset.finetune) | shared),
        "finetune.precision": (recipe["precision"], tuning.precision),
        "labels": (recipe["labels"], plain(dataset.labels)),
        "max_length": (recipe["max_length"], dataset.max_length),
        "n_train": (recipe["n_train"], dataset.n_train),
        "seed": (stored["sample_seed"], cfg.seed),
        "n_test": (stored["n"], dataset.n_test if own else None),
        "precision": (stored["precision"], cfg.precision),
    }
    known = {name: pair for name, pair in found.items() if pair[1] not in (None, "auto")}
    before, now = ({name: pair[side] for name, pair in known.items()} for side in (0, 1))
    return differences(before, now)


def _cells(
    cfg: DictConfig, dataset: str, methods: Mapping[str, DictConfig], studies: Iterable[DictConfig]
) -> Iterator[StoredCell]:
    """The data set's cells by all their names."""
    index = _index(cfg, (run_folder(cfg) / dataset).glob(f"*/*/{RECORD}"))
    tuning = run_folder(cfg) / "tuning" / dataset_config(cfg, dataset).train_name
    tries = _index(cfg, tuning.glob("*.json"))
    running = {"precision": cfg.precision} | forced(cfg)
    trained = {seed: Classified.of(t.record) for seed, t in _trained(cfg, dataset).items()} if index else {}
    if not trained:
        return
    own = next(iter(trained.values()))
    known = {method for method, _ in index}  # the classes of others need not even be imported
    asked = _asked(cfg, dataset, own.n_layers, methods, studies)
    wanted = [cell for cell in asked if cell.view.method in known]
    for seed, classified in trained.items():
        whose = (classified, own)  # a seed that tried nothing took what the run's own chose
        for untuned in wanted:
            for cell, chosen in _tuned(cfg, untuned, whose, running, tries):
                key = cell.key(classified, {}, running)
                found = [each for each in index[cell.view.method, _known(cfg, key)] if each.attributed]
                if found:
                    stored = _only(found, partial(_rank, cell))
                    yield _named(stored, replace(cell, view=replace(cell.view, seed=seed)), chosen)


def _index(cfg: DictConfig, records: Iterable[Path]) -> Mapping[tuple[str, str], list[_Stored]]:
    """What is stored by the name above it and by what a configuration alone can know of its key."""
    found = defaultdict(list)
    for each in _Stored.at(records):
        found[each.folder.parent.name, _known(cfg, each.record["key"])].append(each)
    return found


def _tuned(
    cfg: DictConfig,
    cell: Cell,
    whose: Sequence[Classified],
    running: Mapping[str, Any],
    tries: Mapping[tuple[str, str], list[_Stored]],
) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """The cell with the settings of its best try, and the record of all; nothing where none were stored."""
    options = candidates(cell.settings)
    if len(options) == 1:
        yield replace(cell, settings=options[0]), {}
        return
    known = (tries["tuning", _known(cfg, cell.tuning_key(each, {}, running))] for each in whose)
    if found := next(filter(None, known), None):
        asked = cell.rows.n_calibration or dataset_config(cfg, cell.view.dataset).n_calibration
        record = _only(found, lambda each: each.record["key"]["rows"]["n"] == asked).record
        yield replace(cell, settings=options[record["chosen"]]), {"tuning": record}


def _asked(
    cfg: DictConfig,
    dataset: str,
    n_layers: int,
    methods: Mapping[str, DictConfig],
    studies: Iterable[DictConfig],
) -> Iterator[Cell]:
    yield from cells(cfg, dataset, methods)
    for study in studies:
        if dataset in study_datasets(cfg, study):
            yield from study_cells(cfg, study, dataset, n_layers, methods)


def _known(cfg: DictConfig, key: Mapping[str, Any]) -> str:
    """What a configuration alone can know of a key."""
    unknown = {"numerics"} | ({"precision"} if cfg.precision == "auto" else set())
    told = ("seed", "n", "ids") if "target" in key else ()  # of the held-out rows nothing
    rows = {name: key["rows"].get(name) for name in told}
    return fingerprint({name: value for name, value in key.items() if name not in unknown} | {"rows": rows})


def _rank(cell: Cell, stored: _Stored) -> tuple[bool, int]:
    """What was degraded stands before what was not, newer numerics before older ones."""
    return degradation_path(stored.folder, cell.degradation).is_file(), stored.record["key"]["numerics"]


def _only(found: Sequence[_Stored], rank: Callable[[_Stored], Any]) -> _Stored:
    """The one of the highest rank; `UserError` where two would do."""
    best = [each for each in found if rank(each) == max(map(rank, found))]
    if len(best) > 1:
        first, second = best[:2]
        one, other = (each.record.get("key") or each.record["settings"] for each in (first, second))
        raise UserError(
            f"{first.folder} and {second.folder.name} answer to one name "
            f"({'; '.join(differences(one, other)[:3])}): say which by a setting, or delete one of the two."
        )
    return best[0]


def _named(stored: _Stored, cell: Cell, chosen: dict[str, Any]) -> StoredCell:
    key, record = stored.record["key"], stored.record
    layer = {name: value for name, value in key["method"].items() if name == "layer"}
    settings = key | {"method": record["method"] | layer, "n": key["rows"]["n"]}
    return StoredCell(
        cell.view,
        record | chosen | {"settings": settings, "n": key["rows"]["n"]},
        str(Path(*stored.folder.parts[-3:])),
        stored.folder,
        degradation_path(stored.folder, cell.degradation),
    )
