"""A verdict on each claim of the paper, per protocol, that says no more than the stored rows do.

A claim is a list of checks that must all hold. A check on "a is larger than b" *holds* when the paired
difference is positive with a Holm-corrected p below 1 − confidence; it *fails* when it is significantly
negative, or else when its whole interval lies below `ALIKE`, too small a difference to matter; otherwise it
is *open*. The paper's own difference, of another model on other texts, is printed beside ours and decides
nothing. One failed check refutes the claim; with none failed, an open or missing one leaves "not enough
data". Cells below `MIN_INSTANCES` count as missing. `rule` is the same in words for the reader.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from iba.report import study_rows
from iba.report.comparisons import by_drop, signed
from iba.report.rows import Stored
from iba.report.study_rows import X_ALONE, StudyRows
from iba.report.text import interval, number, p_value
from iba.report.timed import span
from iba.stats import Interval, Resampling, effect_size, holm, mean_interval, ratio_interval, sign_flip_test
from iba.store import read_parquet

State = Literal["holds", "fails", "open", "missing"]
Outcome = Literal["reproduced", "not reproduced", "not enough data"]

PAPER_SETS = ("imdb", "mnli_matched", "mnli_mismatched", "agnews", "rte")
PAPER_METHODS = ("iba", "ig", "lime", "random")
PROTOCOLS = ("described", "released", "corrected")
#: Fewer instances than this are not a test of a claim.
MIN_INSTANCES = 200
#: Two drops, or two areas over the curve (mean drops along it), are alike if they differ by less than this
#: probability.
ALIKE = 0.02
#: A bottleneck keeps the prediction if the target's probability moves by less than this …
MOVE = 0.05
#: … and discards most of the information if it keeps less than this share of the bits at the start.
MOST = 0.5
#: The paper's two best layers.
BEST_LAYERS = (8, 9)


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
        f"or if its whole {100 * how.confidence:g} % interval (not corrected for the number of checks) lies "
        f"below {ALIKE}, too small a difference to matter; otherwise it is open. The paper's own difference "
        "is printed beside ours and decides nothing: it is of another model and other texts."
    )


def conclude(claim: str, protocol: str, checks: Sequence[Check]) -> Verdict:
    """One failed check refutes; all must hold to reproduce; everything else is not enough data."""
    count = {
        state: sum(check.state == state for check in checks)
        for state in ("holds", "fails", "open", "missing")
    }
    if count["fails"]:
        outcome: Outcome = "not reproduced"
    elif checks and count["holds"] == len(checks):
        outcome = "reproduced"
    else:
        outcome = "not enough data"
    words = {"holds": "hold", "fails": "fail", "open": "undecided", "missing": "without data"}
    parts = ", ".join(f"{word} {count[state]}" for state, word in words.items() if count[state])
    statement = f"{len(checks)} checks: {parts}" if checks else "nothing stored that could test it"
    return Verdict(claim, protocol, outcome, statement, tuple(checks))


_NO_OTHERS = "; not enough data under the others"


def overall(verdicts: Sequence[Verdict]) -> str:
    """One claim over its protocols, in the words of the protocol: reproduced, not, or only under some."""
    decided = [v for v in verdicts if v.outcome != "not enough data"]
    won = [v.protocol for v in decided if v.outcome == "reproduced"]
    if not decided:
        return "not enough data"
    if not won:
        undecided = "" if len(decided) == len(verdicts) else _NO_OTHERS
        under = f" under {_listed([v.protocol for v in decided])}" if undecided else ""
        return f"not reproduced{under}{undecided}"
    if len(won) == len(verdicts):
        return "reproduced"
    if len(won) == len(decided):
        return f"reproduced under {_listed(won)}{_NO_OTHERS}"
    return f"reproduced only under {_listed(won)}"


def _listed(protocols: Sequence[str]) -> str:
    return " and ".join(f"`{p}`" for p in protocols)


# --- C1, C2, C3: who beats whom at 11 % ---------------------------------------------------------------


def larger(
    stored: Stored, tests: pd.DataFrame, protocol: str, dataset: str, better: str, worse: str
) -> Check:
    """Whether `better` has the larger drop at 11 % than `worse`."""
    family = by_drop(tests)
    family = family[(family["protocol"] == protocol) & (family["dataset"] == dataset)]
    row = signed(family, better, worse) if len(family) else None
    names = stored.names
    what = (
        f"{names.datasets.get(dataset, dataset)}: {names.methods.get(better, better)} − "
        f"{names.methods.get(worse, worse)}"
    )
    if row is None:
        return Check("missing", f"{what}: not run")
    text = (
        f"{what} = {number(row['difference'])} {interval(row['ci_low'], row['ci_high'])}, n = {row['n']}, "
        f"{p_value(row['p_holm'])}, d = {number(row['effect_size'], 2)}"
    )
    theirs = stored.paper.difference(dataset, better, worse)
    if theirs is not None:
        text += f" (paper: {number(theirs)})"
    if row["n"] < MIN_INSTANCES:
        return Check("missing", f"{text}; fewer than {MIN_INSTANCES} instances")
    return Check(_larger_state(row["difference"], row["ci_high"], row["p_holm"], stored.how), text)


def _larger_state(difference: float, high: float, p_holm: float, how: Resampling) -> State:
    """`rule`, of a paired difference, the upper end of its interval and its corrected p."""
    if p_holm < 1 - how.confidence:
        return "holds" if difference > 0 else "fails"
    return "fails" if high < ALIKE else "open"


def iba_wins(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C1: IBA beats LIME and IG on IMDB, MNLI matched, MNLI mismatched and RTE."""
    sets = [d for d in PAPER_SETS if d != "agnews"]
    checks = [larger(stored, tests, protocol, d, "iba", rival) for d in sets for rival in ("lime", "ig")]
    return conclude("C1", protocol, checks)


def agnews_exception(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C2: on AG News IG is best."""
    checks = [larger(stored, tests, protocol, "agnews", "ig", rival) for rival in ("iba", "lime")]
    return conclude("C2", protocol, checks)


def all_beat_random(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C3: every method beats random on every data set."""
    checks = [
        larger(stored, tests, protocol, d, method, "random")
        for d in PAPER_SETS
        for method in ("iba", "ig", "lime")
    ]
    return conclude("C3", protocol, checks)


# --- C4, C5: the layer and β studies on IMDB ----------------------------------------------------------


def study_on_imdb(stored: Stored, study: str, protocol: str) -> StudyRows | None:
    """The study's rows on IMDB under one protocol; None where it was not run."""
    found = study_rows.load(stored, study)
    return next((r for r in found if (r.dataset, r.protocol) == ("imdb", protocol)), None)


def conclude_study(claim: str, protocol: str, rows: StudyRows, checks: Sequence[Check]) -> Verdict:
    """As `conclude`; the statement says where the study cut its texts and on how many rows it chose β."""
    verdict = conclude(claim, protocol, checks)
    cut = f"; texts cut at {rows.cut} tokens" if rows.cut else ""
    chosen = f"; β chosen for each point on {rows.n_calibration} held-out training rows"
    return replace(verdict, statement=f"{verdict.statement}{cut}{chosen if rows.n_calibration else ''}")


def best_layers(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C4: layers 8 and 9 are the best places on IMDB, layer 1 next."""
    rows = study_on_imdb(stored, "layers", protocol)
    if rows is None:
        return conclude("C4", protocol, [])
    drops = rows.matrix("drop_11")
    layers = [int(layer) for layer in drops.columns]
    if layers != list(range(1, 13)):
        return conclude("C4", protocol, [Check("missing", f"layers {layers} of 1–12 were run")])
    return conclude_study("C4", protocol, rows, layer_checks(drops, stored.how))


def layer_checks(drops: pd.DataFrame, how: Resampling) -> list[Check]:
    """8 and 9, each against every other layer, then 1 against the rest; one Holm family.

    `drops`: instances × layers 1–12. 8 and 9 are not compared with each other: the claim names both.
    """
    rest = [layer for layer in range(2, 13) if layer not in BEST_LAYERS]
    contests = [(best, other) for best in BEST_LAYERS for other in (1, *rest)]
    contests += [(1, other) for other in rest]
    differences = np.array([(drops[best] - drops[other]).to_numpy(float) for best, other in contests])
    corrected = holm(sign_flip_test(differences, how.resolving(len(contests))))
    return [
        _difference_check(f"layer {best} − layer {other}", values, float(p), how)
        for (best, other), values, p in zip(contests, differences, corrected, strict=True)
    ]


def _difference_check(what: str, values: np.ndarray, p_holm: float, how: Resampling) -> Check:
    found = mean_interval(values, how)
    text = (
        f"{what} = {number(found.estimate)} {interval(found.low, found.high)}, n = {found.n}, "
        f"{p_value(p_holm)}, d = {number(effect_size(values), 2)}"
    )
    if found.n < MIN_INSTANCES:
        return Check("missing", f"{text}; fewer than {MIN_INSTANCES} instances")
    return Check(_larger_state(found.estimate, found.high, p_holm, how), text)


def small_beta(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C5: β ≤ 1e-6 gives the same degradation curve as X alone."""
    rows = study_on_imdb(stored, "betas", protocol)
    if rows is None:
        return conclude("C5", protocol, [])
    small = {beta: point for beta, point in rows.points.items() if float(beta) <= 1.0000001e-6}
    if X_ALONE not in rows.references or not small:
        lacking = "no β ≤ 1e-6 or nothing for “X alone” among the stored rows"
        return conclude("C5", protocol, [Check("missing", lacking)])
    areas_x = rows.references[X_ALONE].numbers["area_over"]
    checks = [
        _near_zero(
            f"β = {beta:.0e} − {rows.x_alone()}, area over the curve",
            mean_interval((point.numbers["area_over"] - areas_x).to_numpy(float), stored.how),
            ALIKE,
        )
        for beta, point in small.items()
    ]
    return conclude_study("C5", protocol, rows, checks)


def _near_zero(what: str, found: Interval, margin: float) -> Check:
    """Equivalence: the whole interval inside ±margin holds, wholly outside fails."""
    estimate = f"{number(found.estimate)} {interval(found.low, found.high)}"
    text = f"{what} = {estimate}, n = {found.n}, margin ±{margin}"
    if found.n < MIN_INSTANCES:
        return Check("missing", f"{text}; fewer than {MIN_INSTANCES} instances")
    if found.low > -margin and found.high < margin:
        return Check("holds", text)
    return Check("fails" if found.low > margin or found.high < -margin else "open", text)


# --- C6: cost; C7: what the bottleneck keeps ----------------------------------------------------------


def cost_between(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C6: IBA takes longer than IG and LIME longer than IBA, over the five data sets."""
    pairs = (("ig", "iba"), ("iba", "lime"))
    return conclude("C6", protocol, [_slower(stored, protocol, fast, slow) for fast, slow in pairs])


def _slower(stored: Stored, protocol: str, fast: str, slow: str) -> Check:
    """Whether `slow` takes more seconds per instance; the data sets are the sample.

    The paper's hours are for 25,000 texts of IMDB, so its ratio stands beside that of IMDB alone.
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
    spread = stats.t.interval(stored.how.confidence, len(logs) - 1, logs.mean(), stats.sem(logs))
    low, high = (float(np.exp(end)) for end in spread)
    text = (
        f"{what} = {number(float(np.exp(logs.mean())), 2)} {interval(low, high, 2)}, geometric mean over "
        f"{len(found)} data sets ({number(min(found.values()), 2)} to {number(max(found.values()), 2)}) with "
        f"the t interval over them; {source}; IMDB alone {number(found['imdb'], 2)}"
    )
    hours = stored.paper.hours
    if fast in hours and slow in hours:
        text += f" (paper, 25,000 instances of IMDB's size: {number(hours[slow] / hours[fast], 2)})"
    return Check("holds" if low > 1 else "fails" if high < 1 else "open", text)


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
    return found, f"the run's own clock in {' and '.join(precisions)}{texts}"


def _cell_ratio(fast: dict[str, Any], slow: dict[str, Any]) -> float | None:
    """Seconds of two cells as a ratio; None unless one device, precision and version of the code ran both."""
    records = [cell.get("provenance", {}) for cell in (fast, slow)]
    precisions = [cell.get("settings", {}).get("precision") for cell in (fast, slow)]
    ran = {(r.get("device"), r.get("git_commit"), p) for r, p in zip(records, precisions, strict=True)}
    if any("seconds_per_instance" not in r for r in records) or len(ran) > 1:
        return None
    return float(records[1]["seconds_per_instance"]) / float(records[0]["seconds_per_instance"])


def keeps_prediction(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C7: the target's probability survives the bottleneck while most of the bits are gone."""
    checks = [check for dataset in PAPER_SETS for check in _kept(stored, protocol, dataset)]
    return conclude("C7", protocol, checks)


def _kept(stored: Stored, protocol: str, dataset: str) -> list[Check]:
    title = stored.names.datasets.get(dataset, dataset)
    path = stored.folder / dataset / protocol / "iba" / "diagnostics.parquet"
    scores = stored.paper_scores()
    scores = scores[
        (scores["protocol"] == protocol) & (scores["dataset"] == dataset) & (scores["method"] == "iba")
    ]
    if not path.is_file() or scores.empty:
        return [Check("missing", f"{title}: not run")]
    predicted = read_parquet(stored.folder / dataset / "classifier.parquet", ["instance_id", "predicted"])
    targets = stored.curves.loc[stored.curves["dataset"] == dataset, ["instance_id", "target"]]
    rows = (
        read_parquet(path)
        .merge(scores[["instance_id", "prob_start"]], on="instance_id")
        .merge(predicted, on="instance_id")
        .merge(targets.drop_duplicates("instance_id"), on="instance_id")
    )
    moved = mean_interval((rows["prob_bottleneck"] - rows["prob_start"]).to_numpy(float), stored.how)
    agreed = rows[rows["predicted"] == rows["target"]]
    change = mean_interval((agreed["prob_bottleneck"] - agreed["prob_start"]).to_numpy(float), stored.how)
    aside = (
        f" (where the classifier predicts the target, n = {change.n}: {number(change.estimate)} "
        f"{interval(change.low, change.high)})"
    )
    bits = ratio_interval(
        rows["bits_per_token"].to_numpy(float), rows["bits_per_token_start"].to_numpy(float), stored.how
    )
    return [
        _near_zero(f"{title}: target's probability with T − with X{aside}", moved, MOVE),
        _below(f"{title}: share of the bits at the start that is kept", bits, MOST),
    ]


def _below(what: str, found: Interval, limit: float) -> Check:
    text = (
        f"{what} = {number(found.estimate)} {interval(found.low, found.high)}, n = {found.n}, limit {limit}"
    )
    if found.n < MIN_INSTANCES:
        return Check("missing", f"{text}; fewer than {MIN_INSTANCES} instances")
    if found.high < limit:
        return Check("holds", text)
    return Check("fails" if found.low > limit else "open", text)


CLAIMS = (
    Claim(
        "C1",
        "IBA beats LIME and IG on IMDB, MNLI matched, MNLI mismatched and RTE (drop at 11 %)",
        "Paired sign-flip permutation test of the mean difference, Holm-corrected over the six pairs of "
        "methods of a data set and protocol; 8 comparisons, all must hold. The same pairs by the area over "
        "the curve: `measure` in `tests.csv`.",
        iba_wins,
    ),
    Claim(
        "C2",
        "AG News is the exception: IG is best there",
        "The same test, IG against IBA and against LIME.",
        agnews_exception,
    ),
    Claim("C3", "Every method beats random", "The same test, 3 methods on 5 data sets.", all_beat_random),
    Claim(
        "C4",
        "Layers 8 and 9, then 1, are the best places for the bottleneck on IMDB",
        "Layer study: drop at 11 % of layer 8 and of layer 9, each against each of the ten others, and of "
        "layer 1 against the remaining nine; sign-flip test, Holm-corrected over all 29 comparisons.",
        best_layers,
    ),
    Claim(
        "C5",
        "β ≤ 1e-6 behaves like X alone",
        "β study: equivalence of the areas over the curve, the interval of the paired difference "
        f"inside ±{ALIKE}. For the paper's “X alone”, which it does not define, stands what IBA ranks "
        "tokens by before its first step: under per-feature noise the norm of the standardised X, "
        "‖(X − μ)/σ‖; under the released code's noise the norm of the layer's update, ‖X_l − X_(l−1)‖. Each "
        "check names its own.",
        small_beta,
    ),
    Claim(
        "C6",
        "IBA's cost lies between IG's and LIME's",
        "Ratios of wall-clock seconds per instance on one device by one version of the code (IBA / IG and "
        "LIME / IBA), from the benchmark where it timed the same methods: t interval of the mean log ratio "
        "over the five data sets, wholly above 1. Each line says what was timed of our own code; the paper's "
        "hours are for 25,000 texts of IMDB's length on one GPU, so IMDB's own ratio is printed beside "
        "them.",
        cost_between,
    ),
    Claim(
        "C7",
        "The optimised bottleneck keeps the prediction and discards most of the information",
        f"Mean change of the target's probability with T in place of X inside ±{MOVE}, and share of the bits "
        f"at the start that is kept below {MOST}, by their intervals, on each of the five data sets.",
        keeps_prediction,
    ),
)


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
