"""Sanity checks: do the scores depend on what they should depend on, and on nothing else?

Explaining an untrained classifier (Adebayo et al. 2018) or another class must cost a method its power;
other noise must not; another removal operator shows what is the operator's doing. Each is a study
(`configs/study/`). Its points are compared, instance by instance, with the first one, with random scores on
the same instances where the study has them, and with a rival in Table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from iba.evaluation.stats import Resampling, holm, mean_intervals, sign_flip_test
from iba.pipeline.views import Value
from iba.report.frame import DELETE, ESTIMATE, Frame, compare, summarise
from iba.report.stored import Stored
from iba.report.text import Grid, Table, interval, listed, number, p_value

#: The point of a method that does not vary.
REFERENCE = "reference"
#: The method whose level is chance.
RANDOM = "random"
_KEYS = ["study", "dataset", "protocol", "method", "point"]
#: The columns of drop and area, by measure.
_LEVELS = {
    "drop_11": ("n", "drop_11", "ci_low", "ci_high"),
    "area_over": ("n", "area_over", "area_low", "area_high"),
}
#: By method and point: what is told of it, or a number per instance.
Numbers = dict[tuple[str, Value], dict[str, float]]
Differences = dict[tuple[str, Value], pd.Series]


@dataclass(frozen=True)
class Sanity:
    """What a study checks.

    `what`: in words. `base`: the point that the others are compared with. `words`: how the points are named,
    by point where one sentence does not do. `rival`: a method of Table 1 that every point is compared with.
    """

    what: str
    base: Value
    words: str | Mapping[Value, str] = "{}"
    rival: str | None = None

    def title(self, point: Value) -> str:
        """A point in words."""
        if point == REFERENCE:
            return REFERENCE
        words = self.words if isinstance(self.words, str) else self.words.get(point, "{}")
        return words.format(point)


STUDIES = {
    "classifiers": Sanity("an untrained classifier is explained", "fine-tuned", {"random": "random weights"}),
    "targets": Sanity("another class is explained", "gold"),
    "noise_seeds": Sanity("other noise is drawn", 3, "seed {}"),
    "operators": Sanity("tokens are removed otherwise", DELETE),
    "ig_steps": Sanity("the path of integrated gradients has more steps", 10, "{} steps", rival="iba"),
    "padding": Sanity("texts are padded to fewer tokens than the released code's 512", 512, "{} tokens"),
}


# --- rows ---------------------------------------------------------------------------------------------


def sanity_rows(stored: Stored) -> pd.DataFrame:
    """One row per study, data set, protocol, method and point.

    Drop at 11 % and area over the curve, each with interval; `completeness_gap`: the median of its absolute
    value, where the method reports it. Differences of drops, each with interval and sign-flip test:
    `difference`, from the point compared with, corrected (`p_holm`) within the rows of one method;
    `over_random`, from random scores under the same operator, and `over_rival`, from the check's rival in
    Table 1, each corrected over all methods and points of the study on the data set under the protocol.
    """
    found = [rows for study in STUDIES if not (rows := of_study(stored, study)).empty]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


@cache
def of_study(stored: Stored, study: str) -> pd.DataFrame:
    """The rows of one study; none where it was not run."""
    points = _points(stored, study)
    parts = [
        points.of(dataset=d, protocol=p) for d, p in product(stored.names.datasets, stored.names.protocols)
    ]
    found = [row for part in parts if _was_run(study, part) for row in _rows(stored, study, part)]
    return pd.DataFrame(found)


def _was_run(study: str, frame: Frame) -> bool:
    """Whether there is a point besides the base and references, which other studies may have as well."""
    return bool(set(frame.rows["point"]) - {STUDIES[study].base, REFERENCE})


def _points(stored: Stored, study: str) -> Frame:
    """The study's rows with a column `point`: the varied value, "reference", or the operator.

    By deletion, unless the operators are the points.
    """
    frame = stored.frame.of(study=study, seed=stored.seed)
    by_operator = STUDIES[study].base == DELETE
    frame = frame if by_operator else frame.of(operator=DELETE)
    fixed = frame.rows["operator"].astype(object) if by_operator else REFERENCE
    value = frame.rows["value"]
    return replace(frame, rows=frame.rows.assign(point=value.where(value.notna(), fixed)))


def _rows(stored: Stored, study: str, frame: Frame) -> Iterator[dict[str, Any]]:
    """The rows of one data set under one protocol."""
    (dataset,), (protocol,), base = frame.present("dataset"), frame.present("protocol"), STUDIES[study].base
    drops = {m: frame.of(method=m).matrix("drop_11", "point").dropna() for m in frame.present("method")}
    rival = stored.matrix(protocol, dataset).get(STUDIES[study].rival, pd.Series())
    known = [
        *_levels(frame, stored.how),
        _tested(_over_random(drops), "over_random", stored.how),
        {(m, point): row for m, wide in drops.items() for point, row in _from_base(wide, base, stored.how)},
        _tested(_over_rival(drops, rival), "over_rival", stored.how),
    ]
    for method, wide in drops.items():
        for point in sorted(wide, key=lambda point: point != base):
            where = dict(zip(_KEYS, (study, dataset, protocol, method, point), strict=True))
            yield where | {name: value for of in known for name, value in of.get((method, point), {}).items()}


def _levels(frame: Frame, how: Resampling) -> Iterator[Numbers]:
    """Drop, area and completeness gap of every method and point.

    The median of the gap: where the gradient leaps near the path's end, one text's may be that of ten others.
    """
    for measure, names in _LEVELS.items():
        rows = summarise(frame, ["method", "point"], [measure], how)
        numbers = rows[ESTIMATE].set_axis(names, axis=1).to_dict("records")
        yield dict(zip(zip(rows["method"], rows["point"], strict=True), numbers, strict=True))
    if "completeness_gap" in frame.rows:
        keys = [frame.rows["method"].astype(str), frame.rows["point"]]
        gaps = frame.rows["completeness_gap"].abs().groupby(keys).median()
        yield {key: {"completeness_gap": gap} for key, gap in gaps.items()}


def _from_base(drops: pd.DataFrame, base: Value, how: Resampling) -> Iterator[tuple[Value, dict[str, float]]]:
    """By point: its drop minus that of `base`, all pairs of points one Holm family."""
    if base not in drops:
        return
    points = sorted(drops, key=lambda point: point != base)
    tests = compare({(): drops[points]}, [], how)
    for row in tests[tests["first"] == base].itertuples():
        ends = {"difference_low": -row.ci_high, "difference_high": -row.ci_low}
        yield row.second, {"difference": -row.difference, **ends, "p_holm": row.p_holm}


def _over_random(drops: dict[str, pd.DataFrame]) -> Differences:
    """By method and point: its drop minus that of random scores under the same operator."""
    chance = drops.get(RANDOM, pd.DataFrame())
    return {
        (method, point): found[point] - chance[point if point in chance else REFERENCE]
        for method, found in drops.items()
        for point in found
        if method != RANDOM and (point in chance or REFERENCE in chance)
    }


def _over_rival(drops: dict[str, pd.DataFrame], rival: pd.Series) -> Differences:
    """By method and point: its drop minus that of the rival in Table 1, on the same instances."""
    return {
        (method, point): found[point] - rival
        for method, found in drops.items()
        if method != rival.name and len(rival)
        for point in found
    }


def _tested(differences: Differences, name: str, how: Resampling) -> Numbers:
    """Every mean difference with interval and p-value in columns named by `name`; one Holm family.

    Of the instances that all of them have.
    """
    if not differences:
        return {}
    columns = list(pd.concat(differences.values(), axis=1).dropna().to_numpy(float).T)
    corrected = holm(sign_flip_test(np.array(columns), how.resolving(len(differences))))
    names = [f"{name}{part}" for part in ("", "_low", "_high", "_p_holm")]
    return {
        key: dict(zip(names, (mean.estimate, mean.low, mean.high, float(p)), strict=True))
        for key, mean, p in zip(differences, mean_intervals(columns, how), corrected, strict=True)
    }


# --- text ---------------------------------------------------------------------------------------------


def _columns(check: Sanity, rival: str) -> dict[str, tuple[str, str, str]]:
    """Head → value, corrected p and note of what a table holds besides drop and area, where a row has it."""
    return {
        "completeness gap": (
            "completeness_gap",
            "",
            "“Completeness gap”: how far the scores are from adding up to the probability won over the "
            "baseline (median over the texts of its absolute value).",
        ),
        "drop changes by": (
            "difference",
            "p_holm",
            f"“Drop changes by”: drop at 11 % minus that of “{check.title(check.base)}” on the same "
            "instances (paired sign-flip test, Holm-corrected within a method).",
        ),
        "drop minus random's": (
            "over_random",
            "over_random_p_holm",
            "“Drop minus random's”: the same against random scores (under the same operator), Holm-corrected "
            "over all methods and points of a data set and protocol. A large p does not show that nothing is "
            "left: the interval says how much may be.",
        ),
        f"drop minus {rival}'s": (
            "over_rival",
            "over_rival_p_holm",
            f"“Drop minus {rival}'s”: the same against {rival}'s scores of Table 1 on these instances, "
            "Holm-corrected over all points of a data set and protocol.",
        ),
    }


def _cell(row: Any, value: str, p_holm: str) -> str:
    """A number, with interval and p-value where it was tested; a dash where there is none."""
    found = getattr(row, value)
    if pd.isna(found) or not p_holm:
        return number(found)
    ends = interval(getattr(row, f"{value}_low"), getattr(row, f"{value}_high"))
    return f"{number(found)} {ends}, {p_value(getattr(row, p_holm))}"


def _grid(stored: Stored, check: Sanity, rows: pd.DataFrame) -> Grid:
    more = _columns(check, stored.say("method", check.rival))
    more = {head: told for head, told in more.items() if told[0] in rows and rows[told[0]].notna().any()}
    columns: dict[str, Callable[[Any], str]] = {
        "point": lambda row: check.title(row.point),
        "n": lambda row: str(row.n),
        "drop at 11 %": lambda row: f"{number(row.drop_11)} {interval(row.ci_low, row.ci_high)}",
        "area over the curve": lambda row: f"{number(row.area_over)} {interval(row.area_low, row.area_high)}",
    }
    columns |= {head: partial(_cell, value=value, p_holm=p) for head, (value, p, _) in more.items()}
    notes = [note for _, _, note in more.values()]
    return listed(
        f"Sanity: {check.what}", stored.say, rows, ["dataset", "protocol", "method"], columns, notes
    )


def sanity(stored: Stored) -> Table:
    """`sanity.*`, a text table per check that was run; nothing where none was."""
    rows = sanity_rows(stored)
    run = [] if rows.empty else rows.groupby("study", sort=False)
    return Table("sanity", rows, [_grid(stored, STUDIES[str(name)], found) for name, found in run], "sanity")
