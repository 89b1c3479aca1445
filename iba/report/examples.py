"""A few instances with their token scores by every method, prepared for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from markupsafe import Markup

from iba.display.highlight import spans, stretched, units
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


def load(stored: Stored) -> list[ShownInstance]:
    """The instances whose tokens are stored, by data set; empty without any."""
    cells = product(stored.datasets, stored.protocols, stored.methods)
    tables = [table for cell in cells if (table := _scores(stored, *cell)) is not None]
    if not tables:
        return []
    groups = pd.concat(tables).groupby(["dataset", "instance_id"], sort=False, observed=True)
    return [_instance(stored, rows) for _, rows in groups]


def _scores(stored: Stored, dataset: str, protocol: str, method: str) -> pd.DataFrame | None:
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
    pieces = units(list(first["tokens"]), np.asarray(first["special"], np.bool_))
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
    first_step = int(np.rint(stored.frame.fractions[1] * len(scores)))
    titles, classes = [""] * len(scores), [""] * len(scores)
    for rank, place in enumerate(row["order"]):
        titles[place] = f"score {scores[place]:.4g}, rank {rank + 1} of {len(row['order'])}"
        classes[place] = "removed" * (rank < first_step)
    shown = units(list(row["tokens"]), special)
    return Markup(spans(shown, stretched(scores, special), titles, classes))
