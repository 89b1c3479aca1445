"""Opening and tokenising a data set of MNLI's size, beside the same rows as Python objects.

`python -m iba.benchmark.opening [ROWS]` makes the rows in a temporary folder and prints seconds and memory.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, disable_progress_bars
from omegaconf import DictConfig, OmegaConf

from iba.benchmark import measure
from iba.cli import CONFIGS
from iba.data import planted
from iba.data.examples import Example, draw_samples
from iba.data.tokens import Instance, Tokenised, tokenise
from iba.models.tiny import tiny_tokenizer
from iba.settings import fingerprint

N_ROWS, _SEED, _MAX_LENGTH = 392_702, 3, 128
_COLUMNS = ["premise", "hypothesis", "label"]
_CPU = torch.device("cpu")


def read(folder: str, split: str) -> Dataset:
    """A source of rows, as data sets name one."""
    return Dataset.from_parquet(f"{folder}/{split}.parquet", cache_dir=folder)


def make(folder: Path, n: int) -> DictConfig:
    """A data set like MNLI, with `n` training pairs of which no two are alike."""
    pairs = planted.pairs("train", {"train": 1000}, _SEED).to_pandas()[_COLUMNS]
    for split, n_rows in (("train", n), ("test", len(pairs))):
        table = pairs.iloc[np.arange(n_rows) % len(pairs)].reset_index(drop=True)
        table["premise"] += table.index.astype(str)
        table.to_parquet(folder / f"{split}.parquet")
    dataset: DictConfig = OmegaConf.load(CONFIGS / "dataset" / "mnli_matched.yaml").mnli_matched
    dataset.source = {"_target_": "iba.benchmark.opening.read", "folder": str(folder)}
    dataset.accuracy_floor = 0
    return dataset


def compare(folder: Path, n: int) -> pd.DataFrame:
    """Seconds and peak memory (of the process, MB) of each step, ours and with objects, and their ratios."""
    dataset, tokenizer = make(folder, n), tiny_tokenizer()
    order = np.random.default_rng([_SEED, 0]).permutation(n)[dataset.n_calibration :]
    digests: set[str] = set()

    def ours() -> Sequence[Example]:
        train = draw_samples(dataset, _SEED).train
        digests.add(train.digest)
        return train

    def objects() -> Sequence[Example]:
        rows = list(zip(*(read(str(folder), "train")[name][:] for name in _COLUMNS), strict=True))
        train = [Example(f"train:{i}", *rows[i]) for i in order]
        digests.add(fingerprint([[e.id, e.text, e.text_pair, e.label] for e in train]))
        return train

    one = _two_stages(ours, lambda train: Tokenised.of(train, tokenizer, _MAX_LENGTH, folder))
    other = _two_stages(objects, lambda train: tokenise(train, tokenizer, _MAX_LENGTH))
    assert len(digests) == 1, "the very same rows in the same order"
    table = pd.DataFrame({"ours": one, "objects": other})
    return table.assign(ratio=table["objects"] / table["ours"])


def _two_stages(
    read_rows: Callable[[], Any], tokenised: Callable[[Any], Sequence[Instance]]
) -> dict[Any, float]:
    """What a process's first stage takes, and the next one on the same rows."""
    found: dict[Any, float] = {}
    for stage in ("first stage", "next stage"):
        train, *costs = _measured(read_rows)
        _, *more = _measured(partial(tokenised, train))
        for step, values in (("read, draw, digest", costs), ("tokenise", more)):
            found |= {(stage, step, unit): value for unit, value in zip(("s", "MB"), values, strict=True)}
    return found


def _measured(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """What the work gives, its seconds, and the process's peak memory meanwhile (MB)."""
    kept: list[Any] = []
    peak = measure.peak_memory(lambda: kept.extend((time.perf_counter(), work(), time.perf_counter())), _CPU)
    started, result, ended = kept
    return result, ended - started, peak


def main() -> None:
    """Print the comparison."""
    disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        print(compare(Path(folder), int(sys.argv[1]) if sys.argv[1:] else N_ROWS).round(2).to_string())


if __name__ == "__main__":
    main()
