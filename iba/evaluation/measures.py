"""Every number that is measured per instance, in one registry: a new measure is one entry of `MEASURES`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import logit
from scipy.stats import hypergeom

from iba.evaluation.ranking import FIRST_STEP

#: Probabilities are kept this far from 0 and 1 before their log-odds are taken.
ODDS_EPSILON = 1e-6


@dataclass(frozen=True)
class Outcome:
    """What removing tokens did to the target's probability, on n instances under one operator.

    `most`, `least`: the curves over `fractions`, most or least important first. `without`, `alone`: after
    ERASER's top shares were removed, or kept alone. `planted`, `marked`: `evidence` (a flag per token) and
    `order` of the tokens, where evidence was planted or marked by people. None: not run.
    """

    fractions: Float[np.ndarray, " steps"]
    most: Float[np.ndarray, "n steps"]
    least: Float[np.ndarray, "n steps"] | None = None
    without: Float[np.ndarray, "n shares"] | None = None
    alone: Float[np.ndarray, "n shares"] | None = None
    planted: pd.DataFrame | None = None
    marked: pd.DataFrame | None = None

    @property
    def start(self) -> Float[np.ndarray, " n"]:
        """The probability with the whole text."""
        return self.most[:, 0]

    @property
    def after_first_step(self) -> Float[np.ndarray, " n"]:
        """The probability without the top 11 % of the tokens."""
        return self.most[:, np.abs(self.fractions - FIRST_STEP).argmin()]


@dataclass(frozen=True)
class Measure:
    """What a number is called, which way is better, in which tables it stands, and how it is computed.

    `score`: one number per instance; None where what it needs was not run.
    """

    label: str
    better: Literal["higher", "lower"]
    score: Callable[[Outcome], Float[np.ndarray, " n"] | None]
    tables: tuple[str, ...] = ("faithfulness", "methods")

    @property
    def heading(self) -> str:
        """The label with its arrow."""
        return f"{self.label} {'↑' if self.better == 'higher' else '↓'}"


def area_over(
    fractions: Float[np.ndarray, " steps"], curve: Float[np.ndarray, "n steps"] | None
) -> Float[np.ndarray, " n"] | None:
    """Area between a curve and its own start by the trapezoid rule, over the share of removed tokens.

    `fractions` must start at 0: the undamaged input is part of the curve. Over [0, 1] it is the mean drop,
    p(0) − p: larger means that the removed tokens mattered more. Negative where the probability rises.
    """
    if curve is None:
        return None
    if fractions[0] != 0 or (np.diff(fractions) <= 0).any():
        raise ValueError("the fractions of a curve must start at 0 and increase")
    return np.asarray(np.trapezoid(curve[:, :1] - curve, fractions, axis=-1))


def mean_drop(
    start: Float[np.ndarray, " n"], after: Float[np.ndarray, "n shares"] | None
) -> Float[np.ndarray, " n"] | None:
    """Mean over the shares of p(0) − p(after): ERASER's (DeYoung et al. 2020) summary of its two scores.

    With the top share removed it is comprehensiveness (larger is better), with only the top share kept
    it is sufficiency (smaller is better).
    """
    return None if after is None else (start[:, None] - after).mean(1)


def log_odds_drop(start: Float[np.ndarray, " n"], after: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Log-odds of the target before minus after the removal, nats."""
    low, high = ODDS_EPSILON, 1 - ODDS_EPSILON
    return np.asarray(logit(np.clip(start, low, high)) - logit(np.clip(after, low, high)))


def of_evidence(
    rows: pd.DataFrame | None, number: Callable[[Float[np.ndarray, " tokens"], int], float]
) -> Float[np.ndarray, " n"] | None:
    """A number of every text: of its evidence in the order of removal (a flag per token), k of which are set.

    NaN without evidence: a text that was cut may have lost its own.
    """
    if rows is None:
        return None
    ranked = [
        np.zeros(0) if row.evidence is None else np.asarray(row.evidence, float)[np.asarray(row.order, int)]
        for row in rows.itertuples()
    ]
    return np.array([number(one, int(one.sum())) if one.any() else np.nan for one in ranked])


def recall(ranked: Float[np.ndarray, " tokens"], k: int) -> float:
    """Share of the k evidence tokens among the k that would be removed first: precision and F1 as well."""
    return float(ranked[:k].mean())


def overlap(ranked: Float[np.ndarray, " tokens"], k: int) -> float:
    """Intersection over union of the same two sets."""
    both = ranked[:k].sum()
    return float(both / (2 * k - both))


def average_precision(ranked: Float[np.ndarray, " tokens"], k: int) -> float:
    """Area under precision and recall: mean over the evidence tokens of the precision down to their rank."""
    return float((ranked * ranked.cumsum() / np.arange(1, len(ranked) + 1)).sum() / k)


def chance_of_recall(ranked: Float[np.ndarray, " tokens"], k: int) -> float:
    """What a random order has on average: the evidence's share of the tokens."""
    return k / len(ranked)


def chance_of_overlap(ranked: Float[np.ndarray, " tokens"], k: int) -> float:
    """The same: it hits a hypergeometric number of the evidence tokens."""
    return _mean_overlap(len(ranked), k)


@cache  # for all methods alike
def _mean_overlap(n_tokens: int, k: int) -> float:
    hits = np.arange(k + 1)
    return float(hypergeom.pmf(hits, n_tokens, k, k) @ (hits / (2 * k - hits)))


def chance_of_precision(ranked: Float[np.ndarray, " tokens"], k: int) -> float:
    """The same: of m tokens that at rank i is evidence with k/m, each before it then with (k − 1)/(m − 1)."""
    m, before = len(ranked), np.arange(len(ranked))
    return float(((1 + before * (k - 1) / max(m - 1, 1)) / (before + 1)).mean())


def _marked(label: str, number: Callable[[Any, int], float], *tables: str) -> Measure:
    """A measure of agreement with people."""
    return Measure(label, "higher", lambda o: of_evidence(o.marked, number), tables)


MEASURES = {
    "prob_start": Measure("target's probability", "higher", lambda o: o.start, ()),
    "drop_11": Measure("drop at 11 %", "higher", lambda o: o.start - o.after_first_step),
    "area_over": Measure("area over the curve", "higher", lambda o: area_over(o.fractions, o.most)),
    "area_over_least": Measure(
        "the same, least first", "lower", lambda o: area_over(o.fractions, o.least), ("faithfulness",)
    ),
    "comprehensiveness": Measure("comprehensiveness", "higher", lambda o: mean_drop(o.start, o.without)),
    "sufficiency": Measure("sufficiency", "lower", lambda o: mean_drop(o.start, o.alone)),
    "log_odds_11": Measure(
        "log-odds at 11 %, nats",
        "higher",
        lambda o: log_odds_drop(o.start, o.after_first_step),
        ("faithfulness",),
    ),
    "planted_recall": Measure(
        "planted evidence", "higher", lambda o: of_evidence(o.planted, recall), ("methods",)
    ),
    "planted_chance": Measure("chance", "higher", lambda o: of_evidence(o.planted, chance_of_recall), ()),
    "auprc": _marked("AUPRC", average_precision, "rationales"),
    "token_f1": _marked("top-k F1", recall, "rationales"),
    "overlap": _marked("intersection over union", overlap, "rationales"),
    "auprc_chance": _marked("chance", chance_of_precision),
    "token_f1_chance": _marked("chance", chance_of_recall),
    "overlap_chance": _marked("chance", chance_of_overlap),
}


def measured_in(table: str) -> dict[str, Measure]:
    """The measures that a table shows, in its order."""
    return {name: measure for name, measure in MEASURES.items() if table in measure.tables}
