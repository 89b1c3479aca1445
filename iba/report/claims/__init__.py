"""The claims of the paper, each with its test: a claim more is one file here and one line below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from iba.report.claims import cost, kept, order, studies
from iba.report.claims.verdict import Claim, Verdict, overall
from iba.report.rows import Stored

CLAIMS = (*order.CLAIMS, *studies.CLAIMS, *cost.CLAIMS, *kept.CLAIMS)


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict under every protocol."""

    claim: Claim
    verdicts: Sequence[Verdict]

    @property
    def overall(self) -> str:
        """The claim over all protocols."""
        return overall(self.verdicts)


def judge(stored: Stored, tests: pd.DataFrame) -> list[Judged]:
    """All claims under all protocols of the run."""
    return [Judged(c, [c.verdict(stored, tests, p) for p in stored.protocols]) for c in CLAIMS]
