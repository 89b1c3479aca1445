"""From the composed configuration to the cells of the experiment: data set × protocol × method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from iba.errors import UserError


def selected(group: DictConfig) -> dict[str, DictConfig]:
    """The members of a group that were selected: those whose own file was read, which names them.

    A preset may change members that a run does not select; such leftovers have no name.
    """
    return {str(name): member for name, member in group.items() if "name" in member}


@dataclass(frozen=True)
class Cell:
    """One data set under one protocol with one method; `method` holds its settings, resolved for both."""

    dataset: str
    protocol: str
    method: str
    settings: dict[str, Any]


def datasets(cfg: DictConfig) -> dict[str, DictConfig]:
    """The selected data sets by name."""
    return selected(cfg.dataset)


def cells(cfg: DictConfig, dataset: str) -> Iterator[Cell]:
    """Every protocol and method of one data set.

    A method's settings are its own file, changed by what the protocol says of it; both may refer to
    the data set as `${dataset.…}`.
    """
    for protocol in selected(cfg.protocol):
        for method in selected(cfg.method):
            yield Cell(dataset, protocol, method, method_settings(cfg, dataset, protocol, method))


def twins(cfg: DictConfig, cell: Cell) -> Iterator[Cell]:
    """The cells of other protocols that have the very same method settings, and so the same result."""
    for other in cells(cfg, cell.dataset):
        if (other.method, other.settings) == (cell.method, cell.settings) and other.protocol != cell.protocol:
            yield other


def method_settings(cfg: DictConfig, dataset: str, protocol: str, method: str) -> dict[str, Any]:
    """The settings of `method` under `protocol` on `dataset`, all references resolved."""
    changes = cfg.protocol[protocol].methods.get(method) or DictConfig({})
    root = OmegaConf.create(
        {
            "dataset": OmegaConf.to_container(cfg.dataset[dataset], resolve=False),
            "paths": OmegaConf.to_container(cfg.paths, resolve=True),
            "seed": cfg.seed,
            "settings": OmegaConf.merge(_unresolved(cfg.method[method].settings), _unresolved(changes)),
        }
    )
    resolved = OmegaConf.to_container(root.settings, resolve=True)
    assert isinstance(resolved, dict)
    return {str(name): value for name, value in resolved.items()}


def _unresolved(config: DictConfig) -> DictConfig:
    plain: Any = OmegaConf.to_container(config, resolve=False)
    return DictConfig(plain)


def run_folder(cfg: DictConfig) -> Path:
    """`results/<run>`."""
    if not cfg.run:
        raise UserError("no run name: choose a preset, or give run=NAME.")
    return Path(cfg.paths.results) / str(cfg.run)
