"""The target's probability as a function of which tokens are present: what removal-based methods explain.

One feature per removable token. An absent token is deleted, as in the degradation test: pieces never
change, special tokens stay, segment ids follow their tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from iba.attributor import Attribution, pad_scores
from iba.data.tokens import Instance, TokenBatch
from iba.evaluation.variants import Variant, class_probabilities
from iba.models.classifier import Classifier

Predict = Callable[[Tensor], Tensor]
#: One row a variant of the text, one column a removable token: whether it is there.
Presence = Bool[np.ndarray, "rows features"]
Asked = tuple[Instance, Bool[np.ndarray, "_ _"]]

#: Token budgets that the changed texts held at a time may fill: enough that a GPU seldom waits for Python
#: to ask again, and no more than some tens of megabytes.
_HELD = 16


def removable_positions(instance: Instance) -> list[int]:
    """Positions of the tokens that are not special."""
    return [i for i, special in enumerate(instance.special) if not special]


def probabilities_given(
    classifier: Classifier, asked: Sequence[Asked]
) -> list[Float[np.ndarray, "_ classes"]]:
    """Class probabilities of every instance's variants; those of all instances run together."""
    variants = [variant for instance, presence in asked for variant in _variants(instance, presence)]
    ends = np.cumsum([len(presence) for _, presence in asked])
    return np.split(class_probabilities(classifier, variants), ends[:-1])


def _variants(instance: Instance, presence: Presence) -> list[Variant]:
    input_ids, token_type_ids = np.array(instance.input_ids), np.array(instance.token_type_ids)
    kept = np.ones((len(presence), len(instance)), dtype=bool)
    kept[:, removable_positions(instance)] = presence
    return [Variant.keeping(input_ids, token_type_ids, row) for row in kept]


def target_probability(classifier: Classifier, instance: Instance, target: int) -> Predict:
    """f(presence, one row a variant and one column a removable token, 1 or 0) → the target's probability."""

    def predict(presence: Float[Tensor, "rows features"]) -> Float[Tensor, " rows"]:
        (answers,) = probabilities_given(classifier, [(instance, presence.bool().numpy())])
        return torch.from_numpy(answers[:, target])

    return predict


def explain_together(
    classifier: Classifier,
    batch: TokenBatch,
    target: Tensor,
    ask: Callable[[Instance, int], Presence],
    explain: Callable[[Presence, Float[np.ndarray, " rows"]], Float[np.ndarray, " features"]],
) -> Attribution:
    """Scores that `explain` makes of the variants `ask(instance, features)` and their target's probabilities.

    The variants of many texts run together, so that a GPU's passes are full also where texts are short.
    Nothing is asked about a text without a removable token.
    """
    sizes = [len(removable_positions(instance)) for instance in batch.instances]
    nothing = np.ones((0, 0), dtype=bool)
    asked = [(i, ask(i, n) if n else nothing) for i, n in zip(batch.instances, sizes, strict=True)]
    pooled = pools(asked, _HELD * classifier.token_budget)
    answers = chain.from_iterable(probabilities_given(classifier, pool) for pool in pooled)
    scores = [
        spread(torch.from_numpy(explain(presence, probabilities[:, of])).float(), instance)
        if len(presence)
        else torch.zeros(len(instance))
        for (instance, presence), probabilities, of in zip(asked, answers, target.tolist(), strict=True)
    ]
    return Attribution(pad_scores(scores, batch))


def pools(asked: Iterable[Asked], most: int) -> Iterator[list[Asked]]:
    """`asked` in its order, in lists whose variants have at most `most` tokens, or one text alone."""
    pool: list[Asked] = []
    held = 0
    for instance, presence in asked:
        tokens = len(presence) * len(instance)
        if pool and held + tokens > most:
            yield pool
            pool, held = [], 0
        pool.append((instance, presence))
        held += tokens
    if pool:
        yield pool


def spread(values: Float[Tensor, " features"], instance: Instance) -> Float[Tensor, " tokens"]:
    """Feature values at their tokens; special tokens get 0."""
    scores = torch.zeros(len(instance))
    scores[removable_positions(instance)] = values
    return scores
