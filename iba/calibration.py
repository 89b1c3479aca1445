"""What IBA learns from training data: the noise statistics of a layer, and β.

β does not transfer between models, layers or noise models, so under `corrected` it is chosen on training
rows that were held out from fine-tuning (`n_calibration` of the data set): every β of a logarithmic grid
attributes them, and the one whose ranking makes the target's probability fall most at the first
degradation step (11 %) is taken; of equals, the smallest. The paper's rule of thumb, β ≈ 10 × L_CE / L_IB
with both losses at the start of the optimisation, is stored beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from iba.attributor import FitData, State
from iba.data.tokens import Instance, buckets
from iba.degradation import Ranked, curve, removal_order
from iba.encoder import Classifier
from iba.errors import UserError
from iba.variants import run_grouped

if TYPE_CHECKING:
    from iba.method import InformationBottleneck

FIRST_STEP = 1 / 9


def feature_statistics(classifier: Classifier, data: FitData, layer: int, n_instances: int) -> State:
    """Mean and standard deviation per feature of `layer`'s output over the tokens of training instances.

    The first `n_instances` training rows (already in seeded random order), special tokens counted,
    padding not. Accumulated in float64, so the result does not depend on batching. The layers below
    are met on the way: theirs are kept in `data.shared`.
    """
    key = ("feature_statistics", layer, n_instances)
    if key not in data.shared:
        found = _statistics_up_to(classifier, list(data.train[:n_instances]), layer)
        data.shared.update({("feature_statistics", number, n_instances): s for number, s in found.items()})
    state: State = data.shared[key]
    return dict(state)


def _statistics_up_to(classifier: Classifier, rows: list[Instance], layer: int) -> dict[int, State]:
    shape = (layer, classifier.hidden_size)
    total = torch.zeros(shape, dtype=torch.float64, device=classifier.device)
    squares, count = torch.zeros_like(total), 0
    for group in buckets([len(r) for r in rows], classifier.token_budget):
        batch = classifier.batch([rows[i] for i in group])
        states = classifier.hidden_states(batch, list(range(1, layer + 1)))
        for row, number in enumerate(states):
            values = states[number][batch.attention_mask].double()
            total[row] += values.sum(0)
            squares[row] += values.square().sum(0)
        count += int(batch.attention_mask.sum())
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(1e-3)
    return {
        number: {
            "noise_mean": mean[number - 1].float().cpu(),
            "noise_std": std[number - 1].float().cpu(),
            "n_statistics_instances": torch.tensor(len(rows)),
            "n_statistics_tokens": torch.tensor(count),
        }
        for number in range(1, layer + 1)
    }


def select_beta(
    method: InformationBottleneck,
    classifier: Classifier,
    data: FitData,
    state: State,
    grid: Sequence[float],
) -> State:
    """The β of `grid` with the largest mean drop at 11 % on the calibration rows; all drops are returned."""
    if not grid or not data.calibration:
        raise UserError("beta=calibrated needs a beta_grid and n_calibration > 0 training rows.")
    rows = list(data.calibration)
    drops, ratio = [], torch.tensor(torch.nan)
    for beta in sorted(grid):
        fixed = method.with_beta(beta, state)
        scores, ratios = _attribute(fixed, classifier, rows)
        drops.append(_mean_drop(classifier, rows, scores))
        ratio = torch.tensor(float(np.median(ratios)))
    best = int(np.argmax(drops))
    return {
        "beta": torch.tensor(sorted(grid)[best], dtype=torch.float64),
        "beta_grid": torch.tensor(sorted(grid), dtype=torch.float64),
        "calibration_drop_11": torch.tensor(drops, dtype=torch.float64),
        "beta_rule_of_thumb": ratio,
        "n_calibration": torch.tensor(len(rows)),
    }


def _attribute(
    method: InformationBottleneck, classifier: Classifier, rows: list[Instance]
) -> tuple[list[Tensor], list[float]]:
    scores: list[Tensor] = [torch.empty(0)] * len(rows)
    ratios = [0.0] * len(rows)

    def work(group: list[int]) -> None:
        batch = classifier.batch([rows[i] for i in group])
        target = torch.tensor([rows[i].example.label for i in group], device=classifier.device)
        found = method.attribute(classifier, batch, target)
        rule = 10 * found.per_instance["cross_entropy_nats_start"] / found.per_instance["mean_kl_nats_start"]
        for row, position in enumerate(group):
            scores[position] = found.scores[row, : len(rows[position])].cpu()
            ratios[position] = float(rule[row])

    run_grouped([len(r) for r in rows], classifier.token_budget // method.copies, work)
    return scores, ratios


def _mean_drop(classifier: Classifier, rows: list[Instance], scores: list[Tensor]) -> float:
    ranked = [
        Ranked(r.input_ids, r.token_type_ids, removal_order(s.tolist(), r.special, "most"), r.example.label)
        for r, s in zip(rows, scores, strict=True)
    ]
    curves = curve(classifier, ranked, [0.0, FIRST_STEP], "delete")
    return float(np.mean([start - after for (_, start), (_, after) in curves]))
