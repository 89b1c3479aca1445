"""Changed inputs and the classifier's answer to them: what LIME, occlusion and the degradation test share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from iba.data.tokens import Row, buckets, padded
from iba.encoder import Classifier


@dataclass(frozen=True)
class Variant:
    """One changed input: ids, segment ids, and which positions may be attended to."""

    input_ids: Int[np.ndarray, " tokens"]
    token_type_ids: Int[np.ndarray, " tokens"]
    visible: Bool[np.ndarray, " tokens"]

    @classmethod
    def whole(cls, input_ids: Row, token_type_ids: Row) -> Variant:
        """An input of which every position may be attended to."""
        ids, segments = np.asarray(input_ids), np.asarray(token_type_ids)
        return cls(ids, segments, np.ones(len(ids), dtype=bool))

    @classmethod
    def keeping(cls, input_ids: Row, token_type_ids: Row, kept: Bool[np.ndarray, " tokens"]) -> Variant:
        """The input with only the tokens that are `kept`, in their order; segment ids follow the tokens."""
        return cls.whole(np.asarray(input_ids)[kept], np.asarray(token_type_ids)[kept])


def class_probabilities(
    classifier: Classifier, variants: Sequence[Variant]
) -> Float[np.ndarray, "variants classes"]:
    """Class probabilities of every variant, in the order given; run in groups of like length."""
    out = np.empty((len(variants), len(classifier.labels)), dtype=np.float32)

    def run(group: list[int]) -> None:
        chosen = [variants[i] for i in group]
        logits = classifier.logits(
            padded([v.input_ids for v in chosen], classifier.tokenizer.pad_token_id, classifier.device),
            padded([v.visible for v in chosen], False, classifier.device),
            padded([v.token_type_ids for v in chosen], 0, classifier.device),
        )
        out[group] = logits.softmax(-1).cpu().numpy()

    run_grouped([len(v.input_ids) for v in variants], classifier.token_budget, run)
    return out


def run_grouped(lengths: Sequence[int], token_budget: int, work: Callable[[list[int]], None]) -> None:
    """Call `work` on groups of positions of like length; a group that does not fit in memory is halved.

    Work done before is kept. A single position that does not fit raises torch.cuda.OutOfMemoryError.
    """
    for group in buckets(lengths, token_budget):
        _run_halving(group, work)


def _run_halving(group: list[int], work: Callable[[list[int]], None]) -> None:
    try:
        work(group)
        return
    except torch.cuda.OutOfMemoryError:
        if len(group) == 1:
            raise
    torch.cuda.empty_cache()
    half = len(group) // 2
    _run_halving(group[:half], work)
    _run_halving(group[half:], work)
