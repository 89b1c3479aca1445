"""A few instances with their token scores by every method, prepared for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from iba.display.highlight import spans, stretched, units
from iba.pipeline.views import View
from iba.report.stored import CELL, Stored


@dataclass(frozen=True)
class ShownInstance:
    """One instance; `seen`: by protocol and method its prob_start, drop_11 and coloured html."""

    dataset: str
    target: str
    label: str
    preview: str
    seen: Sequence[Any]


def load(stored: Stored) -> list[ShownInstance]:
    """The instances whose tokens are stored, by data set; empty without any."""
    cells = product(stored.datasets, stored.protocols, stored.methods)
    tables = []
    for dataset, protocol, method in cells:
        cell = stored.cells.get(View(stored.seed, None, None, protocol, dataset, method))
        if cell and (scores := cell.scores()) is not None:
            shown = scores[scores["tokens"].notna()]
            tables.append(shown.assign(protocol=protocol, dataset=dataset, method=method))
    if not tables:
        return []
    measures = stored.deletion.rows[[*CELL, "instance_id", "prob_start", "drop_11"]]
    rows = pd.concat(tables).merge(measures.astype(dict.fromkeys(CELL, str)))
    groups = rows.groupby(["dataset", "instance_id"], sort=False)
    return [_instance(stored, str(dataset), seen) for (dataset, _), seen in groups]


def _instance(stored: Stored, dataset: str, rows: pd.DataFrame) -> ShownInstance:
    first, labels = rows.iloc[0], stored.classifiers[dataset]["provenance"]["labels"]
    target, label = (str(labels[int(first[name])]) for name in ("target", "label"))
    pieces = units(list(first["tokens"]), np.asarray(first["special"], np.bool_))
    preview = "".join(one.before + one.text for one in pieces if not one.special).strip()[:110]
    html = [_html(stored, row) for _, row in rows.iterrows()]
    return ShownInstance(dataset, target, label, preview, list(rows.assign(html=html).itertuples()))


def _html(stored: Stored, row: pd.Series) -> str:
    """The tokens: stronger colour, larger score; a line below what the first step of the test removes."""
    scores, special = np.asarray(row["scores"], np.float64), np.asarray(row["special"], np.bool_)
    first_step = int(np.rint(stored.frame.fractions[1] * len(scores)))
    titles, classes = [""] * len(scores), [""] * len(scores)
    for rank, place in enumerate(row["order"]):
        titles[place] = f"score {scores[place]:.4g}, rank {rank + 1} of {len(row['order'])}"
        classes[place] = "removed" * (rank < first_step)
    shown = units(list(row["tokens"]), special)
    return spans(shown, stretched(scores, special), titles, classes)
