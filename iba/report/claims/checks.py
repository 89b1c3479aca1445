"""The checks of every claim: one function each, of one protocol; the words are in `claims.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations, pairwise, product

import numpy as np
import pandas as pd
from scipy import stats

from iba.evaluation.stats import (
    Interval,
    Resampling,
    effect_size,
    mean_interval,
    mean_intervals,
    ratio_interval,
)
from iba.report import studies
from iba.report.claims.verdict import (
    ALIKE,
    OVER,
    Check,
    State,
    below,
    enough,
    inside,
    larger,
    measured,
)
from iba.report.frame import means_tested
from iba.report.pairs import family, signed
from iba.report.stored import Record, Stored
from iba.report.studies import X_ALONE, StudyRows
from iba.report.text import interval, number, p_value, span, tested

PAPER_SETS = ("imdb", "mnli_matched", "mnli_mismatched", "agnews", "rte")
PAPER_METHODS = ("iba", "ig", "lime", "random")
PROTOCOLS = ("described", "released", "corrected")
#: IBA with the paper's rule of thumb for β.
RULE = "iba_rule"
#: The paper's two best layers.
BEST_LAYERS = (9, 8)
#: The largest β of C5, with room for rounding.
SMALL_BETA = 1.0000001e-6
#: A bottleneck keeps the prediction if the target's probability falls by less than this …
MOVE = 0.05
#: … and discards most of the information if it keeps less than this share of the bits at the start.
MOST = 0.5

Checks = Iterator[Check]


# --- C1, C2, C3: which method has the larger drop at 11 % ---------------------------------------------


def iba_wins(stored: Stored, protocol: str) -> Checks:
    """C1: IBA beats LIME and IG on all sets but AG News; with β by the rule of thumb, where that was run."""
    asked = RULE in stored.methods and stored.known[RULE].belongs(protocol)
    parts = {"C1": "iba", "C1 rule": RULE} if asked else {"C1": "iba"}
    sets = [dataset for dataset in PAPER_SETS if dataset != "agnews"]
    for (part, method), dataset, rival in product(parts.items(), sets, ("lime", "ig")):
        yield beats(stored, part, protocol, dataset, method, rival)


def agnews_exception(stored: Stored, protocol: str) -> Checks:
    """C2: on AG News IG is best."""
    for rival in ("iba", "lime"):
        yield beats(stored, "C2", protocol, "agnews", "ig", rival)


def all_beat_random(stored: Stored, protocol: str) -> Checks:
    """C3: every method beats random on every data set."""
    for dataset, method in product(PAPER_SETS, ("iba", "ig", "lime")):
        yield beats(stored, "C3", protocol, dataset, method, "random")


def beats(stored: Stored, part: str, protocol: str, dataset: str, better: str, worse: str) -> Check:
    """Whether `better` has the larger drop at 11 % than `worse`; the area over the curve stands beside it."""
    tests = family(stored.tests, protocol, dataset)
    drop, area = (signed(tests[tests["measure"] == m], better, worse) for m in ("drop_11", "area_over"))
    what = " − ".join(stored.say("method", method) for method in (better, worse))
    if drop is None or area is None:
        return Check(part, dataset, "not run", f"{what}: not run")
    papers = stored.paper.difference(dataset, better, worse)
    alpha = 1 - stored.how.confidence
    state = larger(
        drop["difference"],
        drop["p_holm"],
        alpha,
        papers,
        lambda: _below_margin(stored.matrix(protocol, dataset), better, worse, stored.how),
    )
    text = (
        f"{what} = {tested(drop)}, n = {drop['n']}, d = {number(drop['effect_size'], 2)}"
        + ("" if papers is None else f" (paper: {number(papers)})")
        + f"; by the area {tested(area)}"
        + (", the other way" if drop["difference"] * area["difference"] < 0 else "")
        + _steps(stored, protocol, dataset, better, worse)
    )
    return enough(int(drop["n"]), Check(part, dataset, state, text))


def _below_margin(drops: pd.DataFrame, better: str, worse: str, how: Resampling) -> float:
    """Holm-corrected p-value of better − worse < `ALIKE`; 1 where it is not smaller.

    All pairs are one family, each in the order that this one has.
    """
    pairs = [*combinations(drops, 2)]
    pairs = pairs if (better, worse) in pairs else [(b, a) for a, b in pairs]
    shifted = pd.DataFrame({(a, b): drops[a] - drops[b] - ALIKE for a, b in pairs})
    found = means_tested(shifted, how).iloc[pairs.index((better, worse))]
    return _one_sided(float(found["estimate"]), float(found["p_holm"]))


def _one_sided(difference: float, p_value: float) -> float:
    """The p-value where the difference is negative, else 1."""
    return p_value if difference < 0 else 1.0


def _steps(stored: Stored, protocol: str, dataset: str, *methods: str) -> str:
    """How many steps IG takes, where it is one of the two."""
    if "ig" not in methods:
        return ""
    return f"; IG takes {stored.record(protocol, dataset, 'ig')['method']['n_steps']} steps"


# --- C4, C5: where the bottleneck goes and how small β may be -----------------------------------------


def best_layers(stored: Stored, protocol: str) -> Checks:
    """C4: layer 9 is the best place on IMDB (a), layer 8 beside it (b), then layer 1 (c)."""
    rows = _on_imdb(stored, "layers", protocol)
    layers = rows.values if rows else []
    if rows and layers == list(range(1, 13)):
        yield from layer_checks(rows.matrix("drop_11"), stored.how, _about(rows))
        return
    for part in ("C4a", "C4b", "C4c"):
        yield Check(part, "imdb", "not run", f"layers run: {', '.join(map(str, layers)) or 'none'}")


def layer_checks(drops: pd.DataFrame, how: Resampling, about: str = "") -> Checks:
    """Each layer against the mean of its rivals and against every one of them; all tests are one Holm family.

    `drops`: instances × layers 1–12. Layer 8 need not beat 9, nor 1 either of them.
    """
    rivals = {
        layer: [other for other in drops if other != layer and other not in better]
        for layer, better in ((9, ()), (8, (9,)), (1, BEST_LAYERS))
    }
    contests = [
        (layer, [*others]) for layer, all_ in rivals.items() for others in (all_, *([o] for o in all_))
    ]
    differences = pd.DataFrame(
        {place: drops[layer] - drops[others].mean(axis=1) for place, (layer, others) in enumerate(contests)}
    )
    plain, shifted = (means_tested(differences - shift, how) for shift in (0, ALIKE))
    for (layer, others), row, p_below in zip(contests, plain.itertuples(), shifted["p_holm"], strict=True):
        mean = Interval(row.estimate, row.ci_low, row.ci_high, row.n)
        smaller = partial(_one_sided, mean.estimate - ALIKE, float(p_below))
        state = larger(mean.estimate, row.p_holm, 1 - how.confidence, None, smaller)
        against = f"layer {others[0]}" if len(others) == 1 else f"the mean of {len(others)} others"
        effect = effect_size(differences[row.Index].to_numpy(float))
        said = f"{p_value(row.p_holm)}, d = {number(effect, 2)}{about}"
        part = {9: "C4a", 8: "C4b", 1: "C4c"}[layer]
        yield measured(part, "imdb", f"layer {layer} − {against}", mean, said, state)


def small_beta(stored: Stored, protocol: str) -> Checks:
    """C5: up to 1e-6, neighbouring β (a) and "X alone" (b) give the same area over the curve."""
    rows = _on_imdb(stored, "betas", protocol)
    if rows is None:
        # where β is chosen on training rows there is nothing to check
        chosen = "tuning" in stored.record(protocol, "imdb", "iba")
        yield from (Check(part, "imdb", "not run", "not run") for part in ("C5a", "C5b") if not chosen)
        return
    areas = rows.matrix("area_over")
    small = [beta for beta in rows.values if float(beta) <= SMALL_BETA]
    pairs = [(f"β = {a:.0e} − β = {b:.0e}", areas[a] - areas[b]) for a, b in pairwise(small)]
    alone = []
    if X_ALONE in rows.reference_records:
        level = rows.level(X_ALONE, "area_over")
        alone = [(f"β = {beta:.0e} − {rows.x_alone()}", areas[beta] - level) for beta in small]
    for part, found, lacking in (
        ("C5a", pairs, "fewer than two β ≤ 1e-6"),
        ("C5b", alone, "no β ≤ 1e-6 or nothing for “X alone”"),
    ):
        if not found:
            yield Check(part, "imdb", "not run", f"{lacking} among the stored rows")
        for what, differences in found:
            mean = mean_interval(differences.to_numpy(float), stored.how)
            said = f"margin ±{ALIKE}{_about(rows)}"
            yield measured(part, "imdb", f"{what}, area over the curve", mean, said, inside(mean, ALIKE))


def _on_imdb(stored: Stored, study: str, protocol: str) -> StudyRows | None:
    found = studies.load(stored, study)
    return next((r for r in found if (r.dataset, r.protocol) == ("imdb", protocol)), None)


def _about(rows: StudyRows) -> str:
    """Where the study cut its texts and on how many rows it chose β."""
    cut = f"; texts cut at {rows.cut} tokens" if rows.cut else ""
    chosen = f"; β chosen for each point on {rows.n_calibration} held-out training rows"
    return f"{cut}{chosen if rows.n_calibration else ''}"


# --- C6: what the methods cost ------------------------------------------------------------------------


def cost_between(stored: Stored, protocol: str) -> Checks:
    """C6: IBA takes longer than IG and LIME longer than IBA, over the five data sets."""
    for fast, slow in (("ig", "iba"), ("iba", "lime")):
        yield _slower(stored, protocol, fast, slow)


def _slower(stored: Stored, protocol: str, fast: str, slow: str) -> Check:
    """Whether `slow` takes more seconds per instance, by the run's own clock; the data sets are the sample.

    The paper's hours are for 25,000 texts, as many as IMDB's test set has, so its ratio stands beside that
    of IMDB alone.
    """
    what = f"seconds of {stored.say('method', slow)} / {stored.say('method', fast)}"
    cells = {d: [stored.record(protocol, d, method) for method in (fast, slow)] for d in PAPER_SETS}
    found = {d: ratio for d, pair in cells.items() if (ratio := _ratio(*pair)) is not None}
    if len(found) < len(PAPER_SETS):
        few = f"{len(found)} of {len(PAPER_SETS)} data sets"
        return Check(
            "C6", OVER, "not run", f"{what}: timed on one device, in one precision, by one version on {few}"
        )
    logs = np.log(list(found.values()))
    low, high = _ends(logs, stored.how.confidence)
    without = np.array([_ends(np.delete(logs, i), stored.how.confidence) for i in range(len(logs))])
    state: State = "open"  # also where one data set decides alone
    if min(low, *without[:, 0]) > 1:
        state = "holds"
    elif max(high, *without[:, 1]) < 1:
        state = "fails"
    spread = " to ".join(number(end(found.values()), 2) for end in (min, max))
    alone = " to ".join(number(float(end(without[:, 0])), 2) for end in (np.min, np.max))
    text = (
        f"{what} = {number(float(np.exp(logs.mean())), 2)} {interval(low, high, 2)}, geometric mean over "
        f"{len(found)} data sets ({spread}) with the t interval over them (its lower end without any one of "
        f"them: {alone}); {span(pair[1]['n'] for pair in cells.values())} texts per data set, whatever ran "
        f"beside them; IMDB alone {number(found['imdb'], 2)}"
    )
    if {fast, slow} <= stored.paper.hours.keys():
        ratio = stored.paper.hours[slow] / stored.paper.hours[fast]
        text += f" (paper, 25,000 instances: {number(ratio, 2)})"
    return Check("C6", OVER, state, text)


def _ends(logs: np.ndarray, confidence: float) -> tuple[float, float]:
    """The t interval of the mean, as ratios."""
    low, high = stats.t.interval(confidence, len(logs) - 1, logs.mean(), stats.sem(logs))
    return float(np.exp(low)), float(np.exp(high))


def _ratio(fast: Record, slow: Record) -> float | None:
    """Seconds of two cells as a ratio; None unless one device, precision and version of the code ran both."""
    made = [cell.get("provenance", {}) for cell in (fast, slow)]
    precisions = [cell.get("settings", {}).get("precision") for cell in (fast, slow)]
    ran = {(m.get("device"), m.get("git_commit"), p) for m, p in zip(made, precisions, strict=True)}
    if len(ran) > 1 or any("seconds_per_instance" not in m for m in made):
        return None
    return float(made[1]["seconds_per_instance"]) / float(made[0]["seconds_per_instance"])


# --- C7: what the bottleneck keeps --------------------------------------------------------------------


def keeps_prediction(stored: Stored, protocol: str) -> Checks:
    """C7: the target loses little probability (a) while most of the bits are gone (b)."""
    for dataset in PAPER_SETS:
        rows = stored.deletion.of(protocol=protocol, dataset=dataset, method="iba").rows
        if "prob_bottleneck" not in rows or rows["prob_bottleneck"].isna().all():
            yield from (Check(part, dataset, "not run", "not run") for part in ("C7a", "C7b"))
            continue
        lost = rows["prob_start"] - rows["prob_bottleneck"]
        loss, right = mean_intervals([lost.to_numpy(float), lost[rows["right"]].to_numpy(float)], stored.how)
        said = f"limit {MOVE}; where the classifier predicts the target {number(right.estimate)} "
        said += f"{interval(right.low, right.high)}, n = {right.n}"
        yield measured("C7a", dataset, "probability lost, X − T", loss, said, below(loss, MOVE))
        kept, start = (rows[name].to_numpy(float) for name in ("bits_per_token", "bits_per_token_start"))
        share = ratio_interval(kept, start, stored.how)
        yield measured("C7b", dataset, "share of the bits kept", share, f"limit {MOST}", below(share, MOST))
