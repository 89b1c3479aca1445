"""Mistakes in the settings that would otherwise show only after expensive work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
from omegaconf import DictConfig, ListConfig, OmegaConf
from transformers import SchedulerType

from iba.degradation import OPERATORS
from iba.devices import resolve_device, resolve_precision
from iba.errors import UserError, refuse_unless_number, refuse_unless_whole
from iba.experiment import TARGETS, datasets, selected
from iba.parts import Shard
from iba.ranking import FIRST_STEP, Order
from iba.stats import resampling

#: Whole numbers of the configuration, and of every data set, with the smallest that makes sense.
_SMALLEST = {
    "seed": 0,
    "token_budget": 1,
    "part_size": 1,
    "finetune.seed": 0,
    "finetune.save_every": 1,
    "stats.seed": 0,
    "stats.n_resamples": 1,
}
_SMALLEST_OF_DATA = {
    "max_length": 4,
    "n_train": 1,
    "n_calibration": 0,
    "n_accuracy": 1,
    "n_test": 1,
    "finetune.batch_size": 1,
}


def check_settings(cfg: DictConfig) -> None:
    """Raise `UserError` for a setting that is none; reads no data."""
    if cfg.target not in TARGETS:
        raise UserError(f"target={cfg.target} is unknown; choose from {', '.join(TARGETS)}.")
    resolve_precision(cfg.precision, resolve_device(cfg.device))
    Shard.parse(str(cfg.shard))
    resampling(cfg)
    studies = selected(cfg.get("study") or DictConfig({}))
    _check_numbers("", cfg, _SMALLEST)
    _check_training(cfg.finetune)
    for name, dataset in datasets(cfg).items():
        _check_numbers(f"dataset.{name}.", dataset, _SMALLEST_OF_DATA)
        refuse_unless_number(f"dataset.{name}.accuracy_floor", dataset.accuracy_floor, 0)
        for setting in ("epochs", "learning_rate"):
            value = dataset.finetune[setting]
            refuse_unless_number(f"dataset.{name}.finetune.{setting}", value, 0, ends=False)
    _check_degradation("degradation", cfg.degradation)
    _check_steps(cfg.degradation.n_points)
    for name, method in selected(cfg.method).items():
        _check_sizes(f"method.{name}.n_test.", method.get("n_test") or {})
    for name, study in studies.items():
        _check_degradation(f"study.{name}.degradation", study.degradation)
        _check_sizes(f"study.{name}.n_test.", study.n_test)
        if study.max_length is not None:
            refuse_unless_whole(f"study.{name}.max_length", study.max_length, _SMALLEST_OF_DATA["max_length"])


def _check_training(finetune: DictConfig) -> None:
    """Numbers, and a schedule that transformers knows."""
    for setting in ("weight_decay", "warmup"):
        refuse_unless_number(f"finetune.{setting}", finetune[setting], 0)
    known = [each.value for each in SchedulerType]
    if finetune.schedule not in known:
        raise UserError(f"finetune.schedule={finetune.schedule}: choose from {', '.join(known)}.")


def _check_degradation(setting: str, chosen: DictConfig) -> None:
    """Known names only, and with them what Table 1 is made of: deletion, most important first."""
    for part, known, needed in (
        ("operators", tuple(OPERATORS), "delete"),
        ("orders", get_args(Order), "most"),
    ):
        unknown = [name for name in chosen[part] if name not in known]
        if unknown:
            choice = f"choose from [{', '.join(known)}]"
            raise UserError(f"{setting}.{part}: {unknown[0]!r} is unknown; {choice}.")
        if needed not in chosen[part]:
            raise UserError(f"{setting}.{part} must hold {needed!r}, which Table 1 is made of.")
    shares = chosen.eraser_shares
    if not isinstance(shares, ListConfig):
        raise UserError(f"{setting}.eraser_shares={shares}: give a list of shares, such as [0.1, 0.5].")
    for share in shares:
        refuse_unless_number(f"{setting}.eraser_shares", share, 0, 1)


def _check_steps(points: Any) -> None:
    """One of the steps must be the one that Table 1 reads."""
    found = isinstance(points, int) and points > 1 and np.isclose(np.linspace(0, 1, points), FIRST_STEP).any()
    if not found:
        raise UserError(
            f"degradation.n_points={points}: no step is at 1/9 (11 %), Table 1's; take 10, 19, 28, …"
        )


def _check_numbers(prefix: str, cfg: DictConfig, smallest: Mapping[str, int]) -> None:
    for setting, least in smallest.items():
        of_rows = setting in ("n_train", "n_accuracy", "n_test")
        refuse_unless_whole(prefix + setting, OmegaConf.select(cfg, setting), least, of_rows)


def _check_sizes(prefix: str, sizes: Mapping[str, Any]) -> None:
    for name, n in sizes.items():
        refuse_unless_whole(prefix + name, n, 1, of_rows=True)
