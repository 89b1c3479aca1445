"""C4, C5: where the bottleneck goes and how small β may be, by the studies on IMDB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from iba.evaluation.stats import Resampling, effect_size, holm, mean_interval, sign_flip_test
from iba.report import study_rows
from iba.report.claims.verdict import (
    ALIKE,
    MIN_INSTANCES,
    Check,
    Claim,
    Verdict,
    conclude,
    larger_state,
    near_zero,
)
from iba.report.rows import Stored
from iba.report.study_rows import X_ALONE, StudyRows
from iba.report.text import interval, number, p_value

#: The paper's two best layers.
BEST_LAYERS = (8, 9)


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
    return Check(larger_state(found.estimate, found.high, p_holm, how), text)


def small_beta(stored: Stored, tests: pd.DataFrame, protocol: str) -> Verdict:
    """C5: β ≤ 1e-6 gives the same degradation curve as X alone."""
    rows = study_on_imdb(stored, "betas", protocol)
    if rows is None:
        settings = stored.cells.get((protocol, "imdb", "iba"), {}).get("settings", {}).get("method", {})
        if settings.get("beta") == "calibrated":
            return Verdict("C5", protocol, "does not apply", "β is chosen on training rows there")
        return conclude("C5", protocol, [])
    small = {beta: point for beta, point in rows.points.items() if float(beta) <= 1.0000001e-6}
    if X_ALONE not in rows.references or not small:
        lacking = "no β ≤ 1e-6 or nothing for “X alone” among the stored rows"
        return conclude("C5", protocol, [Check("missing", lacking)])
    areas_x = rows.references[X_ALONE].numbers["area_over"]
    checks = [
        near_zero(
            f"β = {beta:.0e} − {rows.x_alone()}, area over the curve",
            mean_interval((point.numbers["area_over"] - areas_x).to_numpy(float), stored.how),
            ALIKE,
        )
        for beta, point in small.items()
    ]
    return conclude_study("C5", protocol, rows, checks)


CLAIMS = (
    Claim(
        "C4",
        "Layers 8 and 9, then 1, are the best places for the bottleneck on IMDB",
        "Layer study: drop at 11 % of layer 8 and of layer 9, each against each of the ten others, and of "
        "layer 1 against the remaining nine; sign-flip test, Holm-corrected over all 29 comparisons. The "
        "paper's words: layers 1, 8 and 9 give more meaningful scores (Section 4.2), and the earlier the "
        "layer, the larger the drop, except after 8 and 9 (Appendix B; drawn in Figure 4, not tested).",
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
)
