"""Choosing β for the bottlenecks that are not IBA, by IBA's rule (see iba/calibration.py).

Of the values tried, the one whose ranking makes the target's probability fall most at the first
degradation step (11 %) on training rows held out from fine-tuning; of equals, the smallest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from iba.attributor import Attributor, State
from iba.calibration import FIRST_STEP
from iba.data.tokens import Instance
from iba.degradation import Ranked, curve, removal_order
from iba.encoder import Classifier
from iba.errors import UserError
from iba.variants import run_grouped


def choose_beta(
    candidates: Mapping[float, Attributor], classifier: Classifier, rows: Sequence[Instance]
) -> State:
    """The best β of `candidates` (β → the method with that β) on `rows`, with every drop measured."""
    if not candidates or not rows:
        raise UserError("beta=calibrated needs a beta_grid and n_calibration > 0 training rows.")
    grid = sorted(candidates)
    drops = [first_step_drop(candidates[beta], classifier, rows) for beta in grid]
    return {
        "beta": torch.tensor(grid[int(np.argmax(drops))], dtype=torch.float64),
        "beta_grid": torch.tensor(grid, dtype=torch.float64),
        "calibration_drop_11": torch.tensor(drops, dtype=torch.float64),
        "n_calibration": torch.tensor(len(rows)),
    }


def first_step_drop(method: Attributor, classifier: Classifier, rows: Sequence[Instance]) -> float:
    """Mean fall of the label's probability when the top 11 % of the tokens are deleted."""
    ranked: list[Ranked | None] = [None] * len(rows)

    def work(group: list[int]) -> None:
        batch = classifier.batch([rows[i] for i in group])
        target = torch.tensor([rows[i].example.label for i in group], device=classifier.device)
        scores = method.attribute(classifier, batch, target).scores
        for position, i in enumerate(group):
            row = rows[i]
            order = removal_order(scores[position, : len(row)].tolist(), row.special, "most")
            ranked[i] = Ranked(row.input_ids, row.token_type_ids, order, row.example.label)

    run_grouped([len(r) for r in rows], classifier.token_budget // method.copies, work)
    curves = curve(classifier, [r for r in ranked if r is not None], [0.0, FIRST_STEP], "delete")
    return float(np.mean([start - after for (_, start), (_, after) in curves]))
