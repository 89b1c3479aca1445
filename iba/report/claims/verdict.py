"""A verdict on each claim of the paper, per protocol, that says no more than the stored rows do.

A claim is a list of checks that must all hold. A check on "a is larger than b" *holds* when the paired
difference is positive with a Holm-corrected p below 1 − confidence; it *fails* when it is significantly
negative, or else when its whole interval lies below `ALIKE`, too small a difference to matter; otherwise it
is *open*. The paper's own difference, of another model on other texts, is printed beside ours and decides
nothing. One failed check refutes the claim; with none failed, a missing one leaves "not enough data", else
an open one "undecided". Cells below `MIN_INSTANCES` count as missing. `rule` is the same in words for the
reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

from iba.evaluation.stats import Interval, Resampling
from iba.report.rows import Stored
from iba.report.text import interval, number

State = Literal["holds", "fails", "open", "missing"]
Outcome = Literal["reproduced", "not reproduced", "undecided", "not enough data", "does not apply"]

#: Fewer instances than this are not a test of a claim.
MIN_INSTANCES = 200
#: What each outcome means, for the reader.
OUTCOMES: dict[Outcome, str] = {
    "reproduced": "every check holds",
    "not reproduced": "a check fails",
    "undecided": "none fails and all were run, but one is open",
    "not enough data": f"none fails, but one was not run or has fewer than {MIN_INSTANCES} instances",
    "does not apply": "the protocol leaves nothing to check",
}

PAPER_SETS = ("imdb", "mnli_matched", "mnli_mismatched", "agnews", "rte")
PAPER_METHODS = ("iba", "ig", "lime", "random")
PROTOCOLS = ("described", "released", "corrected")
#: Two drops, or two areas over the curve (mean drops along it), are alike if they differ by less than this
#: probability.
ALIKE = 0.02


@dataclass(frozen=True)
class Check:
    """One comparison that a claim rests on, with its numbers as text."""

    state: State
    text: str


@dataclass(frozen=True)
class Verdict:
    """What the stored rows say about one claim under one protocol; `statement` is one line of Markdown."""

    claim: str
    protocol: str
    outcome: Outcome
    statement: str
    checks: Sequence[Check] = field(default_factory=tuple)


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in words, how it is tested, and the function that tests it."""

    name: str
    title: str
    test: str
    verdict: Callable[[Stored, pd.DataFrame, str], Verdict]


def rule(how: Resampling) -> str:
    """How a check on "a is larger than b" is decided, in one sentence of Markdown."""
    return (
        "A check on “a is larger than b” holds if the paired difference a − b is positive with a "
        f"Holm-corrected p < {1 - how.confidence:.2g}; it fails if the difference is negative with such a p, "
        f"or if its whole {how.percent} interval (not corrected for the number of checks) lies "
        f"below {ALIKE}, too small a difference to matter; otherwise it is open. The paper's own difference "
        "is printed beside ours and decides nothing: it is of another model and other texts."
    )


def conclude(claim: str, protocol: str, checks: Sequence[Check]) -> Verdict:
    """One failed check refutes; all must hold to reproduce; what is missing comes before what is open."""
    count = {
        state: sum(check.state == state for check in checks)
        for state in ("holds", "fails", "open", "missing")
    }
    if count["fails"]:
        outcome: Outcome = "not reproduced"
    elif count["missing"] or not checks:
        outcome = "not enough data"
    else:
        outcome = "undecided" if count["open"] else "reproduced"
    words = {"holds": "hold", "fails": "fail", "open": "open", "missing": "without data"}
    parts = ", ".join(f"{word} {count[state]}" for state, word in words.items() if count[state])
    statement = f"{len(checks)} checks: {parts}" if checks else "nothing stored that could test it"
    return Verdict(claim, protocol, outcome, statement, tuple(checks))


def overall(verdicts: Sequence[Verdict]) -> str:
    """One claim over its protocols, in the words of the protocol: reproduced, not, or only under some."""
    under = {outcome: [v.protocol for v in verdicts if v.outcome == outcome] for outcome in OUTCOMES}
    applies: dict[str, list[str]] = {
        outcome: found for outcome, found in under.items() if found and outcome != "does not apply"
    }
    if len(applies) < 2:
        return next(iter(applies), "does not apply")
    if {"reproduced", "not reproduced"} <= applies.keys():
        del applies["not reproduced"]
        applies = {"reproduced only": applies.pop("reproduced")} | applies
    return "; ".join(f"{outcome} under {_listed(protocols)}" for outcome, protocols in applies.items())


def _listed(protocols: Sequence[str]) -> str:
    return " and ".join(f"`{p}`" for p in protocols)


def larger_state(difference: float, high: float, p_holm: float, how: Resampling) -> State:
    """`rule`, of a paired difference, the upper end of its interval and its corrected p."""
    if p_holm < 1 - how.confidence:
        return "holds" if difference > 0 else "fails"
    return "fails" if high < ALIKE else "open"


def near_zero(what: str, found: Interval, margin: float) -> Check:
    """Equivalence: the whole interval inside ±margin holds, wholly outside fails."""
    estimate = f"{number(found.estimate)} {interval(found.low, found.high)}"
    text = f"{what} = {estimate}, n = {found.n}, margin ±{margin}"
    if found.n < MIN_INSTANCES:
        return Check("missing", f"{text}; fewer than {MIN_INSTANCES} instances")
    if found.low > -margin and found.high < margin:
        return Check("holds", text)
    return Check("fails" if found.low > margin or found.high < -margin else "open", text)


def below(what: str, found: Interval, limit: float) -> Check:
    """The whole interval below `limit` holds, wholly above fails."""
    text = (
        f"{what} = {number(found.estimate)} {interval(found.low, found.high)}, n = {found.n}, limit {limit}"
    )
    if found.n < MIN_INSTANCES:
        return Check("missing", f"{text}; fewer than {MIN_INSTANCES} instances")
    if found.high < limit:
        return Check("holds", text)
    return Check("fails" if found.low > limit else "open", text)
