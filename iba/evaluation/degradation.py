"""The degradation test (Section 4.1): remove tokens by rank, ask the original model again.

`fractions` are shares of the TOTAL token count, special tokens counted; the rounded count of tokens is
removed, in the order of `iba/evaluation/ranking.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from iba.attributor import Attributed
from iba.data.tokens import Instance, PerToken
from iba.evaluation.ranking import FIRST_STEP, removal_order
from iba.evaluation.variants import Variant, class_probabilities
from iba.models.classifier import Classifier


@dataclass(frozen=True)
class Ranked:
    """An instance with its ranking: token ids and the positions in the order in which they are removed."""

    input_ids: PerToken
    token_type_ids: PerToken
    removal: PerToken
    target: int

    def arrays(self) -> Ranked:
        """The same as arrays, of which variants are made faster."""
        ids, segments = np.asarray(self.input_ids), np.asarray(self.token_type_ids)
        return Ranked(ids, segments, np.asarray(self.removal, dtype=int), self.target)


Removed = Bool[np.ndarray, " tokens"]
Operator = Callable[[Ranked, Removed, int], Variant]


def n_removed(fraction: float, n_tokens: Any, n_removable: Any) -> Any:
    """Tokens removed at `fraction`: the rounded share of all tokens, at most the removable ones; of one text,
    or of many (integer arrays)."""
    return np.minimum(np.rint(fraction * n_tokens).astype(int), n_removable)


def delete(instance: Ranked, removed: Removed, mask_token_id: int) -> Variant:
    """Take the tokens out; what remains moves together, segment ids with it (the paper's operator)."""
    return Variant.keeping(instance.input_ids, instance.token_type_ids, ~removed)


def mask(instance: Ranked, removed: Removed, mask_token_id: int) -> Variant:
    """Put [MASK] in their place."""
    return Variant.whole(np.where(removed, mask_token_id, instance.input_ids), instance.token_type_ids)


def attention(instance: Ranked, removed: Removed, mask_token_id: int) -> Variant:
    """Hide them from attention; every other token keeps its position."""
    return Variant(np.asarray(instance.input_ids), np.asarray(instance.token_type_ids), ~removed)


OPERATORS: dict[str, Operator] = {"delete": delete, "mask": mask, "attention": attention}


def curve(
    classifier: Classifier,
    instances: Sequence[Ranked],
    fractions: Sequence[float],
    operator: str,
) -> list[list[tuple[int, float]]]:
    """For every instance and fraction: how many tokens were removed, and the target's probability then."""
    counts = [[int(n_removed(f, len(i.input_ids), len(i.removal))) for f in fractions] for i in instances]
    return after_removing(classifier, instances, counts, operator)


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


def after_removing(
    classifier: Classifier,
    instances: Sequence[Ranked],
    counts: Sequence[Sequence[int]],
    operator: str,
) -> list[list[tuple[int, float]]]:
    """For every instance and each of its `counts`: the count, and the target's probability without so many.

    A count that occurs twice (short texts) is evaluated once; all inputs of all instances are run
    together, grouped by length.
    """
    wanted = [(row, k) for row, ks in enumerate(counts) for k in sorted(set(ks))]
    mask_token_id = classifier.special_id("degradation.operators: mask", "mask") if operator == "mask" else 0
    arrays = [instance.arrays() for instance in instances]
    variants = [
        OPERATORS[operator](arrays[row], _removed(arrays[row], k), mask_token_id) for row, k in wanted
    ]
    probabilities = class_probabilities(classifier, variants)
    known = {
        (row, k): float(p[instances[row].target]) for (row, k), p in zip(wanted, probabilities, strict=True)
    }
    return [[(k, known[row, k]) for k in ks] for row, ks in enumerate(counts)]


def _removed(instance: Ranked, count: int) -> Removed:
    removed = np.zeros(len(instance.input_ids), dtype=bool)
    removed[instance.removal[:count]] = True
    return removed
