"""Measured rows on disk: each is stored the moment it is known, so that a benchmark can be interrupted."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf

from iba.benchmark import measure
from iba.devices import resolve_device, resolve_precision
from iba.errors import UserError
from iba.pipeline.checks import check_settings
from iba.pipeline.experiment import datasets, method_settings, selected
from iba.settings import plain
from iba.store import atomic, device_name, differences, provenance, read_json, write_json

Row = dict[str, Any]
#: The name of the timed methods' settings among the protocols.
PROTOCOL = "benchmark"


@dataclass(frozen=True)
class Ledger:
    """`folder/name.csv` with `name.json`; rows with the same `key` columns are measured once, together.

    `dataset`: what the rows of each data set depend on besides; later calls may bring other data sets.
    """

    folder: Path
    name: str
    key: tuple[str, ...]
    settings: dict[str, Any]
    dataset: dict[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The table."""
        return self.folder / f"{self.name}.csv"

    @property
    def record(self) -> Path:
        """Settings and provenance."""
        return self.folder / f"{self.name}.json"

    def open(self) -> None:
        """Claim the file; `UserError` if it holds rows that were measured with other settings."""
        settings, own = plain(self.settings), plain(self.dataset)
        if self.record.is_file():
            before = read_json(self.record)
            known = before["settings"].setdefault("dataset", {})
            again = {name: own[name] for name in own if name in known}
            changed = differences(before["settings"], settings | {"dataset": known | again})
            if changed:
                raise UserError(
                    f"{self.path} was measured with other settings ({'; '.join(changed[:3])}): "
                    "delete it to measure again, or choose another benchmark.name."
                )
        else:
            before, known = {}, {}
            self.path.unlink(missing_ok=True)
        write_json(self.record, before | {"settings": settings | {"dataset": known | own}})

    def rows(self) -> pd.DataFrame:
        """What has been measured so far."""
        return pd.read_csv(self.path) if self.path.is_file() else pd.DataFrame(columns=list(self.key))

    def measure(self, key: Row, work: Callable[[], list[Row]]) -> list[Row]:
        """The rows of `key`: the stored ones, or what `work` measures now."""
        known = self.rows()
        same = known[[all(str(row[k]) == str(key[k]) for k in self.key) for _, row in known.iterrows()]]
        if len(same):
            return same.to_dict("records")
        measured = [key | row for row in work()]
        with atomic(self.path) as temporary:
            pd.DataFrame(known.to_dict("records") + measured).to_csv(temporary, index=False)
        return measured


class Ledgers:
    """The tables of one benchmark below results/benchmark, all with what they depend on.

    `cfg`: the checked configuration, as large as the `device` asks for; `stem`: what all names begin with.
    """

    def __init__(self, cfg: DictConfig, suffix: str = "") -> None:
        check_settings(cfg)
        self.device = resolve_device("cpu" if cfg.benchmark.classifier is None else cfg.device)
        self.cfg, self.folder = sized(cfg, self.device), Path(cfg.paths.results) / "benchmark"
        slug = re.sub(r"[^a-z0-9]+", "_", device_name(self.device).lower()).strip("_")
        self.stem = str(cfg.benchmark.name or slug) + suffix
        self._opened: list[Ledger] = []

    def open(self, part: str, *key: str) -> Ledger:
        """The table of one part."""
        cfg = self.cfg
        settings = {name: plain(cfg[name]) for name in ("benchmark", "model", "finetune", "stats")}
        settings |= {"token_budget": cfg.token_budget, "n_points": cfg.degradation.n_points, "seed": cfg.seed}
        settings |= {"device": device_name(self.device)}
        name = f"{self.stem}_{part}" if part else self.stem
        ledger = Ledger(self.folder, name, key, settings, {each: _rows(cfg, each) for each in datasets(cfg)})
        ledger.open()
        self._opened.append(ledger)
        return ledger

    def peak(self, machine: Ledger, precision: str) -> float:
        """FLOP/s of the machine's fastest product of two large matrices, measured once."""
        size = self.cfg.benchmark.matmul_size[self.device.type]

        def work() -> list[Row]:
            rate = measure.matmul_peak(self.device, precision, size)
            return [{"matmul_size": size, "matmul_flops_per_s": rate, "device": device_name(self.device)}]

        return float(machine.measure({"precision": precision}, work)[0]["matmul_flops_per_s"])

    def finish(self) -> None:
        """Add the provenance to all records."""
        about = {"provenance": provenance(self.device)}
        for ledger in self._opened:
            write_json(ledger.record, read_json(ledger.record) | about)


def sized(cfg: DictConfig, device: torch.device) -> DictConfig:
    """The configuration, on a GPU with what `cuda` changes of it and without a precision that it lacks."""
    if device.type != "cuda":
        return cfg
    larger = OmegaConf.merge(cfg, cfg.cuda)
    assert isinstance(larger, DictConfig)
    if resolve_precision("auto", device) == "fp32":  # bf16 would be emulated: no run uses it there
        larger.benchmark.precisions = ["fp32"]
    return larger


def _rows(cfg: DictConfig, name: str) -> dict[str, Any]:
    """Which rows of a data set are measured, how long they are, and by which classifier and methods."""
    sizes = ("max_length", "n_train", "n_calibration", "n_test", "finetune")
    methods = {m: method_settings(cfg, name, PROTOCOL, each) for m, each in selected(cfg.method).items()}
    return {size: plain(cfg.dataset[name][size]) for size in sizes} | {"methods": methods}
