"""The rows of `sanity.csv`: the points of every check, compared instance by instance.

Each check is a study (`configs/study/`). Its points are compared with the first one, with random scores on
the same instances where the study has them, and with the check's rival in Table 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from iba.evaluation.stats import Resampling, holm, mean_interval, sign_flip_test
from iba.pipeline.store import read_parquet
from iba.report.comparisons import pairs
from iba.report.rows import DELETE, Stored, per_instance
from iba.report.study_rows import REFERENCE, Value, small_file, value_of


@dataclass(frozen=True)
class Check:
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


CHECKS = {
    "classifiers": Check("an untrained classifier is explained", "fine-tuned", {"random": "random weights"}),
    "targets": Check("another class is explained", "gold"),
    "noise_seeds": Check("other noise is drawn", 3, "seed {}"),
    "operators": Check("tokens are removed otherwise", DELETE),
    "ig_steps": Check("the path of integrated gradients has more steps", 10, "{} steps", rival="iba"),
    "padding": Check("texts are padded to fewer tokens than the released code's 512", 512, "{} tokens"),
}
#: The method whose level is chance.
RANDOM = "random"


def table(stored: Stored) -> pd.DataFrame:
    """One row per study, data set, protocol, method and point.

    Drop at 11 % and area over the curve, each with interval; `completeness_gap`: the median of its absolute
    value, where the method reports it. Differences of drops, each with interval and sign-flip test:
    `difference`, from the point compared with, corrected (`p_holm`) within the rows of one method;
    `over_random`, from random scores under the same operator, and `over_rival`, from the check's rival in
    Table 1, each corrected over all methods and points of the study on the data set under the protocol.
    """
    found = [points for study in CHECKS if not (points := of_study(stored, study)).empty]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


@cache
def of_study(stored: Stored, study: str) -> pd.DataFrame:
    """The rows of one study; none where it was not run."""
    return pd.DataFrame(list(_rows(stored, study)))


def _rows(stored: Stored, study: str) -> Iterator[dict[str, object]]:
    check = CHECKS[study]
    gaps = _completeness_gaps(stored, study)
    for dataset in stored.names.datasets:
        for protocol in stored.names.protocols:
            folders = sorted((stored.folder / "studies" / study / dataset / protocol).glob("*"))
            found = {folder.name: _points(folder, by_operator=check.base == DELETE) for folder in folders}
            found = {method: scores for method, scores in found.items() if not scores.empty}
            drops = {method: _drops(scores) for method, scores in found.items()}
            above = _over_random(drops, stored.how)
            ahead = _over_rival(drops, stored, check.rival, dataset, protocol)
            for method, scores in found.items():
                against = _against_base(drops[method], check.base, stored.how)
                for point in _in_order(drops[method], check.base):
                    yield {
                        "study": study,
                        "dataset": dataset,
                        "protocol": protocol,
                        "method": method,
                        "point": point,
                        **_measured(scores[scores["point"] == point], stored.how),
                        "completeness_gap": gaps.get((dataset, protocol, method, point), math.nan),
                        **against.get(point, {}),
                        **above.get((method, point), {}),
                        **ahead.get((method, point), {}),
                    }


def _completeness_gaps(stored: Stored, study: str) -> dict[tuple[str, str, str, Value], float]:
    """The median absolute completeness gap by data set, protocol, method and point.

    Not the mean: where the gradient leaps near the path's end, one text's gap may be that of ten others.
    """
    found = small_file(stored, study, "diagnostics")
    if found is None or "completeness_gap" not in found:
        return {}
    keys = [found["dataset"], found["protocol"], found["method"], found["point"].map(value_of)]
    return dict(found["completeness_gap"].abs().groupby(keys).median().dropna())


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


def _drops(scores: pd.DataFrame) -> pd.DataFrame:
    """Drop at 11 %: instances × points."""
    return scores.pivot(index="instance_id", columns="point", values="drop_11").dropna()


def _in_order(drops: pd.DataFrame, base: Value) -> list[Value]:
    """The points, `base` first where it is among them, words last."""
    others = sorted(set(drops.columns) - {base}, key=lambda point: (isinstance(point, str), point))
    return [point for point in (base, *others) if point in drops]


def _measured(scores: pd.DataFrame, how: Resampling) -> dict[str, object]:
    drop = mean_interval(scores["drop_11"].to_numpy(float), how)
    area = mean_interval(scores["area_over"].to_numpy(float), how)
    return {
        "n": drop.n,
        "drop_11": drop.estimate,
        "ci_low": drop.low,
        "ci_high": drop.high,
        "area_over": area.estimate,
        "area_low": area.low,
        "area_high": area.high,
    }


def _against_base(drops: pd.DataFrame, base: Value, how: Resampling) -> dict[Value, dict[str, float]]:
    """By point: its drop minus that of `base`, all pairs of points one Holm family."""
    points = _in_order(drops, base)
    if base not in points or len(points) < 2:
        return {}
    tests = pairs(drops[points], how)
    from_base = tests[tests["first"] == str(base)].set_index("second")
    return {
        point: {
            "difference": -row["difference"],
            "difference_low": -row["ci_high"],
            "difference_high": -row["ci_low"],
            "p_holm": row["p_holm"],
        }
        for point in points[1:]
        for row in [from_base.loc[str(point)]]
    }


def _over_random(
    drops: dict[str, pd.DataFrame], how: Resampling
) -> dict[tuple[str, Value], dict[str, float]]:
    """By method and point: its drop minus that of random scores under the same operator."""
    chance = drops.get(RANDOM, pd.DataFrame())
    differences = {
        (method, point): found[point] - chance[point if point in chance else REFERENCE]
        for method, found in drops.items()
        for point in found
        if method != RANDOM and (point in chance or REFERENCE in chance)
    }
    return _tested(differences, "over_random", how)


def _over_rival(
    drops: dict[str, pd.DataFrame], stored: Stored, rival: str | None, dataset: str, protocol: str
) -> dict[tuple[str, Value], dict[str, float]]:
    """By method and point: its drop minus that of the rival in Table 1, on the same instances."""
    table_1 = stored.matrix(protocol, dataset)
    if rival not in table_1:
        return {}
    differences = {
        (method, point): found[point] - table_1[rival]
        for method, found in drops.items()
        if method != rival
        for point in found
    }
    return _tested(differences, "over_rival", stored.how)


def _tested(
    differences: dict[tuple[str, Value], pd.Series], name: str, how: Resampling
) -> dict[tuple[str, Value], dict[str, float]]:
    """Every mean difference with interval and p-value in columns named by `name`; one Holm family.

    Of the instances that all of them have.
    """
    if not differences:
        return {}
    columns = pd.concat(differences.values(), axis=1).dropna().to_numpy(float).T
    if not columns.size:
        return {}
    corrected = holm(sign_flip_test(columns, how.resolving(len(differences))))
    means = [mean_interval(column, how) for column in columns]
    return {
        key: {
            name: mean.estimate,
            f"{name}_low": mean.low,
            f"{name}_high": mean.high,
            f"{name}_p_holm": float(p),
        }
        for key, mean, p in zip(differences, means, corrected, strict=True)
    }
