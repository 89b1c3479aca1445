"""The claims of the paper: words in `claims.yaml`, a check function each in `checks.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from iba.evaluation.stats import Resampling
from iba.report.claims import checks
from iba.report.claims.verdict import ALIKE, MIN_INSTANCES, Verdict, overall
from iba.report.stored import Stored

Test = Callable[[Stored, pd.DataFrame, str], Verdict]
TESTS: dict[str, Test] = {
    "C1": checks.iba_wins,
    "C2": checks.agnews_exception,
    "C3": checks.all_beat_random,
    "C4": checks.best_layers,
    "C5": checks.small_beta,
    "C6": checks.cost_between,
    "C7": checks.keeps_prediction,
}


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in words, and how it is tested."""

    name: str
    title: str
    test: str


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict under every protocol."""

    claim: Claim
    verdicts: Sequence[Verdict]

    @property
    def overall(self) -> str:
        """The claim over all protocols."""
        return overall(self.verdicts)


@cache
def words() -> dict[str, Any]:
    """What `claims.yaml` says, with the limits of the checks."""
    text = files(__package__).joinpath("claims.yaml").read_text("utf-8")
    found: Any = OmegaConf.to_container(OmegaConf.create(text))
    limits = {"alike": ALIKE, "move": checks.MOVE, "most": checks.MOST, "min": MIN_INSTANCES}
    claims = {
        name: Claim(name, c["title"], c["test"].format(**limits)) for name, c in found["claims"].items()
    }
    outcomes = {outcome: meaning.format(**limits) for outcome, meaning in found["outcomes"].items()}
    return {"claims": claims, "outcomes": outcomes, "rule": found["rule"]}


def rule(how: Resampling) -> str:
    """How a check on "a is larger than b" is decided, in one sentence of Markdown."""
    text: str = words()["rule"]
    return text.format(alpha=f"{1 - how.confidence:.2g}", percent=how.percent, alike=ALIKE)


def judge(stored: Stored, tests: pd.DataFrame) -> list[Judged]:
    """All claims under all protocols of the run."""
    claims: dict[str, Claim] = words()["claims"]
    return [
        Judged(claims[name], [test(stored, tests, p) for p in stored.protocols])
        for name, test in TESTS.items()
    ]


def single_checks(judged: Sequence[Judged]) -> pd.DataFrame:
    """`checks.csv`: every check of every claim under every protocol."""
    return pd.DataFrame(
        [
            (one.claim.name, verdict.protocol, verdict.outcome, check.state, check.text)
            for one in judged
            for verdict in one.verdicts
            for check in verdict.checks
        ],
        columns=["claim", "protocol", "verdict", "state", "check"],
    )
