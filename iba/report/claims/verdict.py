"""A verdict on each claim of the paper, per protocol, that says no more than the stored rows do.

A claim is a list of checks that must all hold. A check on "a is larger than b" *holds* when the paired
difference is positive with a Holm-corrected p below 1 − confidence; it *fails* when it is significantly
negative, or else when its whole interval lies below `ALIKE`, too small a difference to matter; otherwise it
is *open*. One failed check refutes the claim; with none failed, a missing one leaves "not enough data", else
an open one "undecided". Checks on fewer than `MIN_INSTANCES` count as missing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from iba.evaluation.stats import Interval, Resampling
from iba.report.text import interval, number

State = Literal["holds", "fails", "open", "missing"]
Outcome = Literal["reproduced", "not reproduced", "undecided", "not enough data", "does not apply"]

#: Fewer instances than this are not a test of a claim.
MIN_INSTANCES = 200
#: Two drops, or two areas over the curve (mean drops along it), are alike if they differ by less than this
#: probability.
ALIKE = 0.02
_WORDS: dict[State, str] = {"holds": "hold", "fails": "fail", "open": "open", "missing": "without data"}


@dataclass(frozen=True)
class Check:
    """One comparison that a claim rests on, with its numbers as text."""

    state: State
    text: str


@dataclass(frozen=True)
class Verdict:
    """What the stored rows say about one claim under one protocol; `statement` is one line of Markdown."""

    protocol: str
    outcome: Outcome
    statement: str
    checks: Sequence[Check] = field(default_factory=tuple)


def conclude(protocol: str, checks: Sequence[Check], said: str = "") -> Verdict:
    """One failed check refutes; all must hold to reproduce; what is missing comes before what is open.

    `said`: what else the statement tells.
    """
    count = {state: sum(check.state == state for check in checks) for state in _WORDS}
    if count["fails"]:
        outcome: Outcome = "not reproduced"
    elif count["missing"] or not checks:
        outcome = "not enough data"
    else:
        outcome = "undecided" if count["open"] else "reproduced"
    parts = ", ".join(f"{word} {count[state]}" for state, word in _WORDS.items() if count[state])
    statement = f"{len(checks)} checks: {parts}" if checks else "nothing stored that could test it"
    return Verdict(protocol, outcome, statement + said, tuple(checks))


def overall(verdicts: Sequence[Verdict]) -> str:
    """One claim over its protocols, in the words of the protocol: reproduced, not, or only under some."""
    applies: dict[str, list[str]] = {}
    for outcome in get_args(Outcome)[:-1]:
        if found := [v.protocol for v in verdicts if v.outcome == outcome]:
            applies[outcome] = found
    if len(applies) < 2:
        return next(iter(applies), "does not apply")
    if {"reproduced", "not reproduced"} <= applies.keys():
        del applies["not reproduced"]
        applies = {"reproduced only": applies.pop("reproduced")} | applies
    return "; ".join(f"{outcome} under {_listed(protocols)}" for outcome, protocols in applies.items())


def _listed(protocols: Sequence[str]) -> str:
    return " and ".join(f"`{p}`" for p in protocols)


def larger_state(difference: float, high: float, p_holm: float, how: Resampling) -> State:
    """Whether a is larger than b, by the paired difference, its interval's upper end and its corrected p."""
    if p_holm < 1 - how.confidence:
        return "holds" if difference > 0 else "fails"
    return "fails" if high < ALIKE else "open"


def near_zero(what: str, found: Interval, margin: float) -> Check:
    """Equivalence: the whole interval inside ±margin holds, wholly outside fails."""
    inside = found.low > -margin and found.high < margin
    outside = found.low > margin or found.high < -margin
    return _check(what, found, f"margin ±{margin}", "holds" if inside else "fails" if outside else "open")


def below(what: str, found: Interval, limit: float) -> Check:
    """The whole interval below `limit` holds, wholly above fails."""
    state: State = "holds" if found.high < limit else "fails" if found.low > limit else "open"
    return _check(what, found, f"limit {limit}", state)


def _check(what: str, found: Interval, said: str, state: State) -> Check:
    ends = interval(found.low, found.high)
    return enough(found.n, Check(state, f"{what} = {number(found.estimate)} {ends}, n = {found.n}, {said}"))


def enough(n: int, check: Check) -> Check:
    """The check, or a missing one for too few instances."""
    few = f"{check.text}; fewer than {MIN_INSTANCES} instances"
    return Check("missing", few) if n < MIN_INSTANCES else check
