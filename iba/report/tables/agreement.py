"""Rank agreement: Kendall's τ-b between two rankings of the same tokens, per instance, then averaged.

Between methods (the cells of Table 1), and between neighbouring points of a study (layers, seeds, …). Special
tokens, which no method may remove, do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, pairwise, product
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from iba.evaluation.stats import mean_intervals
from iba.pipeline.views import View
from iba.report.frame import estimates
from iba.report.stored import Stored
from iba.report.studies import METHOD
from iba.report.tables import Spec, kept
from iba.report.text import Grid, crossed, estimate

#: Studies whose neighbouring points are compared, and how a point of theirs is named.
STUDIES = {"layers": "layer", "betas": "beta", "noise_seeds": "seed"}
_KEY = ["kind", "dataset", "protocol", "first", "second"]


def kendall(scores: Float[np.ndarray, "rankings tokens"]) -> Float[np.ndarray, "rankings rankings"]:
    """τ-b of every two rankings of the same tokens; NaN where one of them is constant."""
    size = len(scores), -1
    above, below = (
        np.packbits(of(scores[:, :, None], scores[:, None]).reshape(size), axis=1)
        for of in (np.greater, np.less)
    )
    concordant, discordant = (
        np.bitwise_count(above[:, None] & other).sum(-1, dtype=np.int64) for other in (above, below)
    )
    untied = np.diag(concordant)
    with np.errstate(invalid="ignore"):
        return np.asarray((concordant - discordant) / np.sqrt(np.outer(untied, untied)))


def taus(rankings: Mapping[str, pd.DataFrame]) -> Float[np.ndarray, "n rankings rankings"]:
    """τ-b of every instance that all the tables of token scores hold, over the tokens that may be removed."""
    tables = [table.set_index("instance_id") for table in rankings.values()]
    shared = pd.concat([tables[0]["special"], *(t["scores"] for t in tables)], axis=1, join="inner")
    return np.array([kendall(np.stack([one[~row[0]] for one in row[1:]])) for row in shared.to_numpy()])


def agreement_rows(stored: Stored) -> pd.DataFrame:
    """One row per pair: kind (`methods` or a study), who, n, mean τ, interval."""
    pairs = [*_between_methods(stored), *_between_points(stored)]
    means = mean_intervals([values[~np.isnan(values)] for _, values in pairs], stored.how)
    rows = pd.DataFrame([key for key, _ in pairs], columns=_KEY).join(estimates(means))
    return kept(stored.folder / "agreement.csv", rows.rename(columns={"estimate": "tau"}), _KEY)


def _between_methods(stored: Stored) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    for dataset, protocol in product(stored.datasets, stored.protocols):
        views = {m: View(stored.seed, None, None, protocol, dataset, m) for m in stored.methods}
        yield from _pairs(stored, ("methods", dataset, protocol), views, combinations)


def _between_points(stored: Stored) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    own = stored.frame.of(method=METHOD, seed=stored.seed)
    for study, dataset, protocol in product(STUDIES, stored.names.datasets, stored.names.protocols):
        views = {
            f"{STUDIES[study]}={value:g}": View(stored.seed, study, value, protocol, dataset, METHOD)
            for value in own.of(study=study, dataset=dataset, protocol=protocol).present("value")
        }
        yield from _pairs(stored, (study, dataset, protocol), views, lambda names, _: pairwise(names))


def _pairs(
    stored: Stored, key: tuple[str, ...], views: Mapping[str, View], which: Any
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """The pairs of what has stored its token scores."""
    scores = {name: found for name, view in views.items() if (found := stored.scores(view)) is not None}
    places = {name: place for place, name in enumerate(scores)}
    found = taus(scores) if len(scores) > 1 else np.empty(0)
    for first, second in which(scores, 2):
        yield (*key, first, second), found[:, places[first], places[second]]


def grids(stored: Stored, rows: pd.DataFrame) -> Iterator[Grid]:
    """Pairs against protocols."""
    keys = ["kind", "dataset", "first", "second"]
    first, second = (rows[side].map(lambda name: _title(stored, name)) for side in ("first", "second"))
    protocol = rows["protocol"].where(rows["protocol"].isin(stored.protocols))
    shown = rows.rename(columns={"tau": "estimate"}).assign(
        pair=first + " – " + second,
        n=rows.groupby(keys)["n"].transform("max"),
        protocol=pd.Categorical(protocol, stored.protocols),
    )
    note = "Kendall's τ-b of the token scores, mean over instances: 1 same order, 0 unrelated, −1 reversed."
    lines = ["kind", "dataset", "pair", "n"]
    yield crossed(
        "Rank agreement", stored.say, shown, lines, "protocol", lambda row: estimate(row, 2), [note]
    )


def _title(stored: Stored, name: str) -> str:
    """A method's label, or a point of a study in words ("layer=1" is layer 1)."""
    return stored.names.methods.get(name, name.replace("beta=", "β ").replace("=", " "))


TABLE = Spec("agreement", 70, agreement_rows, grids)
