"""C6: what the methods cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from iba.report.claims.verdict import PAPER_SETS, Check, Claim, Verdict, conclude
from iba.report.rows import Stored
from iba.report.text import interval, number
from iba.report.timed import span


def cost_between(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C6: IBA takes longer than IG and LIME longer than IBA, over the five data sets."""
    pairs = (("ig", "iba"), ("iba", "lime"))
    return conclude("C6", protocol, [_slower(stored, protocol, fast, slow) for fast, slow in pairs])


def _slower(stored: Stored, protocol: str, fast: str, slow: str) -> Check:
    """Whether `slow` takes more seconds per instance; the data sets are the sample.

    The paper's hours are for 25,000 texts, as many as IMDB's test set has, so its ratio stands beside that
    of IMDB alone.
    """
    what = f"seconds of {stored.names.methods.get(slow, slow)} / {stored.names.methods.get(fast, fast)}"
    found, source = _time_ratios(stored, protocol, fast, slow)
    if len(found) < len(PAPER_SETS):
        return Check(
            "missing",
            f"{what}: timed on one device, in one precision, by one version on {len(found)} of "
            f"{len(PAPER_SETS)} data sets",
        )
    logs = np.log(list(found.values()))
    low, high = _ends(logs, stored.how.confidence)
    without = [_ends(np.delete(logs, i), stored.how.confidence)[0] for i in range(len(logs))]
    text = (
        f"{what} = {number(float(np.exp(logs.mean())), 2)} {interval(low, high, 2)}, geometric mean over "
        f"{len(found)} data sets ({number(min(found.values()), 2)} to {number(max(found.values()), 2)}) with "
        f"the t interval over them (its lower end without any one of them: {number(min(without), 2)} to "
        f"{number(max(without), 2)}); {source}; IMDB alone {number(found['imdb'], 2)}"
    )
    hours = stored.paper.hours
    if fast in hours and slow in hours:
        text += f" (paper, 25,000 instances: {number(hours[slow] / hours[fast], 2)})"
    return Check("holds" if low > 1 else "fails" if high < 1 else "open", text)


def _ends(logs: np.ndarray, confidence: float) -> tuple[float, float]:
    """The t interval of the mean, as ratios."""
    low, high = stats.t.interval(confidence, len(logs) - 1, logs.mean(), stats.sem(logs))
    return float(np.exp(low)), float(np.exp(high))


def _time_ratios(stored: Stored, protocol: str, fast: str, slow: str) -> tuple[dict[str, float], str]:
    """Time of `slow` over that of `fast` on each data set, and where it was taken.

    From a benchmark of the same methods on all five data sets, where one is stored; else from the run's own
    cells, where one device and one version of the code ran both.
    """
    cells = {
        (dataset, method): stored.cells.get((protocol, dataset, method), {})
        for dataset in PAPER_SETS
        for method in (fast, slow)
    }
    for timed in stored.timed:
        same = all(timed.stands_for(*which, cell) for which, cell in cells.items())
        ratios = timed.ratios(PAPER_SETS, fast, slow) if same else None
        if ratios is not None:
            plain = number(timed.reference_ratio("imdb", fast, slow), 2)
            return (
                ratios,
                f"{timed.described(PAPER_SETS)} (of its straightforward reference, on IMDB {plain})",
            )
    own = {dataset: _cell_ratio(cells[dataset, fast], cells[dataset, slow]) for dataset in PAPER_SETS}
    found = {dataset: ratio for dataset, ratio in own.items() if ratio is not None}
    ran = [cells[dataset, slow] for dataset in found]
    precisions = sorted({str(cell.get("settings", {}).get("precision", "unknown precision")) for cell in ran})
    sizes = [cell["n"] for cell in ran if "n" in cell]
    texts = f", {span(sizes)} texts per data set" if sizes else ""
    return found, f"the run's own clock, whatever ran beside it, in {' and '.join(precisions)}{texts}"


def _cell_ratio(fast: dict[str, Any], slow: dict[str, Any]) -> float | None:
    """Seconds of two cells as a ratio; None unless one device, precision and version of the code ran both."""
    records = [cell.get("provenance", {}) for cell in (fast, slow)]
    precisions = [cell.get("settings", {}).get("precision") for cell in (fast, slow)]
    ran = {(r.get("device"), r.get("git_commit"), p) for r, p in zip(records, precisions, strict=True)}
    if any("seconds_per_instance" not in r for r in records) or len(ran) > 1:
        return None
    return float(records[1]["seconds_per_instance"]) / float(records[0]["seconds_per_instance"])


CLAIMS = (
    Claim(
        "C6",
        "IBA's cost lies between IG's and LIME's",
        "Ratios of wall-clock seconds per instance on one device by one version of the code (IBA / IG and "
        "LIME / IBA), from the benchmark where it timed the same methods: t interval of the mean log ratio "
        "over the five data sets, wholly above 1. They are few, and the two MNLI sets are alike: how much "
        "hangs on one of them is printed beside the interval. Each line says what was timed of our own code; "
        "the paper's hours are for 25,000 texts on one GPU, as many as IMDB's test set has, so IMDB's own "
        "ratio is printed beside them.",
        cost_between,
    ),
)
