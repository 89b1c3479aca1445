"""Sanity checks: do the scores depend on what they should depend on, and on nothing else?

Each check is a study (`configs/study/`): its points are compared, instance by instance, with the first one.
Explaining an untrained classifier (Adebayo et al. 2018) or another class must cost a method its power;
other noise must not; another removal operator shows what is the operator's doing. What is left of the power
is the paired difference from random scores on the same instances, where the study has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from iba.report.comparisons import pairs
from iba.report.rows import DELETE, Stored, per_instance
from iba.report.study_rows import REFERENCE, small_file, value_of
from iba.report.text import Grid, Table, interval, number, p_value
from iba.stats import Resampling, holm, mean_interval, sign_flip_test
from iba.store import read_parquet

#: Study → what is checked, and the point that the others are compared with (None: a removal operator).
CHECKS = {
    "classifiers": ("an untrained classifier is explained", "fine-tuned"),
    "targets": ("another class is explained", "gold"),
    "noise_seeds": ("other noise is drawn", 3),
    "operators": ("tokens are removed otherwise", DELETE),
    "ig_steps": ("the path of integrated gradients has more steps", 10),
    "padding": ("texts are padded to fewer tokens than the released code's 512", 512),
}
#: How the points of a study are named, where they are numbers.
_IN_WORDS = {"noise_seeds": "seed {}", "ig_steps": "{} steps", "padding": "{} tokens"}
#: The method whose level is chance.
RANDOM = "random"


def table(stored: Stored) -> pd.DataFrame:
    """One row per study, data set, protocol, method and point.

    Drop at 11 % and area over the curve, each with interval; `difference` is the drop minus that of the
    point compared with, `p_holm` from the sign-flip test, corrected within the rows of one method;
    `over_random` is the drop minus that of random scores under the same operator, corrected over all methods
    and points of the study on the data set under the protocol.
    """
    return pd.DataFrame([row for study in CHECKS for row in _rows(stored, study)])


def _rows(stored: Stored, study: str) -> Iterator[dict[str, object]]:
    base = CHECKS[study][1]
    for dataset in stored.names.datasets:
        for protocol in stored.names.protocols:
            folders = sorted((stored.folder / "studies" / study / dataset / protocol).glob("*"))
            found = {folder.name: _points(folder, by_operator=base == DELETE) for folder in folders}
            found = {method: scores for method, scores in found.items() if not scores.empty}
            above = _over_random({method: _drops(scores) for method, scores in found.items()}, stored.how)
            for method, scores in found.items():
                drops = _drops(scores)
                others = sorted(set(drops.columns) - {base}, key=lambda p: (isinstance(p, str), p))
                points = [p for p in (base, *others) if p in drops]
                tests = pairs(drops[points], stored.how) if len(points) > 1 else pd.DataFrame()
                for point in points:
                    yield {
                        "study": study,
                        "dataset": dataset,
                        "protocol": protocol,
                        "method": method,
                        "point": point,
                        **_measured(scores[scores["point"] == point], stored),
                        **_against(tests, base, point),
                        **above.get((method, point), {}),
                    }


def _drops(scores: pd.DataFrame) -> pd.DataFrame:
    """Drop at 11 %: instances × points."""
    return scores.pivot(index="instance_id", columns="point", values="drop_11").dropna()


def _over_random(
    drops: dict[str, pd.DataFrame], how: Resampling
) -> dict[tuple[str, object], dict[str, float]]:
    """By method and point: its drop minus that of random scores on the same instances, one Holm family."""
    chance = drops.get(RANDOM, pd.DataFrame())
    contests = {
        (method, point): chance[point if point in chance else REFERENCE]
        for method, found in drops.items()
        for point in found
        if method != RANDOM and (point in chance or REFERENCE in chance)
    }
    if not contests:
        return {}
    differences = pd.concat([drops[m][p] - level for (m, p), level in contests.items()], axis=1).dropna()
    columns = differences.to_numpy(float).T
    corrected = holm(sign_flip_test(columns, how.resolving(len(contests))))
    means = [mean_interval(column, how) for column in columns]
    return {
        key: {
            "over_random": mean.estimate,
            "over_random_low": mean.low,
            "over_random_high": mean.high,
            "over_random_p_holm": float(p),
        }
        for key, mean, p in zip(contests, means, corrected, strict=True)
    }


def _points(folder: Path, by_operator: bool) -> pd.DataFrame:
    """Per-instance scores with a column `point`: the varied value, "reference", or the operator.

    By deletion, unless the operators are the points.
    """
    tables = []
    for path in sorted(folder.glob("*/degradation.parquet")):
        scores = per_instance(read_parquet(path))
        name = path.parent.name
        fixed = scores["operator"] if by_operator else REFERENCE
        if not by_operator:
            scores = scores[scores["operator"] == DELETE]
        tables.append(scores.assign(point=fixed if name == REFERENCE else value_of(name)))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _measured(scores: pd.DataFrame, stored: Stored) -> dict[str, object]:
    drop = mean_interval(scores["drop_11"].to_numpy(float), stored.how)
    area = mean_interval(scores["area_over"].to_numpy(float), stored.how)
    return {
        "n": drop.n,
        "drop_11": drop.estimate,
        "ci_low": drop.low,
        "ci_high": drop.high,
        "area_over": area.estimate,
        "area_low": area.low,
        "area_high": area.high,
    }


def _against(tests: pd.DataFrame, base: object, point: object) -> dict[str, float]:
    if tests.empty:
        return {}
    found = tests[(tests["first"] == str(base)) & (tests["second"] == str(point))]
    if found.empty:  # the point itself, or a study that was run without the one to compare with
        return {}
    row = found.iloc[0]
    return {
        "difference": -row["difference"],
        "difference_low": -row["ci_high"],
        "difference_high": -row["ci_low"],
        "p_holm": row["p_holm"],
    }


def grids(stored: Stored, rows: pd.DataFrame) -> list[Grid]:
    """One table per check that was run."""
    if rows.empty:
        return []
    return [
        _grid(stored, study, rows[rows["study"] == study])
        for study in CHECKS
        if (rows["study"] == study).any()
    ]


def _grid(stored: Stored, study: str, rows: pd.DataFrame) -> Grid:
    names = stored.names
    beside_random = "over_random" in rows and rows["over_random"].notna().any()
    lines = []
    for row in rows.itertuples():
        tested = [_tested(row, "difference", "p_holm")]
        if beside_random:
            tested.append(_tested(row, "over_random", "over_random_p_holm"))
        lines.append(
            [
                names.datasets[row.dataset],
                names.protocols[row.protocol],
                names.methods.get(row.method, row.method),
                _title(study, row.point),
                str(row.n),
                f"{number(row.drop_11)} {interval(row.ci_low, row.ci_high)}",
                f"{number(row.area_over)} {interval(row.area_low, row.area_high)}",
                *tested,
            ]
        )
    what, base = CHECKS[study]
    heads = [
        "data set",
        "protocol",
        "method",
        "point",
        "n",
        "drop at 11 %",
        "area over the curve",
        "drop changes by",
        *(["drop minus random's"] if beside_random else []),
    ]
    notes = [
        f"“Drop changes by”: drop at 11 % minus that of “{_title(study, base)}” on the same instances "
        "(paired sign-flip test, Holm-corrected within a method)."
    ]
    if beside_random:
        notes.append(
            "“Drop minus random's”: the same against random scores (under the same operator), Holm-corrected "
            "over all methods and points of a data set and protocol. A large p does not show that nothing is "
            "left: the interval says how much may be."
        )
    if study == "ig_steps" and (gaps := _gaps(stored, study)):
        notes.append(
            "Completeness gap, how far the scores are from adding up to the probability won over the "
            f"baseline (mean of its absolute value): {'; '.join(gaps)}."
        )
    return Grid(f"Sanity: {what}", heads, lines, notes)


def _gaps(stored: Stored, study: str) -> list[str]:
    """The mean absolute completeness gap at every point, where the method reports it."""
    found = small_file(stored, study, "diagnostics")
    if found is None or "completeness_gap" not in found:
        return []
    points = found["point"].map(value_of)
    gaps = found["completeness_gap"].abs().groupby([found["dataset"], points]).mean().dropna()
    return [
        f"{stored.names.datasets[dataset]}, {_title(study, point)}: {number(gap)}"
        for (dataset, point), gap in gaps.items()
        if dataset in stored.names.datasets
    ]


def _title(study: str, point: object) -> str:
    """A point of a study in words."""
    if (study, point) == ("classifiers", "random"):
        return "random weights"
    return str(point) if point == REFERENCE else _IN_WORDS.get(study, "{}").format(point)


def _tested(row: Any, name: str, p_name: str) -> str:
    """A paired difference with its interval and p-value; a dash where there is none."""
    estimate = getattr(row, name, None)
    if estimate is None or pd.isna(estimate):
        return "–"
    ends = interval(getattr(row, f"{name}_low"), getattr(row, f"{name}_high"))
    return f"{number(estimate)} {ends}, {p_value(getattr(row, p_name))}"


def report(stored: Stored) -> Table:
    """`sanity.*`; nothing where no check was run."""
    rows = table(stored)
    return Table("sanity", rows, grids(stored, rows), "sanity")
