"""What a bottleneck's noise is like: mean and spread of hidden states over the tokens of training rows."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from iba.attributor import FitData, State
from iba.data.tokens import Instance
from iba.models.classifier import Classifier
from iba.models.parallel import GroupWork, grouped
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
    sums: GroupWork[tuple[Float[Tensor, "things 2 features"], int]],
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
