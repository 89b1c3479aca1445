"""Every pair of methods, compared instance by instance inside one data set and protocol."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd

from iba.evaluation.stats import Resampling, effect_size, holm, percentiles, resampled_means, sign_flip_test
from iba.report.rows import Stored

#: What Table 1's methods are compared by; each is a Holm family of its own per data set and protocol.
MEASURES = ("drop_11", "area_over")
_CELL = ["protocol", "dataset", "measure"]


def pairs(table: pd.DataFrame, how: Resampling, tests: Resampling | None = None) -> pd.DataFrame:
    """All pairs of the columns of `table` (instances × methods) as one family of tests.

    `how` draws the intervals, `tests` the p-values (by default, as many as resolve the smallest one printed).
    Columns: first, second, n; `difference` = mean of first − second with its interval; `effect_size`
    (Cohen's d of the paired differences); `p_value` of the sign-flip test and `p_holm`, corrected for
    all pairs of the family.
    """
    values, names = table.to_numpy(float), [str(name) for name in table.columns]
    first, second = np.array(list(combinations(range(len(names)), 2))).T
    differences = values[:, first] - values[:, second]
    low, high = _ends(values, first, second, how)
    p_values = sign_flip_test(differences.T, tests or how.resolving(len(first)))
    return pd.DataFrame(
        {
            "first": [names[i] for i in first],
            "second": [names[i] for i in second],
            "n": len(values),
            "difference": differences.mean(0),
            "ci_low": low,
            "ci_high": high,
            "effect_size": [effect_size(d) for d in differences.T],
            "p_value": p_values,
            "p_holm": holm(p_values),
        }
    )


def _ends(
    values: np.ndarray, first: np.ndarray, second: np.ndarray, how: Resampling
) -> tuple[np.ndarray, np.ndarray]:
    """The intervals' ends of all differences between columns, from the same resamples of the instances."""
    if len(values) < 2:
        return np.full(len(first), np.nan), np.full(len(first), np.nan)
    means = resampled_means(values, how)
    return percentiles(means[:, first] - means[:, second], how)


def all_pairs(stored: Stored) -> pd.DataFrame:
    """The pairs of every protocol and data set, by each of `MEASURES` (column `measure`)."""
    tables = []
    for cell in product(stored.protocols, stored.datasets, MEASURES):
        matrix = stored.matrix(*cell)
        if matrix.shape[1] > 1:
            found = pairs(matrix, stored.how)
            tables.append(pd.DataFrame(dict(zip(_CELL, cell, strict=True)), index=found.index).join(found))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=_CELL)


def by_drop(tests: pd.DataFrame) -> pd.DataFrame:
    """The tests of the drop at 11 %, Table 1's own measure."""
    return tests[tests["measure"] == MEASURES[0]]


def signed(tests: pd.DataFrame, first: str, second: str) -> pd.Series | None:
    """The comparison of `first` with `second`, turned round if it was stored the other way."""
    direct = tests[(tests["first"] == first) & (tests["second"] == second)]
    if len(direct):
        return direct.iloc[0]
    reverse = tests[(tests["first"] == second) & (tests["second"] == first)]
    if not len(reverse):
        return None
    row = reverse.iloc[0].copy()
    row["first"], row["second"] = first, second
    row["difference"], row["effect_size"] = -row["difference"], -row["effect_size"]
    row["ci_low"], row["ci_high"] = -row["ci_high"], -row["ci_low"]
    return row


def significantly_best(tests: pd.DataFrame, alpha: float) -> str | None:
    """The method that beats every other one in a family of tests, if there is one."""
    methods = set(tests.get("first", [])) | set(tests.get("second", []))
    for method in methods:
        against = [signed(tests, method, other) for other in methods - {method}]
        if all(row is not None and row["difference"] > 0 and row["p_holm"] < alpha for row in against):
            return str(method)
    return None
