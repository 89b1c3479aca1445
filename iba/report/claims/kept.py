"""C7: what the bottleneck keeps."""

from __future__ import annotations

import pandas as pd

from iba.evaluation.stats import mean_interval, ratio_interval
from iba.pipeline.store import read_parquet
from iba.report.claims.verdict import PAPER_SETS, Check, Claim, Verdict, below, conclude, near_zero
from iba.report.rows import Stored
from iba.report.text import interval, number

#: A bottleneck keeps the prediction if the target's probability moves by less than this …
MOVE = 0.05
#: … and discards most of the information if it keeps less than this share of the bits at the start.
MOST = 0.5


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
        near_zero(f"{title}: target's probability with T − with X{aside}", moved, MOVE),
        below(f"{title}: share of the bits at the start that is kept", bits, MOST),
    ]


CLAIMS = (
    Claim(
        "C7",
        "The optimised bottleneck keeps the prediction and discards most of the information",
        f"Mean change of the target's probability with T in place of X inside ±{MOVE}, and share of the bits "
        f"at the start that is kept below {MOST}, by their intervals, on each of the five data sets. Both "
        "limits are this project's. A positive change means that T makes the target more probable than X "
        "does, as the loss asks, where the classifier was not sure of it; a share above 1, that with so "
        "small a β the optimisation adds bits.",
        keeps_prediction,
    ),
)
