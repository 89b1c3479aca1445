"""A few instances with their token scores by every method, prepared for the page."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from iba.display.highlight import spans, stretched, units
from iba.pipeline.views import View
from iba.report.stored import CELL, Stored


def load(stored: Stored) -> dict[str, list[dict[str, Any]]]:
    """By data set the instances whose tokens are stored; empty without any.

    `seen`: by protocol and method the instance's prob_start, drop_11 and coloured html.
    """
    tables = []
    for dataset, protocol, method in product(stored.datasets, stored.protocols, stored.methods):
        cell = stored.cells.get(View(stored.seed, None, None, protocol, dataset, method))
        if cell and (scores := cell.scores()) is not None:
            shown = scores[scores["tokens"].notna()]
            tables.append(shown.assign(protocol=protocol, dataset=dataset, method=method))
    if not tables:
        return {}
    measures = stored.deletion.rows[[*CELL, "instance_id", "prob_start", "drop_11"]]
    rows = pd.concat(tables).merge(measures.astype(dict.fromkeys(CELL, str)))
    rows["html"] = [_html(stored, row) for row in rows.itertuples()]
    found: dict[str, list[dict[str, Any]]] = {}
    for (dataset, _), seen in rows.groupby(["dataset", "instance_id"], sort=False):
        labels = stored.classifiers[dataset]["provenance"]["labels"]
        found.setdefault(dataset, []).append(_instance(seen, labels))
    return found


def _instance(seen: pd.DataFrame, labels: list[str]) -> dict[str, Any]:
    first = seen.iloc[0]
    pieces = units(list(first["tokens"]), np.asarray(first["special"], np.bool_))
    preview = "".join(one.before + one.text for one in pieces if not one.special).strip()[:110]
    names = {name: labels[int(first[name])] for name in ("target", "label")}
    return {"preview": preview, "seen": list(seen.itertuples()), **names}


def _html(stored: Stored, row: Any) -> str:
    """The tokens: stronger colour, larger score; a line below what the first step of the test removes."""
    scores, special = np.asarray(row.scores, np.float64), np.asarray(row.special, np.bool_)
    first_step = int(np.rint(stored.frame.fractions[1] * len(scores)))
    titles, classes = [""] * len(scores), [""] * len(scores)
    for rank, place in enumerate(row.order):
        titles[place] = f"score {scores[place]:.4g}, rank {rank + 1} of {len(row.order)}"
        classes[place] = "removed" * (rank < first_step)
    return spans(units(list(row.tokens), special), stretched(scores, special), titles, classes)
