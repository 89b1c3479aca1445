"""From the composed configuration to the cells of the experiment: data set × protocol × method."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf

from iba.errors import UserError


def selected(group: DictConfig) -> dict[str, DictConfig]:
    """The members of a group that were selected: those whose own file was read, which names them.

    A preset may change members that a run does not select; such leftovers have no name.
    """
    return {str(n): m for n, m in group.items() if isinstance(m, DictConfig) and "name" in m}


#: Which class is explained: the gold label (the paper's choice), the predicted one, or (as a check) the
#: class after the gold one.
Target = Literal["gold", "predicted", "other"]
TARGETS = get_args(Target)
#: Of which classifier the prediction is explained; the degradation test always asks the fine-tuned one.
WEIGHTS = ("fine-tuned", "pretrained", "random")


@dataclass(frozen=True)
class Point:
    """Where a cell of a study stands: the study, what it varies, and its value (None: a reference)."""

    study: str
    vary: str | None
    value: int | float | str | None

    @property
    def folder(self) -> str:
        """The folder's name, such as `layer=9`."""
        value = f"{self.value:g}" if isinstance(self.value, int | float) else self.value
        return f"{self.vary}={value}" if self.value is not None else "reference"

    @property
    def columns(self) -> dict[str, Any]:
        """The value as a column of the degradation rows, whose own `target` is the class that is measured."""
        name = "explained" if self.vary == "target" else self.vary
        return {} if name is None else {name: self.value}


@dataclass(frozen=True)
class Cell:
    """One data set under one protocol with one method, whose `settings` are resolved for both.

    `target`: the class to explain. `weights`: of which classifier (see `Bench.weights`). `n_test`: how many
    test instances, the first that were drawn; None takes all.
    """

    dataset: str
    protocol: str
    method: str
    settings: dict[str, Any]
    target: str = "gold"
    weights: str = "fine-tuned"
    n_test: int | None = None
    point: Point | None = None

    @property
    def folder(self) -> Path:
        """The cell's folder below the run's."""
        if self.point is None:
            return Path(self.dataset, self.protocol, self.method)
        own = Path("studies", self.point.study, self.dataset, self.protocol)
        return own / self.method / self.point.folder

    @property
    def columns(self) -> dict[str, Any]:
        """What tells the cell's degradation rows from others: the varied quantity comes first."""
        varied = self.point.columns if self.point else {}
        return {**varied, "protocol": self.protocol, "dataset": self.dataset, "method": self.method}

    @property
    def method_place(self) -> str:
        """Where the method's settings stand in the configuration, for messages."""
        study = f"study {self.point.study}: " if self.point else ""
        return f"{study}method.{self.method}.settings"

    @property
    def label(self) -> str:
        """The cell in words, for progress bars."""
        return " ".join(self.folder.parts)


def datasets(cfg: DictConfig) -> dict[str, DictConfig]:
    """The selected data sets by name."""
    return selected(cfg.dataset)


def cells(cfg: DictConfig, dataset: str) -> Iterator[Cell]:
    """Every protocol and method of one data set.

    A method's settings are its own file, changed by what the protocol says of it; both may refer to
    the data set as `${dataset.…}`. A slow method may name a smaller `n_test` for a data set.
    """
    for protocol in selected(cfg.protocol):
        for method, config in selected(cfg.method).items():
            settings = method_settings(cfg, dataset, protocol, config)
            n_test = (config.get("n_test") or {}).get(dataset)
            yield Cell(dataset, protocol, method, settings, cfg.target, n_test=n_test)


def all_cells(cfg: DictConfig) -> Iterator[Cell]:
    """The cells of all selected data sets."""
    for dataset in datasets(cfg):
        yield from cells(cfg, dataset)


def twins(cells_of_run: Iterable[Cell], cell: Cell) -> Iterator[Cell]:
    """The cells that have the very same method settings, and so the same result: of any protocol, its own
    included, in the order of the run."""
    for other in cells_of_run:
        if replace(other, protocol=cell.protocol) == cell:
            yield other


def stand_ins(cfg: DictConfig, cell: Cell) -> Iterator[Cell]:
    """Where the result of a study's point may stand already, if the settings are the same there: in the cell
    of Table 1, and in the same point under another protocol."""
    if cell.point is not None:
        yield replace(cell, point=None)
        yield from (replace(cell, protocol=protocol) for protocol in selected(cfg.protocol))


def method_settings(cfg: DictConfig, dataset: str, protocol: str, method: DictConfig) -> dict[str, Any]:
    """The settings of `method` under `protocol` on `dataset`, all references resolved."""
    changes = cfg.protocol[protocol].methods.get(method.name) or DictConfig({})
    root = OmegaConf.create(
        {
            "dataset": OmegaConf.to_container(cfg.dataset[dataset], resolve=False),
            "paths": OmegaConf.to_container(cfg.paths, resolve=True),
            "seed": cfg.seed,
            "settings": OmegaConf.merge(_unresolved(method.settings), _unresolved(changes)),
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
