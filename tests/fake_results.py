"""Writes a results folder as the stages would, with numbers that are known, without any model."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from iba.benchmark import synthetic
from iba.evaluation.ranking import removal_order
from iba.pipeline.attribute import NUMBERS, SCORES
from iba.pipeline.degrade import columns
from iba.pipeline.experiment import Cell, Value, candidates, cell_folder, cells, dataset_config, hashed
from iba.pipeline.studies import study_cells, study_datasets
from iba.pipeline.views import known_methods, known_studies
from iba.settings import plain
from iba.store import read_json, read_parquet, write_json, write_parquet

ROOT = Path(__file__).resolve().parent.parent
FRACTIONS = np.linspace(0, 1, 10)
PAPER_SETS = ("imdb", "mnli_matched", "mnli_mismatched", "agnews", "rte")
ALL_SETS = (*PAPER_SETS, "planted", "planted_pair", "mnli_rationales", "movies_rationales")
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
    labels = plain(dataset_config(cfg, dataset).labels)
    predictions = pd.DataFrame({"instance_id": ids(n), "label": 1, "predicted": [k % 2 for k in range(n)]})
    shares = {label: float(label == labels[1]) for label in labels}
    synthetic.write_classifier(
        cfg, run, dataset, predictions, seed, accuracy=accuracy, label_distribution=shares
    )
    write_rows(run / dataset, n, TOKENS)


def classifier(run: Path, dataset: str, seed: int = 3) -> dict[str, Any]:
    """The record of what `write_classifier` wrote."""
    (path,) = (run / dataset / "classifiers").glob(f"seed={seed}-*/classifier.json")
    record: dict[str, Any] = read_json(path)
    return record


def tuned(run: Path, cell: Cell, seed: int) -> Cell:
    """The cell with the settings of its best try: that of β = 1, where there is one."""
    betas = [settings.get("beta") for settings in candidates(cell.settings)]
    record = classifier(run, cell.view.dataset, seed)
    return synthetic.write_tries(run, cell, record, betas.index(1.0) if 1.0 in betas else 0)


def cell_place(
    run: Path, dataset: str, protocol: str, method: str, study: str | None, value: Value | None, seed: int = 3
) -> tuple[Path, dict[str, Any], Cell]:
    """Where the cell lies, its key, and what asks for it."""
    cell = tuned(run, _known()[1][study, value, protocol, dataset, method], seed)
    key = synthetic.key_of(cell, classifier(run, dataset, seed))
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
    cell = tuned(run, _known()[1][study, value, protocol, dataset, method], seed)
    removed = [
        1 - fraction if (grid, order) == ("eraser", "least") else fraction
        for order, _, grid, _, fraction in columns(cell.degradation)
    ]
    values = curves @ np.array([np.interp(removed, FRACTIONS, e) for e in np.eye(10)])
    made: dict[str, Any] = {"seconds_per_instance": seconds, "device": "test"}
    rows = scored(names or ids(len(curves)))
    return synthetic.write_cell(run, cell, classifier(run, dataset, seed), rows, values, **made | provenance)


def scored(
    names: list[str], scores: list[float] | None = None, tokens: list[str] = TOKENS, **more: Any
) -> pd.DataFrame:
    """The same token scores of every instance, or none."""
    order, n = None if scores is None else removal_order(scores, special_of(tokens), "most"), len(names)
    table = {"instance_id": names, "target": 1, "order": [order] * n, "scores": [scores] * n}
    return pd.DataFrame(table | {name: [values] * n for name, values in more.items()})


def write_attributions(
    run: Path, dataset: str, protocol: str, method: str, n: int, planted: bool = False
) -> None:
    """Token scores that put the evidence word (`good`) first for every method but `random`."""
    folder, _, _ = cell_place(run, dataset, protocol, method, None, None)
    first = [0.0, 0.1, 0.4, 0.9, 0.3, -0.2, 0.0]
    scores = first if method != "random" else [0.0, 0.9, 0.1, 0.2, 0.3, 0.4, 0.0]
    write_parquet(folder / SCORES, scored(ids(n), scores))
    write_rows(run / dataset, n, TOKENS, "good" if planted else None)
    if method == "iba":
        write_numbers(folder, n, prob_bottleneck=0.9, bits_per_token=10.0, bits_per_token_start=100.0)


def write_rows(folder: Path, n: int, tokens: list[str], evidence: str | None = None) -> None:
    """What cells on the same instances share."""
    found = [[token == evidence for token in tokens] if evidence else None] * n
    synthetic.write_rows(folder, ids(n), [special_of(tokens)] * n, evidence=found, tokens=[tokens] * n)


def special_of(tokens: list[str]) -> list[bool]:
    """Which tokens no method may remove."""
    return [token.startswith("[") for token in tokens]


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
        rows = scored(ids(n), [b / 2 for b in per_token], tokens, bits=per_token)
        write_parquet(folder / SCORES, rows)
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
        for protocol in protocols:
            for number, (method, drop) in enumerate(drops.items()):
                curves, seconds = falling(n, drop, number), 1.0 + number + place / 10
                write_cell(folder / run, dataset, protocol, method, curves, seconds, seed=seed)
    return folder / run


def write_first_steps(
    run: Path, dataset: str, own: dict[str, dict[str, Any]], random: dict[str, np.ndarray]
) -> None:
    """Probabilities after the first step under `corrected`: by method and operator, one per text; by operator
    those of random orders, texts × orders."""
    steps = {"rows": "few", "operators": [*random]}
    n, n_orders = next(iter(random.values())).shape
    for method, probabilities in own.items():
        folder, key, _ = cell_place(run, dataset, "corrected", method, None, None)
        found = [
            pd.DataFrame({"instance_id": ids(n), "operator": operator, "prob_target": p})
            for operator, p in probabilities.items()
        ]
        write_parquet(folder / f"{hashed('first_step', steps)}.parquet", pd.concat(found))
    table = [
        pd.DataFrame({"instance_id": ids(n), "operator": operator, "prob_target": p[:, order]})
        for operator, p in random.items()
        for order in range(n_orders)
    ]
    settings = steps | {name: key[name] for name in ("classifier", "precision")} | {"orders": n_orders}
    path = run / dataset / f"{hashed('random_orders', settings)}.parquet"
    write_json(path.with_suffix(".json"), {"settings": settings})
    write_parquet(path, pd.concat(table))


def change_curves(folder: Path, change: Any) -> None:
    """Replace the stored curves of a cell by `change` of them."""
    (path,) = folder.glob("degradation-*.parquet")
    write_parquet(path, change(read_parquet(path)))
