"""Random orders of the same text: how often a method's drop is larger than theirs, and whether methods rank
alike under all operators."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from iba.evaluation.degradation import OPERATORS
from iba.evaluation.stats import percentiles, resampled_means
from iba.pipeline.orders import win_rates
from iba.report.frame import means_tested
from iba.report.stored import CELL, Stored
from iba.report.tables import Grids, Spec, ordered
from iba.report.tables.agreement import kendall
from iba.report.text import crossed, estimate, strong

_SET = ["protocol", "dataset"]
_LEVEL = 0.5


@cache
def first_steps(stored: Stored) -> pd.DataFrame:
    """The win rates of every text under every operator, of all known methods; none where none were run.

    Under the protocol of all methods: of another one there may be shared cells, of some methods alone.
    """
    asked = stored.seed, None, stored.methods_protocol
    found = [
        rates.assign(**{name: getattr(view, name) for name in CELL})
        for view, cell in stored.cells.items()
        if (view.seed, view.study, view.protocol) == asked and (rates := win_rates(cell)) is not None
    ]
    steps = pd.concat(found or [pd.DataFrame(columns=[*CELL, "operator"])])
    sets = stored.names.datasets | stored.evident
    return ordered(steps, {"dataset": sets, "operator": OPERATORS, "method": stored.known})


def win_rows(stored: Stored) -> pd.DataFrame:
    """One row per protocol, data set, operator and method: n, mean win rate, interval and `p_holm` of "it is
    0.5", corrected for the methods of a data set and operator."""
    found, by, how = {}, [*_SET, "operator"], stored.how
    for key, part in first_steps(stored).groupby(by, observed=True):
        rates = _matrix(part, "win_rate", ["method"])
        found[key] = means_tested(rates - _LEVEL, how, how.of_all.resolving(rates.shape[1]))
        found[key][["estimate", "ci_low", "ci_high"]] += _LEVEL
    return pd.concat(found, names=by).reset_index() if found else pd.DataFrame()


def _matrix(steps: pd.DataFrame, value: str, columns: list[str]) -> pd.DataFrame:
    """One number: the texts that all have × `columns`, in their order."""
    return steps.pivot(index="instance_id", columns=columns, values=value).sort_index(axis=1).dropna()


def operator_rows(stored: Stored) -> pd.DataFrame:
    """Kendall's τ-b between the methods' mean drops under two operators: per protocol, data set and pair the
    numbers of texts and methods, tau, and its interval over texts that are resampled for all alike."""
    found = []
    for key, part in first_steps(stored).groupby(_SET, observed=True):
        operators = list(part["operator"].cat.remove_unused_categories().cat.categories)
        whole = part.groupby("method", observed=True)["operator"].transform("nunique") == len(operators)
        left = _matrix(part[whole], "prob_target", ["operator", "method"])
        shape = -1, len(operators), left.shape[1] // len(operators)
        values = -left.to_numpy(float)  # the probability at the start is the same for all
        tau = taus(values.mean(0).reshape(shape))[0]
        low, high = percentiles(taus(resampled_means(values, stored.how).reshape(shape)), stored.how)
        for pair, *numbers in zip(combinations(operators, 2), tau, low, high, strict=True):
            found.append((*key, *pair, len(left), shape[2], *numbers))
    names = [*_SET, "first", "second", "n", "n_methods", "tau", "ci_low", "ci_high"]
    return pd.DataFrame(found, columns=names)


def taus(means: Float[np.ndarray, "draws operators methods"]) -> Float[np.ndarray, "draws pairs"]:
    """τ-b of the methods' means under every two operators."""
    first, second = np.triu_indices(means.shape[1], 1)
    return np.array([kendall(draw)[first, second] for draw in means])


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """Per data set methods against operators; then how far two operators agree."""
    alpha = 1 - stored.how.confidence
    notes = [
        "Share of the random orders of a text whose drop at 11 % is smaller than the method's, ties counting "
        f"half; mean over texts with its {stored.how.percent} interval. 0.5 is chance.",
        "**Bold**: above 0.5 by a sign-flip test, Holm-corrected for the methods of a data set and operator, "
        f"p < {alpha:.2g}; p: `random_orders.csv`.",
    ]

    def rate(row: Any) -> str:
        return strong(estimate(row), row.above)

    rows = rows.assign(above=(rows["estimate"] > _LEVEL) & (rows["p_holm"] < alpha))
    ranked = rows.sort_values("estimate", ascending=False, kind="stable")
    ranked = ordered(ranked, {"dataset": stored.names.datasets | stored.evident, "operator": OPERATORS})
    for (protocol, dataset), cells in ranked.groupby(_SET, observed=True):
        where = f"{stored.say('dataset', dataset)}, {stored.say('protocol', protocol)}"
        caption = f"Random orders beaten ({where}, n = {cells['n'].max()})"
        yield crossed(caption, stored.say, cells, ["method"], "operator", rate, notes)
        notes = []
    shown = operator_rows(stored).rename(columns={"tau": "estimate", "n_methods": "methods"})
    pairs = shown["first"] + " – " + shown["second"]
    shown["operators"] = pd.Categorical(pairs, pairs.unique())
    note = (
        "Kendall's τ between the methods' mean drops at 11 % under two operators: 1 same ranking, −1 "
        "reversed; intervals over texts, resampled for all methods alike."
    )
    keys = ["dataset", "protocol", "n", "methods"]
    if len(shown):
        yield crossed("Rankings under two operators", stored.say, shown, keys, "operators", estimate, [note])


TABLE = Spec("random_orders", 90, win_rows, grids, beside={"operators_tau": operator_rows})
