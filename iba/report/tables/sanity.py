"""Sanity checks: do the scores depend on what they should depend on, and on nothing else?

Explaining an untrained classifier (Adebayo et al. 2018) or another class must cost a method its power;
other noise must not; another removal operator shows what is the operator's doing. Each is a study
(`configs/study/`). Its points are compared, instance by instance, with the first one, with random scores on
the same instances where the study has them, and with a rival in Table 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from typing import Any

import pandas as pd

from iba.evaluation.stats import Resampling
from iba.pipeline.views import Value
from iba.report.frame import DELETE, ESTIMATE, Frame, compare, means_tested, summarise
from iba.report.stored import Stored
from iba.report.tables import Grids, Spec
from iba.report.text import Write, estimate, listed, number, p_value

#: The point of a method that does not vary.
REFERENCE = "reference"
#: The method whose level is chance.
RANDOM = "random"
_POINT = ["method", "point"]
_KEYS = ["dataset", "protocol", *_POINT]


@dataclass(frozen=True)
class Sanity:
    """What a study checks, the point that the others are compared with, how points are named, and a method of
    Table 1 that every point is compared with."""

    what: str
    base: Value
    words: str = "{}"
    rival: str | None = None

    def title(self, point: Value) -> str:
        """A point in words."""
        return REFERENCE if point == REFERENCE else self.words.format(point)


STUDIES = {
    "classifiers": Sanity("an untrained classifier is explained", "fine-tuned", "{} weights"),
    "targets": Sanity("another class is explained", "gold"),
    "noise_seeds": Sanity("other noise is drawn", 3, "seed {}"),
    "operators": Sanity("tokens are removed otherwise", DELETE),
    "ig_steps": Sanity("the path of integrated gradients has more steps", 10, "{} steps", rival="iba"),
    "padding": Sanity("texts are padded to fewer tokens than the released code's 512", 512, "{} tokens"),
}


def sanity_rows(stored: Stored) -> pd.DataFrame:
    """One row per study, data set, protocol, method and point.

    Drop at 11 % and area over the curve, each with interval; `completeness_gap`: the median of its absolute
    value, where the method reports it. Differences of drops, each with interval and sign-flip test:
    `difference`, from the point compared with, corrected (`p_holm`) within the rows of one method;
    `over_random`, from random scores under the same operator, and `over_rival`, from the check's rival in
    Table 1, each corrected over all methods and points of the study on the data set under the protocol.
    """
    return pd.concat([of_study(stored, study) for study in STUDIES], ignore_index=True)


@cache
def of_study(stored: Stored, study: str) -> pd.DataFrame:
    """The rows of one study; none where it was not run."""
    frame, base = stored.frame.of(study=study, seed=stored.seed), STUDIES[study].base
    varied = "operator" if base == DELETE else "value"
    frame = frame if varied == "operator" else frame.of(operator=DELETE)
    points = frame.rows[varied].astype(object)
    frame = replace(frame, rows=frame.rows.assign(point=points.where(points.notna(), REFERENCE)))
    parts = [
        frame.of(dataset=d, protocol=p) for d, p in product(stored.names.datasets, stored.names.protocols)
    ]
    # Besides the base and references, which other studies may have as well, there must be a point.
    run = [part for part in parts if {*part.rows["point"]} - {base, REFERENCE}]
    return pd.concat([_rows(stored, study, part) for part in run] or [pd.DataFrame()], ignore_index=True)


def _rows(stored: Stored, study: str, frame: Frame) -> pd.DataFrame:
    """The rows of one data set under one protocol."""
    (dataset,), (protocol,), check = frame.present("dataset"), frame.present("protocol"), STUDIES[study]
    wide = {m: frame.of(method=m).matrix("drop_11", "point").dropna() for m in frame.present("method")}
    wide = {m: found[sorted(found, key=lambda point: point != check.base)] for m, found in wide.items()}
    drops = {(method, point): found[point] for method, found in wide.items() for point in found}
    over_random = {
        (method, point): found - drops[RANDOM, at]
        for (method, point), found in drops.items()
        for at in (REFERENCE, point)
        if method != RANDOM and (RANDOM, at) in drops
    }
    level = stored.matrix(protocol, dataset).get(check.rival)
    others = {} if level is None else {key: found for key, found in drops.items() if key[0] != check.rival}
    over_rival = {key: found - level for key, found in others.items()}
    tests = compare({(method,): found for method, found in wide.items()}, ["method"], stored.how)
    turned = tests[tests["first"] == check.base].set_index(["method", "second"])
    ends = {"difference": "difference", "difference_low": "ci_high", "difference_high": "ci_low"}
    parts = [
        *_levels(frame, stored.how),
        _over("over_random", over_random, stored.how),
        pd.DataFrame({name: -turned[of] for name, of in ends.items()} | {"p_holm": turned["p_holm"]}),
        _over("over_rival", over_rival, stored.how),
    ]
    index = pd.MultiIndex.from_tuples(drops, names=_POINT)
    found = pd.concat([part.reindex(index) for part in parts if len(part)], axis=1).reset_index()
    keys = pd.DataFrame({"study": study, "dataset": dataset, "protocol": protocol}, found.index)
    return keys.join(found)


def _levels(frame: Frame, how: Resampling) -> list[pd.DataFrame]:
    """By method and point: drop, area and completeness gap, of which the median: where the gradient leaps
    near the path's end, one text's may be that of ten others."""
    found = summarise(frame, _POINT, ["drop_11", "area_over"], how).set_index([*_POINT, "measure"])
    drops, areas = (found.xs(name, level="measure")[ESTIMATE] for name in ("drop_11", "area_over"))
    gaps = frame.rows.reindex(columns=[*_POINT, "completeness_gap"]).set_index(_POINT).abs()
    return [
        drops.rename(columns={"estimate": "drop_11"}),
        areas.drop(columns="n").set_axis(["area_over", "area_low", "area_high"], axis=1),
        gaps.groupby(_POINT, observed=True).median(),
    ]


def _over(name: str, differences: Mapping[tuple[str, Value], pd.Series], how: Resampling) -> pd.DataFrame:
    """The means on the instances that all have, in columns named by `name`; one Holm family."""
    names = {"estimate": name, "ci_low": f"{name}_low", "ci_high": f"{name}_high", "p_holm": f"{name}_p_holm"}
    return means_tested(pd.DataFrame(differences).dropna(), how).drop(columns="n").rename(columns=names)


#: What a table holds besides drop and area, where a row has it: its head and its note.
_TOLD = {
    "completeness_gap": (
        "completeness gap",
        "“Completeness gap”: how far the scores are from adding up to the probability won over the baseline "
        "(median over the texts of its absolute value).",
    ),
    "difference": (
        "drop changes by",
        "“Drop changes by”: drop at 11 % minus that of “{base}” on the same instances (paired sign-flip "
        "test, Holm-corrected within a method).",
    ),
    "over_random": (
        "drop minus random's",
        "“Drop minus random's”: the same against random scores (under the same operator), Holm-corrected "
        "over all methods and points of a data set and protocol. A large p does not show that nothing is "
        "left: the interval says how much may be.",
    ),
    "over_rival": (
        "drop minus {rival}'s",
        "“Drop minus {rival}'s”: the same against {rival}'s scores of Table 1 on these instances, "
        "Holm-corrected over all points of a data set and protocol.",
    ),
}


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """One per study that was run."""
    for study, found in rows.rename(columns={"p_holm": "difference_p_holm"}).groupby("study", sort=False):
        check = STUDIES[str(study)]
        names = {"base": check.title(check.base), "rival": stored.say("method", check.rival)}
        shown = [name for name in _TOLD if name in found.dropna(axis=1, how="all")]
        heads, notes = ([_TOLD[name][place].format(**names) for name in shown] for place in (0, 1))
        columns: dict[str, Write] = {
            "drop at 11 %": partial(estimate, value="drop_11"),
            "area over the curve": partial(estimate, value="area_over", ends="area"),
        }
        columns |= {head: partial(_cell, value=name) for head, name in zip(heads, shown, strict=True)}
        found, keys = found.assign(point=found["point"].map(check.title)), [*_KEYS, "n"]
        yield listed(f"Sanity: {check.what}", stored.say, found, keys, columns, notes)


def _cell(row: Any, value: str) -> str:
    if value == "completeness_gap" or pd.isna(getattr(row, value)):
        return number(getattr(row, value))
    return f"{estimate(row, value, value)}, {p_value(getattr(row, f'{value}_p_holm'))}"


TABLE = Spec("sanity", 80, sanity_rows, grids)
