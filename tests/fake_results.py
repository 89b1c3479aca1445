"""Writes a results folder in the stored schema with numbers that are known, without any model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from iba.pipeline.store import write_json, write_parquet

ROOT = Path(__file__).resolve().parent.parent
FRACTIONS = np.linspace(0, 1, 10)
SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)


def configured(folder: Path, *overrides: str) -> DictConfig:
    """The composed configuration of the five data sets, with its results below `folder`."""
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        paths = (f"paths.root={ROOT}", f"paths.results={folder}", f"paths.cache={folder}/cache")
        # The preset's own place for the verdicts is the repository's: tests must not write there.
        quick = ("preset=cpu", "stats.n_resamples=300", "report.verdicts=null")
        return compose("config", overrides=[*quick, *paths, *overrides])


def falling(n: int, drop: float, seed: int = 0, spread: float = 0.02) -> np.ndarray:
    """Curves (n, 10): 0.9 at the start, lower by `drop` ± centred noise after one step, 0.1 at the end."""
    noise = np.random.default_rng(seed).normal(0, spread, n)
    curves = np.linspace(0.9 - drop, 0.1, 9)[None].repeat(n, 0)
    curves[:, :-1] += (noise - noise.mean())[:, None]
    return np.hstack([np.full((n, 1), 0.9), curves])


def degradation(
    protocol: str,
    dataset: str,
    method: str,
    curves: np.ndarray,
    orders: tuple[str, ...] = ("most", "least"),
    operators: tuple[str, ...] = ("delete",),
    **extra: object,
) -> pd.DataFrame:
    """Degradation rows whose curve grid is `curves`; the ERASER grid interpolates it."""
    n = len(curves)
    identity = {"protocol": protocol, "dataset": dataset, "method": method, "target": 1, "n_tokens": 12}
    tables = []
    for operator in operators:
        for order in orders:
            shares = np.array(SHARES)
            for grid, fractions in (("curve", FRACTIONS), ("eraser", shares)):
                removed = 1 - shares if (grid, order) == ("eraser", "least") else fractions
                steps = len(fractions)
                columns = {
                    "instance_id": np.repeat([f"i{k:04d}" for k in range(n)], steps),
                    "order": order,
                    "operator": operator,
                    "grid": grid,
                    "step": np.tile(np.arange(steps), n),
                    "fraction": np.tile(fractions, n),
                    "n_removed": np.tile(np.minimum(np.rint(removed * 12).astype(int), 10), n),
                    "prob_target": (
                        curves @ np.array([np.interp(removed, FRACTIONS, e) for e in np.eye(10)])
                    ).ravel(),
                }
                tables.append(pd.DataFrame(columns | identity | extra))
    return pd.concat(tables, ignore_index=True)


def write_classifier(run: Path, dataset: str, n: int) -> None:
    """The predictions of a classifier that gets every second instance right."""
    ids = [f"i{k:04d}" for k in range(n)]
    predicted = [k % 2 for k in range(n)]
    table = pd.DataFrame(
        {
            "instance_id": ids,
            "label": 1,
            "predicted": predicted,
            "prob_gold": 0.9,
            "n_tokens": 12,
            "truncated": False,
            "attributed": True,
        }
    )
    write_parquet(run / dataset / "classifier.parquet", table)
    record = {
        "settings": {
            "n": n,
            "max_length": 64,
            "recipe": {"seed": 3, "n_train": 100, "labels": ["no", "yes"]},
        },
        "provenance": {
            "accuracy": 0.5,
            "n_accuracy": n,
            "truncated_share": 0.25,
            "label_distribution": {"no": 0.0, "yes": 1.0},
            "labels": ["no", "yes"],
        },
    }
    write_json(run / dataset / "classifier.json", record)


def write_cell(
    run: Path, dataset: str, protocol: str, method: str, curves: np.ndarray, seconds: float = 1.0
) -> None:
    """The degradation rows and the attribution record of one cell."""
    folder = run / dataset / protocol / method
    write_parquet(folder / "degradation.parquet", degradation(protocol, dataset, method, curves))
    learned = {"beta": 1.0, "beta_grid": [0.1, 1.0]} if (protocol, method) == ("corrected", "iba") else {}
    provenance = {"seconds_per_instance": seconds, "device": "test", "learned": learned}
    write_json(folder / "attributions.json", {"settings": {"target": "gold"}, "provenance": provenance})


def write_attributions(
    run: Path, dataset: str, protocol: str, method: str, n: int, planted: bool = False
) -> None:
    """Token scores that put the evidence word (`good`) first for every method but `random`."""
    tokens = ["[CLS]", "a", "very", "good", "film", "##s", "[SEP]"]
    scores = (
        [0.0, 0.1, 0.4, 0.9, 0.3, -0.2, 0.0] if method != "random" else [0.0, 0.9, 0.1, 0.2, 0.3, 0.4, 0.0]
    )
    table = pd.DataFrame(
        {
            "instance_id": [f"i{k:04d}" for k in range(n)],
            "label": 1,
            "target": 1,
            "tokens": [tokens] * n,
            "special": [[t.startswith("[") for t in tokens]] * n,
            "evidence": [[t == "good" for t in tokens] if planted else None] * n,
            "scores": [scores] * n,
        }
    )
    if method == "iba":
        table["prob_bottleneck"], table["bits_per_token"], table["bits_per_token_start"] = 0.9, 10.0, 100.0
    write_parquet(run / dataset / protocol / method / "attributions.parquet", table)


def write_study(
    run: Path,
    study: str,
    protocol: str,
    points: dict[str, np.ndarray],
    references: dict[str, np.ndarray] | None = None,
    noise: str = "features",
) -> None:
    """The curves of a study of IBA on IMDB: `points` by folder (`layer=9`), `references` by method."""
    for point, curves in points.items():
        write_point(run, study, protocol, f"iba/{point}", curves, noise)
    for method, curves in (references or {}).items():
        write_point(run, study, protocol, f"{method}/reference", curves, noise)


def write_study_scores(
    run: Path, study: str, protocol: str, bits: dict[str, list[float]], n: int, **numbers: float
) -> None:
    """Token scores of a study's points: the same `bits` and the same numbers for all `n` instances."""
    for point, per_token in bits.items():
        special = [i in (0, len(per_token) - 1) for i in range(len(per_token))]
        table = pd.DataFrame(
            {
                "instance_id": [f"i{k:04d}" for k in range(n)],
                "label": 1,
                "target": 1,
                "tokens": [["[CLS]", *(f"w{i}" for i in range(1, len(per_token) - 1)), "[SEP]"]] * n,
                "special": [special] * n,
                "evidence": None,
                "scores": [[b / 2 for b in per_token]] * n,
                "bits": [per_token] * n,
                "bits_per_token": float(np.mean(per_token)),
            }
            | numbers
        )
        folder = run / "studies" / study / "imdb" / protocol / "iba" / point
        write_parquet(folder / "attributions.parquet", table)


#: Drop at 11 % of every method in `write_run`.
DROPS = {"iba": 0.30, "ig": 0.20, "lime": 0.15, "random": 0.05}
PAPER_SETS = ("imdb", "mnli_matched", "mnli_mismatched", "agnews", "rte")


def write_run(
    folder: Path,
    run: str = "bge_small",
    datasets: tuple[str, ...] = PAPER_SETS,
    protocols: tuple[str, ...] = ("described", "released", "corrected"),
    drops: dict[str, float] = DROPS,
    n: int = 20,
) -> Path:
    """A whole run; every method has its known mean drop, whatever the data set and protocol."""
    for place, dataset in enumerate(datasets):
        write_classifier(folder / run, dataset, n)
        for protocol in protocols:
            for number, (method, drop) in enumerate(drops.items()):
                write_cell(
                    folder / run,
                    dataset,
                    protocol,
                    method,
                    falling(n, drop, number),
                    1.0 + number + place / 10,
                )
    return folder / run


def write_point(
    run: Path, study: str, protocol: str, point: str, curves: np.ndarray, noise: str = "features"
) -> None:
    """The degradation rows of one point of a study on IMDB, such as `iba/layer=9` or `random/reference`."""
    method, _, value = point.partition("/")
    folder = run / "studies" / study / "imdb" / protocol / method / value
    write_parquet(folder / "degradation.parquet", degradation(protocol, "imdb", method, curves))
    settings = {"max_length": 64, "method": {"layer": 0.75, "beta": 1e-5, "noise": noise}}
    if method == "hidden_norm":
        settings["method"] = {"of": "standardised" if noise == "features" else "update"}
    write_json(folder / "attributions.json", {"settings": settings, "provenance": {}})
