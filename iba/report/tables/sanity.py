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

import pandas as pd

from iba.evaluation.stats import Resampling
from iba.pipeline.views import Value
from iba.report.frame import DELETE, ESTIMATE, Frame, compare, means_tested, summarise
from iba.report.stored import Stored
from iba.report.tables import Spec
from iba.report.text import Grid, interval, listed, number, p_value

#: The point of a method that does not vary.
REFERENCE = "reference"
#: The method whose level is chance.
RANDOM = "random"
_KEYS = ["study", "dataset", "protocol", "method", "point"]
_POINT = ["method", "point"]
_LEVELS = ("drop_11", "area_over")
#: Drop at 11 % per instance, by method and point.
Drops = Mapping[tuple[str, Value], pd.Series]


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
    points, names = _points(stored, study), stored.names
    parts = [points.of(dataset=d, protocol=p) for d, p in product(names.datasets, names.protocols)]
    # Besides the base and references, which other studies may have as well, there must be a point.
    run = [part for part in parts if {*part.rows["point"]} - {STUDIES[study].base, REFERENCE}]
    return pd.concat([_rows(stored, study, part) for part in run] or [pd.DataFrame()], ignore_index=True)


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


def _rows(stored: Stored, study: str, frame: Frame) -> pd.DataFrame:
    """The rows of one data set under one protocol."""
    (dataset,), (protocol,), check = frame.present("dataset"), frame.present("protocol"), STUDIES[study]
    wide = {m: frame.of(method=m).matrix("drop_11", "point").dropna() for m in frame.present("method")}
    wide = {m: found[sorted(found, key=lambda point: point != check.base)] for m, found in wide.items()}
    drops = {(method, point): found[point] for method, found in wide.items() for point in found}
    others = [key for key in drops if key[0] != RANDOM]
    chance = {key: drops[RANDOM, at] for key in others for at in (REFERENCE, key[1]) if (RANDOM, at) in drops}
    level = stored.matrix(protocol, dataset).get(check.rival)
    rival = {key: level for key in drops if level is not None and key[0] != check.rival}
    parts = [
        *_levels(frame, stored.how),
        _over("over_random", drops, chance, stored.how),
        _from_base(wide, check.base, stored.how),
        _over("over_rival", drops, rival, stored.how),
    ]
    index = pd.MultiIndex.from_tuples(drops, names=_POINT)
    found = pd.concat([part.reindex(index) for part in parts if len(part)], axis=1).reset_index()
    found = found.assign(study=study, dataset=dataset, protocol=protocol)
    return found[[*_KEYS, *found.columns.difference(_KEYS, sort=False)]]


def _levels(frame: Frame, how: Resampling) -> Iterator[pd.DataFrame]:
    """Drop, area and completeness gap of every method and point.

    The median of the gap: where the gradient leaps near the path's end, one text's may be that of ten others.
    """
    drops, areas = (summarise(frame, _POINT, [m], how).set_index(_POINT)[ESTIMATE] for m in _LEVELS)
    yield drops.rename(columns={"estimate": "drop_11"})
    yield areas.drop(columns="n").set_axis(["area_over", "area_low", "area_high"], axis=1)
    if "completeness_gap" in frame.rows:
        keys = [frame.rows["method"].astype(str), frame.rows["point"]]
        yield frame.rows["completeness_gap"].abs().groupby(keys).median().to_frame()


def _over(name: str, drops: Drops, rivals: Drops, how: Resampling) -> pd.DataFrame:
    """Every drop minus its rival's on the instances that all of them have, in columns named by `name`; one
    Holm family."""
    differences = pd.DataFrame({key: drops[key] - rival for key, rival in rivals.items()}).dropna()
    names = {"estimate": name, "ci_low": f"{name}_low", "ci_high": f"{name}_high", "p_holm": f"{name}_p_holm"}
    return means_tested(differences, how).drop(columns="n").rename(columns=names)


def _from_base(drops: Mapping[str, pd.DataFrame], base: Value, how: Resampling) -> pd.DataFrame:
    """By method and point: its drop minus that of `base`, all pairs of a method's points one Holm family."""
    tests = compare({(method,): wide for method, wide in drops.items()}, ["method"], how)
    found = tests[tests["first"] == base].set_index(["method", "second"])
    signed = {"difference": "difference", "difference_low": "ci_high", "difference_high": "ci_low"}
    return pd.DataFrame({name: -found[of] for name, of in signed.items()} | {"p_holm": found["p_holm"]})


# --- text ---------------------------------------------------------------------------------------------


def _told(check: Sanity, rival: str) -> dict[str, tuple[str, str, str]]:
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


def _cell(row: Any, value: str, ends: str, p_holm: str = "") -> str:
    """A number, with interval and p-value where it was tested; a dash where there is none."""
    found = getattr(row, value)
    if pd.isna(found) or not ends:
        return number(found)
    text = f"{number(found)} {interval(getattr(row, f'{ends}_low'), getattr(row, f'{ends}_high'))}"
    return f"{text}, {p_value(getattr(row, p_holm))}" if p_holm else text


def grids(stored: Stored, rows: pd.DataFrame) -> Iterator[Grid]:
    """One per study that was run."""
    for study, found in rows.groupby("study", sort=False):
        yield _grid(stored, STUDIES[str(study)], found)


def _grid(stored: Stored, check: Sanity, rows: pd.DataFrame) -> Grid:
    told = _told(check, stored.say("method", check.rival))
    told = {head: of for head, of in told.items() if of[0] in rows and rows[of[0]].notna().any()}
    columns: dict[str, Callable[[Any], str]] = {
        "point": lambda row: check.title(row.point),
        "n": lambda row: str(row.n),
        "drop at 11 %": partial(_cell, value="drop_11", ends="ci"),
        "area over the curve": partial(_cell, value="area_over", ends="area"),
    }
    for head, (value, p_holm, _) in told.items():
        columns[head] = partial(_cell, value=value, ends=value if p_holm else "", p_holm=p_holm)
    keys, notes = ["dataset", "protocol", "method"], [note for *_, note in told.values()]
    return listed(f"Sanity: {check.what}", stored.say, rows, keys, columns, notes)


TABLE = Spec("sanity", 80, sanity_rows, grids)
