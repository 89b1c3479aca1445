"""From the composed configuration to cells: what a protocol, a data set and a method ask for, by what it
depends on. A protocol or a study's point is only a name for a cell: what is asked for twice is one cell."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Literal, get_args

from omegaconf import DictConfig, OmegaConf

from iba.data.examples import Example
from iba.errors import UserError
from iba.models.runner import layer_number
from iba.settings import fingerprint, plain

#: Raised by hand whenever scores or curves may change though no setting did: older cells are other cells.
#: 2: the states in which a bottleneck starts are computed in float32.
NUMERICS = 2
#: Which class is explained: the gold label (the paper's choice), the predicted one, or (as a check) the
#: class after the gold one.
Target = Literal["gold", "predicted", "other"]
TARGETS = get_args(Target)
#: Of which classifier the prediction is explained; the degradation test always asks the fine-tuned one.
WEIGHTS = ("fine-tuned", "pretrained", "random")

Value = int | float | str
#: What a folder's name may hold of a setting, and how long it may be.
_UNREADABLE, _LONGEST = re.compile(r"[^\w.=+-]+"), 80


def selected(group: DictConfig) -> dict[str, DictConfig]:
    """The members of a group that were selected: those whose own file was read, which names them.

    A preset may change members that a run does not select; such leftovers have no name.
    """
    return {str(n): m for n, m in group.items() if isinstance(m, DictConfig) and "name" in m}


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

    @property
    def label(self) -> str:
        """The name in words, for progress bars."""
        parts = (self.study, self.dataset, self.protocol, self.method, self.value)
        return " ".join(str(part) for part in parts if part is not None)


@dataclass(frozen=True)
class RowSet:
    """Which test rows, cut at how many tokens: the first `n` that were drawn by `seed` (None: all of the
    sample), or those of the sample that `ids` names, then the texts that are a study's `own`.

    `n_calibration`: how many of the held-out training rows a method may choose by; None takes all.
    """

    seed: int
    max_length: int
    n: int | None = None
    ids: tuple[str, ...] | None = None
    own: tuple[Example, ...] = ()
    n_calibration: int | None = None

    @property
    def named(self) -> list[str] | None:
        """The ids of rows that are named; None for a sample."""
        return [*(self.ids or ()), *(e.id for e in self.own)] if self.ids is not None or self.own else None

    def described(self, n_drawn: int) -> dict[str, Any]:
        """The rows as part of a cell's key, but for their digest; `n_drawn`: rows of the whole sample."""
        names = self.named
        n = min(self.n or n_drawn, n_drawn) if names is None else len(names)
        return {"seed": self.seed, "n": n} | ({} if names is None else {"ids": names})


@dataclass(frozen=True)
class Classified:
    """The classifier that a cell explains, by its stored record: what the cell's key says of it."""

    digest: str
    n_layers: int
    n_drawn: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Classified:
        """From the record that is stored with its predictions."""
        known = record["settings"]
        return cls(known["weights"], known["n_layers"], known["n"])


@dataclass(frozen=True)
class Cell:
    """What a view asks for: a method's `settings` on `rows`, which class and which weights are explained, and
    how the scores are put to the degradation test. `tries` among the settings are changes of the others, from
    which `tuning.tuned` chooses."""

    view: View
    settings: dict[str, Any]
    target: str
    weights: str
    rows: RowSet
    degradation: dict[str, Any]

    @property
    def method_place(self) -> str:
        """Where the method's settings stand in the configuration, for messages."""
        study = f"study {self.view.study}: " if self.view.study else ""
        return f"{study}method.{self.view.method}.settings"

    def told(self, n_layers: int) -> dict[str, Any]:
        """The method's class and those of its settings that are not the class's own: what is new there later
        leaves older cells as they are. The layer as a number."""
        made = method_class(f"{self.method_place}._target_", self.settings.get("_target_"))
        usual = {name: plain(p.default) for name, p in inspect.signature(made).parameters.items()}
        given = {name: value for name, value in self.settings.items() if name != "_target_"}
        if "layer" in given:
            given["layer"] = layer_number(given["layer"], n_layers)
        return {"class": made.__name__} | {n: v for n, v in given.items() if plain(v) != usual.get(n)}

    def key(self, found: Classified, digests: dict[str, str], running: Mapping[str, Any]) -> dict[str, Any]:
        """All that the cell's scores depend on; the same key is the same cell.

        `digests`: of the rows. `running`: the precision, and how the model is run where that was forced.
        """
        return {
            "dataset": self.view.dataset,
            "method": self.told(found.n_layers),
            "target": self.target,
            "rows": self.rows.described(found.n_drawn) | digests,
            **self._explaining(found, running),
        }

    def tuning_key(
        self, found: Classified, held_out: dict[str, Any], running: Mapping[str, Any]
    ) -> dict[str, Any]:
        """All that the choice among the cell's tries depends on."""
        tries = [replace(self, settings=each).told(found.n_layers) for each in candidates(self.settings)]
        return {"tries": tries, "rows": held_out, **self._explaining(found, running)}

    def _explaining(self, found: Classified, running: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "classifier": found.digest,
            "weights": self.weights,
            "max_length": self.rows.max_length,
            **running,
            "numerics": NUMERICS,
        }


def hashed(label: str, key: Mapping[str, Any]) -> str:
    """`<label>-<hash8>`: a readable name that is unique to the key."""
    return f"{label}-{fingerprint(key)[:8]}"


def cell_folder(dataset_folder: Path, method: str, key: Mapping[str, Any]) -> Path:
    """`<method>/<label>-<hash8>`: the label tells the settings, the hash the whole key."""
    told = {name: value for name, value in key["method"].items() if name != "class"}
    usual = {"weights": "fine-tuned", "target": "gold"}
    told |= {name: key[name] for name, value in usual.items() if key[name] != value}
    words = [f"{n}={v:g}" if isinstance(v, float) else f"{n}={v}" for n, v in told.items()]
    label = _UNREADABLE.sub("-", "_".join(words))[:_LONGEST] or "default"
    return dataset_folder / method / hashed(label, key)


def method_class(place: str, name: Any) -> type:
    """The class called `name`; `UserError` for what is none, which stands at `place`."""
    with suppress(ImportError, AttributeError, ValueError):
        if isinstance(found := resolve_name(str(name)), type):
            return found
    raise UserError(f"{place}={name}: there is no such class.")


def forced(cfg: DictConfig) -> dict[str, Any]:
    """By whatever path through the model, scores agree but for rounding: one that is forced is told apart."""
    usual = {"fast": "auto", "layers": None}
    return {name: cfg[name] for name, value in usual.items() if cfg[name] != value}


def datasets(cfg: DictConfig) -> dict[str, DictConfig]:
    """The selected data sets by name."""
    return selected(cfg.dataset)


def cells(cfg: DictConfig, dataset: str, methods: Mapping[str, DictConfig] | None = None) -> Iterator[Cell]:
    """Every protocol and method (the selected ones) of one data set: Table 1's cells.

    A method's settings are its own file, changed by what the protocol says of it; both may refer to
    the data set as `${dataset.…}`. A slow method or protocol may name a smaller `n_test` for a data set; a
    method may name the only `protocols` that it belongs to.
    """
    told, degradation = settings_root(cfg, dataset), plain(cfg.degradation)
    for protocol in selected(cfg.protocol):
        for name, config in (selected(cfg.method) if methods is None else methods).items():
            if protocol not in (config.get("protocols") or [protocol]):
                continue
            sizes = [(of.get("n_test") or {}).get(dataset) for of in (config, cfg.protocol[protocol])]
            n = min((size for size in sizes if size is not None), default=None)
            rows = RowSet(cfg.seed, told.dataset.max_length, n)
            view = View(cfg.finetune.seed, None, None, protocol, dataset, name)
            settings = method_settings(cfg, dataset, protocol, config, told)
            yield Cell(view, settings, cfg.target, "fine-tuned", rows, degradation)


def dataset_config(cfg: DictConfig, name: str) -> DictConfig:
    """The settings of a data set that is selected or, where it was run, shown (`evident`): what a preset
    changes stands in the former in any case."""
    known = (cfg.get("evident") or {}).get(name) or DictConfig({})
    return DictConfig(OmegaConf.merge(unresolved(known), cfg.dataset.get(name) or {}), parent=cfg)


def candidates(settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings that `tries` make of the others; where there are none, the one choice that is left."""
    fixed = {name: value for name, value in settings.items() if name != "tries"}
    return [fixed | change for change in settings.get("tries") or [{}]]


def method_settings(
    cfg: DictConfig, dataset: str, protocol: str, method: DictConfig, told: DictConfig | None = None
) -> dict[str, Any]:
    """The settings of `method` under `protocol` on `dataset`, all references resolved (by `told`, which is
    made once for many methods)."""
    changes = cfg.protocol[protocol].methods.get(method.name) or DictConfig({})
    settings: Any = OmegaConf.unsafe_merge(unresolved(method.settings), unresolved(changes))
    told = settings_root(cfg, dataset) if told is None else told
    resolved = OmegaConf.to_container(DictConfig(settings, parent=told), resolve=True)
    assert isinstance(resolved, dict)
    return {str(name): value for name, value in resolved.items()}


def settings_root(cfg: DictConfig, dataset: str) -> DictConfig:
    """What the settings of methods may refer to on one data set."""
    about = OmegaConf.to_container(dataset_config(cfg, dataset), resolve=False)
    paths = OmegaConf.to_container(cfg.paths, resolve=True)
    return OmegaConf.create({"dataset": about, "paths": paths, "seed": cfg.seed})


def unresolved(config: DictConfig) -> DictConfig:
    """The same settings, open to others."""
    plain: Any = OmegaConf.to_container(config, resolve=False)
    return DictConfig(plain)


def run_folder(cfg: DictConfig) -> Path:
    """`results/<run>`."""
    if not cfg.run:
        raise UserError("no run name: choose a preset, or give run=NAME.")
    return Path(cfg.paths.results) / str(cfg.run)
