"""The checks of every claim: one function each, whose words are in `claims.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from iba.evaluation.stats import (
    Resampling,
    effect_size,
    holm,
    mean_interval,
    mean_intervals,
    ratio_interval,
    sign_flip_test,
)
from iba.report import studies
from iba.report.claims.verdict import (
    ALIKE,
    Check,
    Verdict,
    below,
    conclude,
    enough,
    larger_state,
    near_zero,
)
from iba.report.pairs import by_drop, family, signed
from iba.report.stored import Record, Stored
from iba.report.studies import X_ALONE, StudyRows
from iba.report.tables import sanity
from iba.report.text import interval, number, p_value, span

PAPER_SETS = ("imdb", "mnli_matched", "mnli_mismatched", "agnews", "rte")
PAPER_METHODS = ("iba", "ig", "lime", "random")
PROTOCOLS = ("described", "released", "corrected")
#: The study of IG's steps, of which Table 1 has the paper's ten.
STEPS = "ig_steps"
#: The paper's two best layers.
BEST_LAYERS = (8, 9)
#: A bottleneck keeps the prediction if the target's probability moves by less than this …
MOVE = 0.05
#: … and discards most of the information if it keeps less than this share of the bits at the start.
MOST = 0.5


# --- C1, C2, C3: which method has the larger drop at 11 % ---------------------------------------------


def iba_wins(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C1: IBA beats LIME and IG on IMDB, MNLI matched, MNLI mismatched and RTE."""
    sets = [d for d in PAPER_SETS if d != "agnews"]
    checks = [larger(stored, tests, protocol, d, "iba", rival) for d, rival in product(sets, ("lime", "ig"))]
    return conclude(protocol, checks)


def agnews_exception(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C2: on AG News IG is best."""
    checks = [larger(stored, tests, protocol, "agnews", "ig", rival) for rival in ("iba", "lime")]
    return conclude(protocol, checks)


def all_beat_random(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C3: every method beats random on every data set."""
    pairs = product(PAPER_SETS, ("iba", "ig", "lime"))
    return conclude(protocol, [larger(stored, tests, protocol, d, method, "random") for d, method in pairs])


def larger(
    stored: Stored, tests: pd.DataFrame, protocol: str, dataset: str, better: str, worse: str
) -> Check:
    """Whether `better` has the larger drop at 11 % than `worse`."""
    row, names = signed(family(by_drop(tests), protocol, dataset), better, worse), stored.names
    methods = " − ".join(names.methods.get(method, method) for method in (better, worse))
    what = f"{names.datasets.get(dataset, dataset)}: {methods}"
    if row is None:
        return Check("missing", f"{what}: not run")
    text = (
        f"{what} = {number(row['difference'])} {interval(row['ci_low'], row['ci_high'])}, n = {row['n']}, "
        f"{p_value(row['p_holm'])}, d = {number(row['effect_size'], 2)}"
    )
    theirs = stored.paper.difference(dataset, better, worse)
    text += "" if theirs is None else f" (paper: {number(theirs)})"
    text += _with_more_steps(stored, protocol, dataset, better, worse)
    state = larger_state(row["difference"], row["ci_high"], row["p_holm"], stored.how)
    return enough(int(row["n"]), Check(state, text))


def _with_more_steps(stored: Stored, protocol: str, dataset: str, better: str, worse: str) -> str:
    """IBA's lead over IG, or IG's over IBA, where IG takes more steps than in Table 1; decides nothing."""
    if {better, worse} != {"iba", "ig"}:
        return ""
    rows = sanity.of_study(stored, STEPS)
    if "over_rival" not in rows:
        return ""
    rows = family(rows, protocol, dataset)
    rows = rows[(rows["method"] == "ig") & (rows["point"] != sanity.STUDIES[STEPS].base)]
    text = ""
    for row in rows.dropna(subset="over_rival").itertuples():
        ends = (row.over_rival, row.over_rival_low, row.over_rival_high)
        mean, low, high = ends if better == "ig" else (-ends[0], -ends[2], -ends[1])
        text += f"; with {row.point} steps of IG {number(mean)} {interval(low, high)}, n = {row.n}"
    return text


# --- C4, C5: where the bottleneck goes and how small β may be -----------------------------------------


def best_layers(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C4: layers 8 and 9 are the best places on IMDB, layer 1 next."""
    rows = _on_imdb(stored, "layers", protocol)
    if rows is None:
        return conclude(protocol, [])
    if rows.values != list(range(1, 13)):
        return conclude(protocol, [Check("missing", f"layers {rows.values} of 1–12 were run")])
    return conclude(protocol, layer_checks(rows.matrix("drop_11"), stored.how), _study_notes(rows))


def layer_checks(drops: pd.DataFrame, how: Resampling) -> list[Check]:
    """8 and 9, each against every other layer, then 1 against the rest; one Holm family.

    `drops`: instances × layers 1–12. 8 and 9 are not compared with each other: the claim names both.
    """
    rest = [layer for layer in range(2, 13) if layer not in BEST_LAYERS]
    contests = [*product(BEST_LAYERS, (1, *rest)), *product((1,), rest)]
    differences = [(drops[best] - drops[other]).to_numpy(float) for best, other in contests]
    corrected = holm(sign_flip_test(np.array(differences), how.resolving(len(contests))))
    means = mean_intervals(differences, how)
    return [
        enough(
            mean.n,
            Check(
                larger_state(mean.estimate, mean.high, float(p), how),
                f"layer {best} − layer {other} = {number(mean.estimate)} {interval(mean.low, mean.high)}, "
                f"n = {mean.n}, {p_value(float(p))}, d = {number(effect_size(values), 2)}",
            ),
        )
        for (best, other), values, mean, p in zip(contests, differences, means, corrected, strict=True)
    ]


def small_beta(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C5: β ≤ 1e-6 gives the same degradation curve as X alone."""
    rows = _on_imdb(stored, "betas", protocol)
    if rows is None:
        if "tuning" in stored.record(protocol, "imdb", "iba"):
            return Verdict(protocol, "does not apply", "β is chosen on training rows there")
        return conclude(protocol, [])
    small = [beta for beta in rows.values if float(beta) <= 1.0000001e-6]
    if X_ALONE not in rows.reference_records or not small:
        lacking = "no β ≤ 1e-6 or nothing for “X alone” among the stored rows"
        return conclude(protocol, [Check("missing", lacking)])
    areas, alone = rows.matrix("area_over"), rows.level(X_ALONE, "area_over")
    checks = [
        near_zero(
            f"β = {beta:.0e} − {rows.x_alone()}, area over the curve",
            mean_interval((areas[beta] - alone).to_numpy(float), stored.how),
            ALIKE,
        )
        for beta in small
    ]
    return conclude(protocol, checks, _study_notes(rows))


def _on_imdb(stored: Stored, study: str, protocol: str) -> StudyRows | None:
    found = studies.load(stored, study)
    return next((r for r in found if (r.dataset, r.protocol) == ("imdb", protocol)), None)


def _study_notes(rows: StudyRows) -> str:
    """Where the study cut its texts and on how many rows it chose β."""
    cut = f"; texts cut at {rows.cut} tokens" if rows.cut else ""
    chosen = f"; β chosen for each point on {rows.n_calibration} held-out training rows"
    return f"{cut}{chosen if rows.n_calibration else ''}"


# --- C6: what the methods cost ------------------------------------------------------------------------


def cost_between(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C6: IBA takes longer than IG and LIME longer than IBA, over the five data sets."""
    pairs = (("ig", "iba"), ("iba", "lime"))
    return conclude(protocol, [_slower(stored, protocol, fast, slow) for fast, slow in pairs])


def _slower(stored: Stored, protocol: str, fast: str, slow: str) -> Check:
    """Whether `slow` takes more seconds per instance; the data sets are the sample.

    The paper's hours are for 25,000 texts, as many as IMDB's test set has, so its ratio stands beside that
    of IMDB alone.
    """
    what = f"seconds of {stored.names.methods.get(slow, slow)} / {stored.names.methods.get(fast, fast)}"
    found, source = _time_ratios(stored, protocol, fast, slow)
    if len(found) < len(PAPER_SETS):
        few = f"{len(found)} of {len(PAPER_SETS)} data sets"
        return Check("missing", f"{what}: timed on one device, in one precision, by one version on {few}")
    logs = np.log(list(found.values()))
    low, high = _ends(logs, stored.how.confidence)
    without = [_ends(np.delete(logs, i), stored.how.confidence)[0] for i in range(len(logs))]
    text = (
        f"{what} = {number(float(np.exp(logs.mean())), 2)} {interval(low, high, 2)}, geometric mean over "
        f"{len(found)} data sets ({number(min(found.values()), 2)} to {number(max(found.values()), 2)}) with "
        f"the t interval over them (its lower end without any one of them: {number(min(without), 2)} to "
        f"{number(max(without), 2)}); {source}; IMDB alone {number(found['imdb'], 2)}"
    )
    if {fast, slow} <= stored.paper.hours.keys():
        ratio = stored.paper.hours[slow] / stored.paper.hours[fast]
        text += f" (paper, 25,000 instances: {number(ratio, 2)})"
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
    cells = {(d, m): stored.record(protocol, d, m) for d, m in product(PAPER_SETS, (fast, slow))}
    for timed in stored.timed:
        same = all(timed.stands_for(*which, cell) for which, cell in cells.items())
        ratios = timed.ratios(PAPER_SETS, fast, slow) if same else None
        if ratios is not None:
            plain = number(timed.reference_ratio("imdb", fast, slow), 2)
            source = f"{timed.described(PAPER_SETS)} (of its straightforward reference, on IMDB {plain})"
            return ratios, source
    own = {dataset: _cell_ratio(cells[dataset, fast], cells[dataset, slow]) for dataset in PAPER_SETS}
    found = {dataset: ratio for dataset, ratio in own.items() if ratio is not None}
    return found, _own_clock([cells[dataset, slow] for dataset in found])


def _own_clock(ran: Sequence[Record]) -> str:
    precisions = sorted({str(cell.get("settings", {}).get("precision", "unknown precision")) for cell in ran})
    sizes = [cell["n"] for cell in ran if "n" in cell]
    texts = f", {span(sizes)} texts per data set" if sizes else ""
    return f"the run's own clock, whatever ran beside it, in {' and '.join(precisions)}{texts}"


def _cell_ratio(fast: Record, slow: Record) -> float | None:
    """Seconds of two cells as a ratio; None unless one device, precision and version of the code ran both."""
    made = [cell.get("provenance", {}) for cell in (fast, slow)]
    precisions = [cell.get("settings", {}).get("precision") for cell in (fast, slow)]
    ran = {(m.get("device"), m.get("git_commit"), p) for m, p in zip(made, precisions, strict=True)}
    if len(ran) > 1 or any("seconds_per_instance" not in m for m in made):
        return None
    return float(made[1]["seconds_per_instance"]) / float(made[0]["seconds_per_instance"])


# --- C7: what the bottleneck keeps --------------------------------------------------------------------


def keeps_prediction(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C7: the target's probability survives the bottleneck while most of the bits are gone."""
    return conclude(protocol, [check for d in PAPER_SETS for check in _kept(stored, protocol, d)])


def _kept(stored: Stored, protocol: str, dataset: str) -> list[Check]:
    title = stored.names.datasets.get(dataset, dataset)
    rows = stored.deletion.of(protocol=protocol, dataset=dataset, method="iba").rows
    if "prob_bottleneck" not in rows or rows["prob_bottleneck"].isna().all():
        return [Check("missing", f"{title}: not run")]
    moved = rows["prob_bottleneck"] - rows["prob_start"]
    change, agreed = mean_intervals([moved.to_numpy(float), moved[rows["right"]].to_numpy(float)], stored.how)
    aside = (
        f" (where the classifier predicts the target, n = {agreed.n}: {number(agreed.estimate)} "
        f"{interval(agreed.low, agreed.high)})"
    )
    kept, start = (rows[name].to_numpy(float) for name in ("bits_per_token", "bits_per_token_start"))
    return [
        near_zero(f"{title}: target's probability with T − with X{aside}", change, MOVE),
        below(
            f"{title}: share of the bits at the start that is kept",
            ratio_interval(kept, start, stored.how),
            MOST,
        ),
    ]
