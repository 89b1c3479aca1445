"""A few instances with their token scores by every method, prepared for display."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from iba.explain.highlight import FAINTEST, printable, units
from iba.pipeline.store import read_parquet
from iba.report.rows import DELETE, Stored


@dataclass(frozen=True)
class Token:
    """One token as shown: its text, a strength in [−1, 1], its rank, whether it is removed at 11 %."""

    text: str
    spaced: bool
    strength: float
    title: str
    removed: bool
    special: bool

    @property
    def side(self) -> str:
        """For or against the class, or too faint for a colour."""
        return "" if abs(self.strength) < FAINTEST else "for" if self.strength > 0 else "against"


@dataclass(frozen=True)
class Highlighted:
    """One instance as one method under one protocol saw it."""

    protocol: str
    method: str
    prob_start: float
    drop_11: float
    tokens: Sequence[Token]


@dataclass(frozen=True)
class Example:
    """One instance with all its highlights."""

    dataset: str
    instance_id: str
    target: str
    label: str
    preview: str
    highlighted: Sequence[Highlighted]

    def of(self, protocol: str) -> list[Highlighted]:
        """The highlights of one protocol."""
        return [h for h in self.highlighted if h.protocol == protocol]


def display_strength(scores: np.ndarray, special: np.ndarray) -> np.ndarray:
    """Scores scaled for the eye alone, per instance, special tokens 0.

    Signed scores are divided by their largest size; scores without a negative one are stretched from
    their smallest (0) to their largest (1), as their order is all that the degradation test uses.
    """
    own = scores[~special]
    if not len(own):
        return np.zeros_like(scores)
    low, high = float(own.min()), float(own.max())
    scaled = scores / max(abs(low), high) if low < 0 else (scores - low) / max(high - low, 1e-12)
    return np.where(special, 0.0, np.clip(scaled, -1, 1))


def load(stored: Stored) -> list[Example]:
    """The stored examples of the run, by data set; empty where attributions were never collected."""
    path = stored.folder / "examples.parquet"
    if not path.is_file():
        return []
    rows = read_parquet(path)
    curves = stored.curves[(stored.curves["operator"] == DELETE) & (stored.curves["order"] == "most")]
    first = curves[(curves["grid"] == "curve") & (curves["step"] == 1)]
    removed = first.set_index(["protocol", "dataset", "method", "instance_id"])["n_removed"]
    scores = stored.paper_scores().set_index(["protocol", "dataset", "method", "instance_id"])
    found = []
    for dataset in stored.datasets:
        of_set = rows[rows["dataset"] == dataset]
        for instance_id in of_set["instance_id"].unique():
            found.append(
                _example(stored, dataset, of_set[of_set["instance_id"] == instance_id], removed, scores)
            )
    return [example for example in found if example.highlighted]


def _example(
    stored: Stored, dataset: str, rows: pd.DataFrame, removed: pd.Series, scores: pd.DataFrame
) -> Example:
    labels = stored.classifiers[dataset]["provenance"]["labels"]
    cells = {(row.protocol, row.method): row for row in rows.itertuples()}
    highlighted = []
    for protocol in stored.protocols:
        for method in stored.methods:
            row = cells.get((protocol, method))
            if row is None or (key := (protocol, dataset, method, row.instance_id)) not in scores.index:
                continue
            one = scores.loc[key]
            tokens = _tokens(row, int(removed.loc[key]))
            highlighted.append(
                Highlighted(protocol, method, float(one["prob_start"]), float(one["drop_11"]), tokens)
            )
    first = rows.iloc[0]
    pieces = units(first["tokens"].tolist(), first["special"].tolist())
    return Example(
        dataset,
        str(first["instance_id"]),
        str(labels[int(first["target"])]),
        str(labels[int(first["label"])]),
        "".join(u.before + u.text for u in pieces if not u.special).strip()[:110],
        highlighted,
    )


def _tokens(row: Any, n_removed: int) -> list[Token]:
    scores, special = np.asarray(row.scores, np.float64), np.asarray(row.special, np.bool_)
    order = np.lexsort((np.arange(len(scores)), -scores))
    ranked = [int(i) for i in order if not special[i]]
    rank = {position: number for number, position in enumerate(ranked, 1)}
    strengths = display_strength(scores, special)
    return [
        Token(
            printable(unit.text),
            bool(unit.before),
            float(strengths[i]),
            f"score {scores[i]:.4g}, rank {rank[i]} of {len(ranked)}" if i in rank else "never removed",
            rank.get(i, n_removed + 1) <= n_removed,
            i not in rank,
        )
        for i, unit in enumerate(units(row.tokens.tolist(), special.tolist()))
    ]
