"""The claims of the paper: words in `claims.yaml`, checks in `checks.py`, one matrix of answers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd
from omegaconf import OmegaConf

from iba.evaluation.stats import Resampling
from iba.report.claims import checks
from iba.report.claims.verdict import ALIKE, MARKS, MIN_INSTANCES, OVER, conclude
from iba.report.stored import Stored
from iba.report.text import Grid

TESTS: dict[str, Callable[[Stored, str], checks.Checks]] = {
    "C1": checks.iba_wins,
    "C2": checks.agnews_exception,
    "C3": checks.all_beat_random,
    "C4": checks.best_layers,
    "C5": checks.small_beta,
    "C6": checks.cost_between,
    "C7": checks.keeps_prediction,
}
COLUMNS = ["claim", "part", "dataset", "protocol", "state", "check"]


@cache
def words() -> dict[str, Any]:
    """What `claims.yaml` says, with the limits of the checks."""
    text = files(__package__).joinpath("claims.yaml").read_text("utf-8")
    limits = {"alike": ALIKE, "move": checks.MOVE, "most": checks.MOST, "min": MIN_INSTANCES}
    for name, limit in limits.items():
        text = text.replace(f"{{{name}}}", str(limit))
    found: Any = OmegaConf.to_container(OmegaConf.create(text))
    return found


def rule(how: Resampling) -> str:
    """How a check on "a is larger than b" is decided, in Markdown."""
    text: str = words()["rule"]
    return text.format(alpha=f"{1 - how.confidence:.2g}")


def legend() -> str:
    """What the marks of the matrix mean, in Markdown."""
    meanings = (f"{MARKS[state]} {state}: {meaning}" for state, meaning in words()["states"].items())
    return "; ".join([*meanings, "–: nothing to check"]) + "."


def judge(stored: Stored) -> pd.DataFrame:
    """`checks.csv`: every check of every claim under every protocol of the run."""
    rows = [
        (claim, check.part, check.dataset, protocol, check.state, check.text)
        for claim, test in TESTS.items()
        for protocol in stored.protocols
        for check in test(stored, protocol)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def matrix(stored: Stored, judged: pd.DataFrame) -> Grid:
    """Parts of claims against data sets; a cell has a mark for each protocol, in their order."""
    parts = judged.groupby(["part", "dataset", "protocol"])["state"].agg(
        lambda states: MARKS[conclude(states)]
    )
    marks = (
        parts.unstack()
        .reindex(columns=stored.protocols)
        .fillna("–")
        .agg("".join, axis=1)
        .unstack()
        .fillna("")
    )
    titles = {part: title for claim in words()["claims"].values() for part, title in claim["parts"].items()}
    columns = [name for name in (*checks.PAPER_SETS, OVER) if name in marks]
    return Grid(
        f"Claims of the paper, by part, data set and protocol ({', '.join(stored.protocols)})",
        ["part", *(stored.say("dataset", name) for name in columns)],
        [[f"{part}. {titles[part]}", *marks.loc[part, columns]] for part in titles if part in marks.index],
        [legend()],
    )
