"""Paired comparisons of methods, as `frame.compare` lists them: who is ahead of whom, and who of all."""

from __future__ import annotations

import pandas as pd

from iba.report.stored import TESTED, Stored


def family(tests: pd.DataFrame, protocol: str, dataset: str) -> pd.DataFrame:
    """The tests of one data set and protocol."""
    return tests[(tests["protocol"] == protocol) & (tests["dataset"] == dataset)]


def both_ways(tests: pd.DataFrame) -> pd.DataFrame:
    """Every comparison, and turned round: what `second` has over `first`."""
    swapped = {"first": "second", "second": "first", "ci_low": "ci_high", "ci_high": "ci_low"}
    turned = tests.rename(columns=swapped)
    signed = ["difference", "effect_size", "ci_low", "ci_high"]
    return pd.concat([tests, turned.assign(**{name: -turned[name] for name in signed})])


def signed(tests: pd.DataFrame, first: str, second: str) -> pd.Series | None:
    """The comparison of `first` with `second`, whichever way it was stored."""
    both = both_ways(tests)
    found = both[(both["first"] == first) & (both["second"] == second)]
    return found.iloc[0] if len(found) else None


def significantly_best(tests: pd.DataFrame, alpha: float) -> str | None:
    """The method that beats every other one in a family of tests, if there is one."""
    both = both_ways(tests)
    ahead = ((both["difference"] > 0) & (both["p_holm"] < alpha)).groupby(both["first"].astype(str)).all()
    return next(iter(ahead.index[ahead]), None)


def winners(stored: Stored) -> dict[tuple[str, str], str | None]:
    """The significantly best method by the drop at 11 %, by protocol and data set; no entry while one of the
    protocol's methods is missing."""
    asked = {p: {m for m in stored.methods if stored.known[m].belongs(p)} for p in stored.protocols}
    return {
        (protocol, dataset): significantly_best(found, 1 - stored.how.confidence)
        for (protocol, dataset, measure), found in stored.tests.groupby(["protocol", "dataset", "measure"])
        if measure == TESTED[0] and {*found["first"], *found["second"]} == asked[protocol]
    }
