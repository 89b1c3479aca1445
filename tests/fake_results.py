"""Writes a results folder as the stages would, with numbers that are known, without any model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from iba.evaluation.ranking import removal_order
from iba.pipeline.attribute import CELL, NUMBERS, SCORES
from iba.pipeline.degrade import column, columns, degradation_path
from iba.pipeline.experiment import Cell, Classified, Value, cell_folder, cells, dataset_config
from iba.pipeline.store import read_json, read_parquet, write_json, write_parquet
from iba.pipeline.studies import study_cells, study_datasets
from iba.pipeline.views import known_methods, known_studies
from iba.settings import plain

ROOT = Path(__file__).resolve().parent.parent
FRACTIONS = np.linspace(0, 1, 10)
PAPER_SETS = ("imdb", "mnli_matched", "mnli_mismatched", "agnews", "rte")
ALL_SETS = (*PAPER_SETS, "planted", "planted_pair")
#: Drop at 11 % of every method in `write_run`.
DROPS = {"iba": 0.30, "ig": 0.20, "lime": 0.15, "random": 0.05}
TOKENS = ["[CLS]", "a", "very", "good", "film", "##s", "[SEP]"]


def configured(folder: Path, *overrides: str) -> DictConfig:
    """The composed configuration, with its results below `folder`; every data set takes all its rows."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        paths = (f"paths.root={ROOT}", f"paths.results={folder}", f"paths.cache={folder}/cache")
        # The preset's own place for the verdicts is the repository's: tests must not write there.
        quick = (
            "preset=cpu",
            "stats.n_resamples=300",
            "report.verdicts=null",
            "degradation.orders=[most,least]",
        )
        rows = [f"++dataset.{name}.n_test=null" for name in ALL_SETS]
        return compose("config", overrides=[*quick, *paths, *rows, *overrides])


@cache
def _known() -> tuple[DictConfig, dict[tuple[Any, ...], Cell]]:
    """A configuration of everything, and its cells by study, value, protocol, data set and method."""
    cfg = configured(Path(), f"dataset=[{','.join(ALL_SETS)}]", "study=all", "++dataset.planted.n_train=100")
    methods = known_methods(cfg)
    found = [cell for name in ALL_SETS for cell in cells(cfg, name, methods)]
    for study in known_studies(cfg).values():
        for name in study_datasets(cfg, study):
            found += study_cells(cfg, study, name, 12, methods)
    views = [(cell.view, cell) for cell in found]
    return cfg, {(v.study, v.value, v.protocol, v.dataset, v.method): cell for v, cell in views}


def falling(n: int, drop: float, seed: int = 0, spread: float = 0.02) -> np.ndarray:
    """Curves (n, 10): 0.9 at the start, lower by `drop` ± centred noise after one step, 0.1 at the end."""
    noise = np.random.default_rng(seed).normal(0, spread, n)
    curves = np.linspace(0.9 - drop, 0.1, 9)[None].repeat(n, 0)
    curves[:, :-1] += (noise - noise.mean())[:, None]
    return np.hstack([np.full((n, 1), 0.9), curves])


def ids(n: int) -> list[str]:
    """The ids of the first `n` instances."""
    return [f"i{k:04d}" for k in range(n)]


def write_classifier(run: Path, dataset: str, n: int, seed: int = 3, accuracy: float = 0.5) -> None:
    """The predictions of a classifier that gets every second of `n` instances right."""
    cfg, _ = _known()
    config = dataset_config(cfg, dataset)
    folder = run / dataset / "classifiers" / f"seed={seed}-{n}"
    table = pd.DataFrame({"instance_id": ids(n), "label": 1, "predicted": [k % 2 for k in range(n)]})
    write_parquet(folder / "classifier.parquet", table.assign(attributed=True))
    shared = {key: cfg.finetune[key] for key in ("weight_decay", "warmup", "schedule", "save_every")}
    labels = plain(config.labels)
    recipe = {
        "seed": seed,
        "model": {"name": "bge_small"},
        "train_name": config.train_name,
        "settings": plain(config.finetune) | shared,
        "precision": "fp32",
        "labels": labels,
        "max_length": config.max_length,
        "n_train": config.n_train or 100,
    }
    known = {"weights": f"{dataset}-{seed}", "n_layers": 12, "sample_seed": 3, "precision": "fp32"}
    settings = known | {"n": n, "recipe": recipe, "max_length": config.max_length}
    shares = {label: float(label == labels[1]) for label in labels}
    measured = {"accuracy": accuracy, "n_accuracy": n, "truncated_share": 0.25, "label_distribution": shares}
    write_json(
        folder / "classifier.json", {"settings": settings, "provenance": measured | {"labels": labels}}
    )


def cell_place(
    run: Path, dataset: str, protocol: str, method: str, study: str | None, value: Value | None, seed: int = 3
) -> tuple[Path, dict[str, Any], Cell]:
    """Where the cell lies, its key, and what asks for it."""
    cell = _known()[1][study, value, protocol, dataset, method]
    (record,) = (run / dataset / "classifiers").glob(f"seed={seed}-*/classifier.json")
    key = cell.key(Classified.of(read_json(record)), {"digest": "rows"}, {"precision": "fp32"})
    return cell_folder(run / dataset, method, key), key, cell


def write_cell(
    run: Path,
    dataset: str,
    protocol: str,
    method: str,
    curves: np.ndarray,
    seconds: float = 1.0,
    study: str | None = None,
    value: Value | None = None,
    seed: int = 3,
    names: list[str] | None = None,
    **provenance: Any,
) -> Path:
    """One cell with the same curves in both orders; ERASER's shares interpolate them. Its folder."""
    folder, key, cell = cell_place(run, dataset, protocol, method, study, value, seed)
    names = names or ids(len(curves))
    told = columns(cell.degradation)
    removed = [1 - f if (grid, order) == ("eraser", "least") else f for order, _, grid, _, f in told]
    values = curves @ np.array([np.interp(removed, FRACTIONS, e) for e in np.eye(10)])
    wide = {column(*each[:4]): values[:, i] for i, each in enumerate(told)}
    path = degradation_path(folder, cell.degradation)
    write_parquet(path, pd.DataFrame({"instance_id": names, "target": 1} | wide))
    write_json(path.with_suffix(".json"), {"settings": cell.degradation})
    calibrated = (
        {"learned": {"beta": 1.0, "beta_grid": [0.1, 1.0]}} if "calibrated" in cell.settings.values() else {}
    )
    made = {"seconds_per_instance": seconds, "device": "test"} | calibrated | provenance
    rows = f"rows-{len(names)}.parquet"
    write_json(folder / CELL, {"key": key, "method": cell.settings, "rows": rows, "provenance": made})
    write_scores(folder, names)
    return folder


def write_scores(folder: Path, names: list[str], scores: list[float] | None = None, **more: Any) -> None:
    """Token scores of every instance, or none."""
    special = [token.startswith("[") for token in TOKENS]
    order = None if scores is None else removal_order(scores, special, "most")
    n = len(names)
    table = {"instance_id": names, "target": 1, "order": [order] * n, "scores": [scores] * n}
    write_parquet(
        folder / SCORES, pd.DataFrame(table | {name: [values] * n for name, values in more.items()})
    )


def write_attributions(
    run: Path, dataset: str, protocol: str, method: str, n: int, planted: bool = False
) -> None:
    """Token scores that put the evidence word (`good`) first for every method but `random`."""
    folder, _, _ = cell_place(run, dataset, protocol, method, None, None)
    first = [0.0, 0.1, 0.4, 0.9, 0.3, -0.2, 0.0]
    write_scores(folder, ids(n), first if method != "random" else [0.0, 0.9, 0.1, 0.2, 0.3, 0.4, 0.0])
    write_rows(run / dataset, n, TOKENS, "good" if planted else None)
    if method == "iba":
        write_numbers(folder, n, prob_bottleneck=0.9, bits_per_token=10.0, bits_per_token_start=100.0)


def write_rows(folder: Path, n: int, tokens: list[str], evidence: str | None = None) -> None:
    """What cells on the same instances share."""
    table = {
        "instance_id": ids(n),
        "label": 1,
        "n_tokens": len(tokens),
        "special": [[t.startswith("[") for t in tokens]] * n,
        "evidence": [[t == evidence for t in tokens] if evidence else None] * n,
        "tokens": [tokens] * n,
    }
    write_parquet(folder / f"rows-{n}.parquet", pd.DataFrame(table))


def write_numbers(folder: Path, n: int, **numbers: Any) -> None:
    """What a method reported of every instance."""
    write_parquet(folder / NUMBERS, pd.DataFrame({"instance_id": ids(n)} | numbers))


def write_study(
    run: Path,
    study: str,
    protocol: str,
    points: dict[Value, np.ndarray],
    references: dict[str, np.ndarray] | None = None,
    method: str = "iba",
    dataset: str = "imdb",
) -> None:
    """The curves of a study: `points` by value, `references` by method."""
    for value, curves in points.items():
        write_cell(run, dataset, protocol, method, curves, study=study, value=value)
    for name, curves in (references or {}).items():
        write_cell(run, dataset, protocol, name, curves, study=study)


def write_study_scores(
    run: Path, study: str, protocol: str, bits: dict[Value, list[float]], n: int, **numbers: float
) -> None:
    """Token scores of a study's points: the same `bits` and the same numbers for all `n` instances."""
    for value, per_token in bits.items():
        folder, _, _ = cell_place(run, "imdb", protocol, "iba", study, value)
        tokens = ["[CLS]", *(f"w{i}" for i in range(1, len(per_token) - 1)), "[SEP]"]
        scores = [b / 2 for b in per_token]
        order = removal_order(scores, [t.startswith("[") for t in tokens], "most")
        rows = {"instance_id": ids(n), "target": 1, "order": [order] * n, "scores": [scores] * n}
        write_parquet(folder / SCORES, pd.DataFrame(rows | {"bits": [per_token] * n}))
        write_rows(run / "imdb", n, tokens)
        write_numbers(folder, n, bits_per_token=float(np.mean(per_token)), **numbers)


def write_run(
    folder: Path,
    run: str = "bge_small",
    datasets: tuple[str, ...] = PAPER_SETS,
    protocols: tuple[str, ...] = ("described", "released", "corrected"),
    drops: dict[str, float] = DROPS,
    n: int = 20,
    seed: int = 3,
    accuracy: float = 0.5,
) -> Path:
    """A whole run; every method has its known mean drop, whatever the data set and protocol."""
    for place, dataset in enumerate(datasets):
        write_classifier(folder / run, dataset, n, seed, accuracy)
        write_rows(folder / run / dataset, n, TOKENS)
        for protocol in protocols:
            for number, (method, drop) in enumerate(drops.items()):
                curves, seconds = falling(n, drop, number), 1.0 + number + place / 10
                write_cell(folder / run, dataset, protocol, method, curves, seconds, seed=seed)
    return folder / run


def change_curves(folder: Path, change: Any) -> None:
    """Replace the stored curves of a cell by `change` of them."""
    (path,) = folder.glob("degradation-*.parquet")
    write_parquet(path, change(read_parquet(path)))
