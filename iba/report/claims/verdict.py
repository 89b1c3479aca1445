"""How a check on a claim of the paper is decided, and what its checks make of a part of a claim.

"a is larger than b" *holds* when the paired difference is positive with a Holm-corrected p below
1 − confidence. It *fails* when the difference is negative with such a p, or when a − b lies below `ALIKE` by
the same test with the same correction. Otherwise it is *open*; but where the paper's own difference is below
`ALIKE` it *cannot be decided* at this margin. Fewer than `MIN_INSTANCES` texts are no test
(`results/PREREGISTRATION.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from iba.evaluation.stats import Interval
from iba.report.text import interval, number

State = Literal["fails", "not run", "open", "cannot be decided", "holds"]
#: How tables mark a state; a part takes the first that one of its checks has.
MARKS: dict[State, str] = {"fails": "✗", "not run": "○", "open": "?", "cannot be decided": "≈", "holds": "✓"}
#: Fewer instances than this are not a test of a claim.
MIN_INSTANCES = 200
#: Two drops, or two areas over the curve (mean drops along it), are alike if they differ by less than this
#: probability.
ALIKE = 0.02
#: The column of a check over all data sets.
OVER = "over sets"


@dataclass(frozen=True)
class Check:
    """One comparison that a part of a claim rests on, with its numbers as text."""

    part: str
    dataset: str
    state: State
    text: str


def conclude(states: Iterable[State]) -> State:
    """A part holds if all its checks hold and fails if one fails; else the least decided counts."""
    return min(states, key=[*MARKS].index)


def larger(
    difference: float, p_holm: float, alpha: float, papers: float | None, p_below: Callable[[], float]
) -> State:
    """Whether a is larger than b.

    `papers`: the paper's difference. `p_below`: the corrected p-value of a − b lying below `ALIKE`, asked for
    where nothing else decides.
    """
    if p_holm < alpha:
        return "holds" if difference > 0 else "fails"
    if papers is not None and papers < ALIKE:
        return "cannot be decided"
    return "fails" if p_below() < alpha else "open"


def inside(found: Interval, margin: float) -> State:
    """Equivalence: the whole interval inside ±margin holds, wholly outside fails."""
    if found.low > -margin and found.high < margin:
        return "holds"
    return "fails" if found.low > margin or found.high < -margin else "open"


def below(found: Interval, limit: float) -> State:
    """The whole interval below `limit` holds, wholly above fails."""
    return "holds" if found.high < limit else "fails" if found.low > limit else "open"


def measured(part: str, dataset: str, what: str, found: Interval, said: str, state: State) -> Check:
    """A check of an estimate."""
    text = f"{what} = {number(found.estimate)} {interval(found.low, found.high)}, n = {found.n}, {said}"
    return enough(found.n, Check(part, dataset, state, text))


def enough(n: int, check: Check) -> Check:
    """The check, or one that was not run for too few instances."""
    few = f"{check.text}; fewer than {MIN_INSTANCES} instances"
    return Check(check.part, check.dataset, "not run", few) if n < MIN_INSTANCES else check
