"""Rank agreement: Kendall's τ-b between two rankings of the same tokens, per instance, then averaged.

Between methods (the cells of Table 1), and between neighbouring points of a study (layers, seeds, …). Special
tokens, which no method may remove, do not count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import product

import numpy as np
import pandas as pd
from jaxtyping import Float

from iba.evaluation.stats import mean_intervals
from iba.pipeline.views import View
from iba.report.frame import estimates
from iba.report.stored import Stored
from iba.report.studies import METHOD
from iba.report.tables import Grids, Spec, kept, ordered
from iba.report.text import crossed, estimate

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
    keys, samples = [], []
    for *key, views in _views(stored):
        scores = {name: found for name, view in views.items() if (found := stored.scores(view)) is not None}
        names, found = [*scores], taus(scores) if len(scores) > 1 else np.empty(0)
        for i, j in zip(*np.triu_indices(len(names), 1), strict=True):
            if key[0] == "methods" or j == i + 1:
                keys.append((*key, names[i], names[j]))
                samples.append(found[~np.isnan(found[:, i, j]), i, j])
    rows = pd.DataFrame(keys, columns=_KEY).join(estimates(mean_intervals(samples, stored.how)))
    return kept(stored.folder / "agreement.csv", rows.rename(columns={"estimate": "tau"}), _KEY)


def _views(stored: Stored) -> Iterator[tuple[str, str, str, dict[str, View]]]:
    """Kind, data set, protocol, and what is compared there."""
    for d, p in product(stored.datasets, stored.protocols):
        yield "methods", d, p, {m: View(stored.seed, None, None, p, d, m) for m in stored.methods}
    own = stored.frame.of(method=METHOD, seed=stored.seed)
    for study, d, p in product(STUDIES, stored.names.datasets, stored.names.protocols):
        values = own.of(study=study, dataset=d, protocol=p).present("value")
        views = {f"{STUDIES[study]}={v:g}": View(stored.seed, study, v, p, d, METHOD) for v in values}
        yield study, d, p, views


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """Pairs against protocols."""

    def title(name: str) -> str:  # of a method or, such as "layer=1", of a point of a study
        return stored.names.methods.get(name, name.replace("beta=", "β ").replace("=", " "))

    shown = rows.rename(columns={"tau": "estimate"}).assign(
        pair=rows["first"].map(title) + " – " + rows["second"].map(title),
        n=rows.groupby(["kind", "dataset", "first", "second"])["n"].transform("max"),
    )
    shown = ordered(shown, {"protocol": stored.protocols}).sort_index()
    note = "Kendall's τ-b of the token scores, mean over instances: 1 same order, 0 unrelated, −1 reversed."
    keys, write = ["kind", "dataset", "pair", "n"], partial(estimate, digits=2)
    yield crossed("Rank agreement", stored.say, shown, keys, "protocol", write, [note])


TABLE = Spec("agreement", 70, agreement_rows, grids)
