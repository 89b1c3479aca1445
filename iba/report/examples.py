"""A few instances with their token scores by every method, prepared for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup

from iba.display.highlight import spans, stretched, units
from iba.evaluation.ranking import removal_order
from iba.pipeline.views import View
from iba.report.stored import CELL, Stored


@dataclass(frozen=True)
class Highlighted:
    """One instance as one method under one protocol saw it; `html`: its coloured tokens."""

    protocol: str
    method: str
    prob_start: float
    drop_11: float
    html: Markup


@dataclass(frozen=True)
class ShownInstance:
    """One instance with all its highlights."""

    dataset: str
    target: str
    label: str
    preview: str
    highlighted: Sequence[Highlighted]

    def of(self, protocol: str) -> list[Highlighted]:
        """The highlights of one protocol."""
        return [h for h in self.highlighted if h.protocol == protocol]


def load(stored: Stored, n: int) -> list[ShownInstance]:
    """`n` instances of every data set whose tokens are stored, evenly spread; empty without any."""
    found = []
    for dataset in stored.datasets:
        tables = [_scores(stored, p, dataset, m) for p in stored.protocols for m in stored.methods]
        rows = pd.concat([table for table in tables if table is not None] or [pd.DataFrame()])
        if len(rows):
            chosen = spread(rows["instance_id"].unique(), n)
            found += [_instance(stored, rows[rows["instance_id"] == one]) for one in chosen]
    return found


def spread(ids: np.ndarray, n: int) -> np.ndarray:
    """`n` of them at even distances: stored rows may be sorted by class, so the first ones would not do."""
    return ids[np.unique(np.linspace(0, len(ids) - 1, n).round().astype(int))]


def _scores(stored: Stored, protocol: str, dataset: str, method: str) -> pd.DataFrame | None:
    """The rows of a cell of which the tokens are stored, with the measures that the page names."""
    cell = stored.cells.get(View(stored.seed, None, None, protocol, dataset, method))
    scores = cell.scores() if cell else None
    if scores is None:
        return None
    measures = stored.deletion.of(protocol=protocol, dataset=dataset, method=method).rows
    rows = scores[scores["tokens"].notna()].merge(measures[["instance_id", "prob_start", "drop_11"]])
    return rows.assign(**dict(zip(CELL, (protocol, dataset, method), strict=True)))


def _instance(stored: Stored, rows: pd.DataFrame) -> ShownInstance:
    first = rows.iloc[0]
    labels = stored.classifiers[first["dataset"]]["provenance"]["labels"]
    pieces = units(list(first["tokens"]), list(first["special"]))
    return ShownInstance(
        first["dataset"],
        str(labels[int(first["target"])]),
        str(labels[int(first["label"])]),
        "".join(one.before + one.text for one in pieces if not one.special).strip()[:110],
        [
            Highlighted(row["protocol"], row["method"], row["prob_start"], row["drop_11"], _html(stored, row))
            for _, row in rows.iterrows()
        ],
    )


def _html(stored: Stored, row: pd.Series) -> Markup:
    """The tokens: stronger colour, larger score; a line below what the first step of the test removes."""
    scores, special = np.asarray(row["scores"], np.float64), np.asarray(row["special"], np.bool_)
    ranked = removal_order(scores.tolist(), special.tolist(), "most")
    first_step = int(np.rint(stored.frame.fractions[1] * len(scores)))
    titles, classes = [""] * len(scores), [""] * len(scores)
    for rank, place in enumerate(ranked):
        titles[place] = f"score {scores[place]:.4g}, rank {rank + 1} of {len(ranked)}"
        classes[place] = "removed" * (rank < first_step)
    shown = units(list(row["tokens"]), special.tolist())
    return Markup(spans(shown, stretched(scores, special).tolist(), titles, classes))
