"""What IBA learns from training data: the noise statistics of a layer, and β.

β does not transfer between models, layers or noise models, so under `corrected` it is chosen on training
rows that were held out from fine-tuning (`n_calibration` of the data set): every β of a logarithmic grid
attributes them, and the one whose ranking makes the target's probability fall most at the first
degradation step (11 %) is taken; of equals, the smallest. The paper's rule of thumb, β ≈ 10 × L_CE / L_IB
with both losses at the start of the optimisation, is stored beside it. The other bottlenecks of
`baselines/` choose their β by the same rule.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from iba.attributor import Attributor, FitData, State, attribute_grouped
from iba.data.tokens import Instance
from iba.errors import UserError
from iba.evaluation.degradation import Ranked, curve
from iba.evaluation.ranking import FIRST_STEP, removal_order
from iba.models.classifier import Classifier
from iba.parallel import Work, grouped
from iba.progress import progress


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
    numbers = list(range(1, layer + 1))

    def sums(group: list[int]) -> tuple[Tensor, int]:
        batch = classifier.batch([rows[i] for i in group])
        states = classifier.hidden_states(batch, numbers)
        padding = ~batch.attention_mask[..., None]
        values = (states[number].double().masked_fill_(padding, 0) for number in numbers)  # one at a time
        moments = torch.stack([torch.stack([v.sum((0, 1)), v.square().sum((0, 1))]) for v in values])
        return moments, sum(map(len, batch.instances))

    mean, std, count = pooled(rows, classifier, sums, 1e-3, classifier.workers)
    return {
        number: {
            "noise_mean": mean[number - 1].float().cpu(),
            "noise_std": std[number - 1].float().cpu(),
            "n_statistics_instances": torch.tensor(len(rows)),
            "n_statistics_tokens": torch.tensor(count),
        }
        for number in range(1, layer + 1)
    }


def pooled(
    rows: Sequence[Instance],
    classifier: Classifier,
    sums: Work[tuple[Float[Tensor, "things 2 features"], int]],
    smallest_std: float,
    workers: int = 1,
) -> tuple[Float[Tensor, "things features"], Float[Tensor, "things features"], int]:
    """Mean and standard deviation (at least `smallest_std`), and over how many values, of groups of `rows`.

    `sums` gives a group's sums of values and of their squares, in float64, and the number of values.
    """
    total, count = torch.zeros((), dtype=torch.float64, device=classifier.device), 0
    with progress(total=len(rows), desc="noise statistics", unit="inst") as bar:
        for group, (moments, n) in grouped([len(r) for r in rows], classifier.token_budget, sums, workers):
            total = total + moments
            count += n
            bar.update(len(group))
    mean, squares = (total / count).unbind(1)
    return mean, (squares - mean.square()).clamp_min(0).sqrt().clamp_min(smallest_std), count


def select_beta(
    candidates: Mapping[float, Attributor], classifier: Classifier, rows: Sequence[Instance]
) -> State:
    """The β of `candidates` (β → the method with that β) with the largest mean drop at 11 % on `rows`.

    All drops are returned, and the rule of thumb where the method reports both losses at its start.
    """
    if not candidates or not rows:
        raise UserError("beta=calibrated needs a beta_grid and n_calibration > 0 training rows.")
    grid = sorted(candidates)
    choices = progress(grid, desc="choose β", unit="β")
    found = [attribute_rows(candidates[beta], classifier, rows) for beta in choices]
    drops = [first_step_drops(attributed, classifier, rows).mean() for attributed in found]
    return {
        "beta": torch.tensor(grid[int(np.argmax(drops))], dtype=torch.float64),
        "beta_grid": torch.tensor(grid, dtype=torch.float64),
        "calibration_drop_11": torch.tensor(np.array(drops), dtype=torch.float64),
        "n_calibration": torch.tensor(len(rows)),
    } | _rule_of_thumb(found[0])  # the losses at the start do not depend on β


@dataclass(frozen=True)
class Attributed:
    """One row's token scores, and the numbers and other token scores that explain them."""

    scores: Tensor
    numbers: dict[str, Tensor]
    per_token: dict[str, Tensor]


def attribute_rows(
    method: Attributor, classifier: Classifier, rows: Sequence[Instance], title: str = "attribute"
) -> list[Attributed]:
    """What `method` says about each of `rows`, explaining its label; `title` stands before the bar."""
    found: dict[int, Attributed] = {}
    with progress(total=len(rows), desc=title, unit="inst") as bar:
        for group, said in attribute_grouped(method, classifier, rows, [r.example.label for r in rows]):
            for row, i in enumerate(group):
                numbers = {name: values[row] for name, values in said.per_instance.items()}
                tokens = {name: values[row, : len(rows[i])] for name, values in said.per_token.items()}
                found[i] = Attributed(said.scores[row, : len(rows[i])], numbers, tokens)
            bar.update(len(group))
    return [found[i] for i in range(len(rows))]


def first_step_drops(
    attributed: Sequence[Attributed], classifier: Classifier, rows: Sequence[Instance]
) -> Float[np.ndarray, " rows"]:
    """Fall of every row's label probability when the top 11 % of its tokens are deleted."""
    ranked = [
        Ranked(
            r.input_ids,
            r.token_type_ids,
            removal_order(a.scores.tolist(), r.special, "most"),
            r.example.label,
        )
        for r, a in zip(rows, attributed, strict=True)
    ]
    curves = curve(classifier, ranked, [0.0, FIRST_STEP], "delete")
    return np.array([start - after for (_, start), (_, after) in curves])


def _rule_of_thumb(attributed: Sequence[Attributed]) -> State:
    """10 × L_CE / L_IB at the start, the median over rows; nothing for methods without these losses."""
    losses = ("cross_entropy_nats_start", "mean_kl_nats_start")
    if not all(name in a.numbers for a in attributed for name in losses):
        return {}
    ratios = [float(10 * a.numbers[losses[0]] / a.numbers[losses[1]]) for a in attributed]
    return {"beta_rule_of_thumb": torch.tensor(float(np.median(ratios)))}
