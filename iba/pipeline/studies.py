"""Studies: the same cells again while one thing varies (layer, β, seed, the classifier, the target).

A study is one YAML file in `configs/study/`. Its `vary` names a setting of the method, or `weights` or
`target` of the cell; each of its `values` is a point, stored apart from Table 1 and resumable by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from iba.data.examples import Example, Examples
from iba.errors import UserError
from iba.pipeline.bench import Bench
from iba.pipeline.checks import refuse_impossible
from iba.pipeline.experiment import TARGETS, WEIGHTS, Cell, Point, datasets, method_settings, selected
from iba.pipeline.store import plain


def study_bench(bench: Bench, study: DictConfig) -> Bench:
    """The data set with the rows, the cut and the degradation that the study asks for."""
    cfg = DictConfig(OmegaConf.merge(bench.cfg, {"degradation": study.degradation}))
    bench = bench.first(study.n_test.get(bench.dataset.name))
    held_out = bench.samples.calibration[: study.n_calibration]
    samples = replace(bench.samples, test=chosen(bench, study), calibration=held_out)
    return replace(bench, cfg=cfg, samples=samples, cut=study.max_length)


def chosen(bench: Bench, study: DictConfig) -> Examples:
    """The rows that the study names by id, then its own texts; the whole sample where it names none."""
    dataset = bench.dataset.name
    ids, texts = study.ids.get(dataset), study.texts.get(dataset)
    if ids is None and texts is None:
        return bench.samples.test
    known = {example.id: example for example in bench.samples.test}
    missing = [name for name in ids or [] if name not in known]
    if missing:
        raise UserError(
            f"study {study.name}: {dataset} row {missing[0]} is not among the attributed test rows; choose "
            f"from results/<run>/{dataset}/classifier.parquet (attributed = true)."
        )
    return Examples.of([*(known[name] for name in ids or []), *own_texts(study, bench.dataset)])


def own_texts(study: DictConfig, dataset: DictConfig) -> list[Example]:
    """The texts that the study gives; `UserError` for one that is none of the data set's kind."""
    labels, pairs = list(dataset.labels), dataset.text_pair is not None
    own = []
    for number, text in enumerate(study.texts.get(dataset.name) or []):
        if text.label not in labels:
            raise UserError(f"study {study.name}: label {text.label!r} is not one of {labels}.")
        pair = text.get("text_pair")
        if (pair is not None) != pairs:
            needed = "both text and text_pair" if pairs else "text alone"
            raise UserError(f"study {study.name}: a text of {dataset.name} needs {needed}.")
        own.append(Example(f"text:{number}", text.text, pair, labels.index(text.label)))
    return own


def refuse_unknown_points(cfg: DictConfig, study: DictConfig) -> None:
    """Raise `UserError` for methods and values that the study cannot go through; reads no data, no model."""
    for dataset in study_datasets(cfg, study):
        own_texts(study, cfg.dataset[dataset])
        refuse_impossible(cfg, study_cells(cfg, study, dataset, n_layers=1))  # more layers: more of the same


def study_cells(cfg: DictConfig, study: DictConfig, dataset: str, n_layers: int) -> Iterator[Cell]:
    """Every point of every method and protocol, the references first."""
    methods = selected(cfg.method)
    if missing := [name for name in study.methods if name not in methods]:
        raise UserError(
            f"study {study.name} needs method {missing[0]}, which is not selected: add it, or leave the "
            "study out ('study=[]' leaves out all)."
        )
    for protocol in selected(cfg.protocol):
        if study.protocols is not None and protocol not in study.protocols:
            continue
        for name, method in (study.get("references") or {}).items():
            settings = method_settings(cfg, dataset, protocol, method)
            point = Point(study.name, study.vary, None)
            yield Cell(dataset, protocol, name, settings, cfg.target, point=point)
        for name in study.methods:
            settings = method_settings(cfg, dataset, protocol, methods[name]) | plain(study.settings)
            for value in values(study, n_layers):
                point = Point(study.name, study.vary, value)
                cell = Cell(dataset, protocol, name, settings, cfg.target, point=point)
                yield _varied(cell, study, value)


def values(study: DictConfig, n_layers: int) -> list[int | float | str | None]:
    """What the study goes through; every layer of the encoder where it varies the layer and names none."""
    if study["values"] is not None:
        return list(study["values"])
    return list(range(1, n_layers + 1)) if study.vary == "layer" else [None]


def _varied(cell: Cell, study: DictConfig, value: int | float | str | None) -> Cell:
    if value is None:
        return cell
    if study.vary == "weights":
        if value not in WEIGHTS:
            raise UserError(f"study {study.name}: weights {value!r} are none of {', '.join(WEIGHTS)}.")
        return replace(cell, weights=value)
    if study.vary == "target":
        if value not in TARGETS:
            raise UserError(f"study {study.name}: target {value!r} is none of {', '.join(TARGETS)}.")
        return replace(cell, target=str(value))
    if study.vary not in cell.settings:
        raise UserError(f"study {study.name}: method {cell.method} has no setting {study.vary!r}.")
    return replace(cell, settings=cell.settings | {study.vary: value})


def study_datasets(cfg: DictConfig, study: DictConfig) -> list[str]:
    """The study's data sets among the selected ones."""
    return [name for name in study.datasets if name in datasets(cfg)]
