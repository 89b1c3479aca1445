"""Mistakes in the settings that would otherwise show only after expensive work."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

from iba.attributor import Attributor
from iba.devices import resolve_device
from iba.errors import UserError
from iba.pipeline.experiment import Cell, candidates, cells, datasets, method_class, method_settings, selected
from iba.pipeline.sections import Explaining, Settings
from iba.settings import check, check_arguments

#: These refer to the data set on which they are used, and are resolved with it.
_OF_METHODS = ("settings", "methods")
#: What is a group of the configuration, of which presets change members that nobody selected.
_GROUPS = ("dataset", "protocol", "method", "study", "known", "evident")


def check_settings(cfg: DictConfig) -> None:
    """Raise `UserError` for a setting that is none; reads no data, no model, and asks for no device."""
    given = {str(name): _resolved(value) for name, value in cfg.items() if name not in _GROUPS}
    check("", given | {group: _members(cfg.get(group)) for group in _GROUPS}, Settings)
    for dataset in datasets(cfg):
        refuse_impossible(cfg, cells(cfg, dataset))


def refuse_impossible(cfg: DictConfig, wanted: Iterable[Cell]) -> None:
    """Raise `UserError` where a method cannot be made from its settings; reads no data, no model."""
    for cell in wanted:
        options, view = candidates(cell.settings), cell.view
        for settings in options:
            build(cell.method_place, settings)
        if len(options) > 1 and not cfg.dataset[view.dataset].n_calibration:
            raise UserError(
                f"dataset.{view.dataset}.n_calibration=0: method {view.method} chooses its settings on such "
                f"rows under {view.protocol}."
            )


def check_explaining(cfg: DictConfig, dataset: str, protocol: str) -> None:
    """Raise `UserError` for a setting of configs/explain.yaml that is none; reads no model."""
    check("", {name: cfg.get(name) for name in Explaining.model_fields}, Explaining)
    resolve_device(cfg.device)
    for name, config in selected(cfg.method).items():
        settings = method_settings(cfg, dataset, protocol, config)
        build(f"method.{name}.settings", settings)


def build(place: str, settings: Mapping[str, Any]) -> Attributor:
    """A method made from its `settings`, which stand at `place`; `UserError` where they are wrong."""
    made = method_class(f"{place}._target_", settings.get("_target_"))
    arguments = {name: value for name, value in settings.items() if name != "_target_"}
    method: Attributor = made(**check_arguments(place, arguments, made))
    return method


def _members(group: Any) -> dict[str, Any]:
    chosen = (group or {}).items()
    return {str(n): _resolved(m) for n, m in chosen if not isinstance(m, DictConfig) or "name" in m}


def _resolved(node: Any) -> Any:
    """Plain data, in which the settings of methods stay as they were written."""
    if isinstance(node, DictConfig):
        return {
            str(n): OmegaConf.to_container(v) if n in _OF_METHODS and OmegaConf.is_config(v) else _resolved(v)
            for n, v in node.items()
        }
    return OmegaConf.to_container(node, resolve=True) if isinstance(node, ListConfig) else node
