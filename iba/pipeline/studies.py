"""Studies: the same cells again while one thing varies (layer, β, seed, the classifier, the target).

A study is one YAML file in `configs/study/`. Its `vary` names a setting of the method, or `weights` or
`target` of the cell; each of its `values` is a point: a cell of its own, or one that is there already.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf

from iba.data.examples import Example
from iba.errors import UserError
from iba.pipeline.checks import refuse_impossible
from iba.pipeline.experiment import (
    TARGETS,
    WEIGHTS,
    Cell,
    RowSet,
    Value,
    View,
    dataset_config,
    datasets,
    method_settings,
    selected,
    settings_root,
)
from iba.settings import plain


def studies(cfg: DictConfig) -> list[DictConfig]:
    """The selected studies."""
    return list(selected(cfg.get("study") or DictConfig({})).values())


def study_rows(cfg: DictConfig, study: DictConfig, name: str) -> RowSet:
    """The rows of one data set that the study asks for, and its cut."""
    dataset, ids = dataset_config(cfg, name), study.ids.get(name)
    return RowSet(
        seed=cfg.seed,
        max_length=study.max_length or dataset.max_length,
        n=study.n_test.get(name),
        # With texts of its own and no ids a study asks for its texts alone.
        ids=None if ids is None else tuple(ids),
        own=tuple(study_texts(study, dataset)),
        n_calibration=study.n_calibration,
    )


def study_texts(study: DictConfig, dataset: DictConfig) -> Iterator[Example]:
    """The texts that the study gives; `UserError` for one that is none of the data set's kind."""
    labels, pairs = list(dataset.labels), dataset.text_pair is not None
    for number, text in enumerate(study.texts.get(dataset.name) or []):
        if text.label not in labels:
            raise UserError(f"study {study.name}: label {text.label!r} is not one of {labels}.")
        pair = text.get("text_pair")
        if (pair is not None) != pairs:
            needed = "both text and text_pair" if pairs else "text alone"
            raise UserError(f"study {study.name}: a text of {dataset.name} needs {needed}.")
        yield Example(f"text:{number}", text.text, pair, labels.index(text.label))


def refuse_unknown_points(cfg: DictConfig, study: DictConfig) -> None:
    """Raise `UserError` for methods and values that the study cannot go through; reads no data, no model."""
    for dataset in study_datasets(cfg, study):
        refuse_impossible(cfg, study_cells(cfg, study, dataset, n_layers=1))  # more layers: more of the same


def study_cells(
    cfg: DictConfig,
    study: DictConfig,
    dataset: str,
    n_layers: int,
    methods: Mapping[str, DictConfig] | None = None,
) -> Iterator[Cell]:
    """Every point of every method (of the selected ones) and protocol, the references first."""
    methods = selected(cfg.method) if methods is None else methods
    if missing := [name for name in study.methods if name not in methods]:
        raise UserError(
            f"study {study.name} needs method {missing[0]}, which is not selected: add it, or leave the "
            "study out ('study=[]' leaves out all)."
        )
    rows, told = study_rows(cfg, study, dataset), settings_root(cfg, dataset)
    degradation = plain(OmegaConf.merge(cfg.degradation, study.degradation))

    def cell(method: DictConfig, protocol: str, value: Value | None, own: dict[str, Any]) -> Cell:
        view = View(cfg.finetune.seed, study.name, value, protocol, dataset, method.name)
        settings = method_settings(cfg, dataset, protocol, method, told)
        if not settings.get("tries"):  # where the protocol lets nothing be tried, the study does not either
            own = {name: each for name, each in own.items() if name != "tries"}
        settings |= own
        return Cell(view, settings, cfg.target, "fine-tuned", rows, degradation)

    for protocol in selected(cfg.protocol):
        if study.protocols is not None and protocol not in study.protocols:
            continue
        for method in (study.get("references") or {}).values():
            yield cell(method, protocol, None, {})
        for name in study.methods:
            for value in values(study, n_layers):
                yield _varied(cell(methods[name], protocol, value, plain(study.settings)), study)


def values(study: DictConfig, n_layers: int) -> list[Value | None]:
    """What the study goes through; every layer of the encoder where it varies the layer and names none."""
    if study["values"] is not None:
        return list(study["values"])
    return list(range(1, n_layers + 1)) if study.vary == "layer" else [None]


def _varied(cell: Cell, study: DictConfig) -> Cell:
    value = cell.view.value
    if value is None:
        return cell
    known = {"weights": WEIGHTS, "target": TARGETS}.get(study.vary)
    if known and value not in known:
        raise UserError(f"study {study.name}: {study.vary} {value!r} is none of {', '.join(known)}.")
    if study.vary == "weights":
        return replace(cell, weights=str(value))
    if study.vary == "target":
        return replace(cell, target=str(value))
    if study.vary not in cell.settings:
        raise UserError(f"study {study.name}: method {cell.view.method} has no setting {study.vary!r}.")
    settings = cell.settings | {study.vary: value}
    if any(study.vary in change for change in settings.get("tries") or []):
        del settings["tries"]  # they would undo what varies
    return replace(cell, settings=settings)


def study_datasets(cfg: DictConfig, study: DictConfig) -> list[str]:
    """The study's data sets among the selected ones."""
    return [name for name in study.datasets if name in datasets(cfg)]
