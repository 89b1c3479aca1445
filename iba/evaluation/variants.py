"""Changed inputs and the classifier's answer to them: what LIME, occlusion and the degradation test share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from iba.data.tokens import Inputs, PerToken, padded
from iba.models.classifier import Classifier
from iba.models.parallel import grouped


@dataclass(frozen=True)
class Variant:
    """One changed input: ids, segment ids, and which positions may be attended to."""

    input_ids: Int[np.ndarray, " tokens"]
    token_type_ids: Int[np.ndarray, " tokens"]
    visible: Bool[np.ndarray, " tokens"]

    @classmethod
    def whole(cls, input_ids: PerToken, token_type_ids: PerToken) -> Variant:
        """An input of which every position may be attended to."""
        ids, segments = np.asarray(input_ids), np.asarray(token_type_ids)
        return cls(ids, segments, np.ones(len(ids), dtype=bool))

    @classmethod
    def keeping(
        cls, input_ids: PerToken, token_type_ids: PerToken, kept: Bool[np.ndarray, " tokens"]
    ) -> Variant:
        """The input with only the tokens that are `kept`, in their order; segment ids follow the tokens."""
        return cls.whole(np.asarray(input_ids)[kept], np.asarray(token_type_ids)[kept])


def class_probabilities(
    classifier: Classifier, variants: Sequence[Variant]
) -> Float[np.ndarray, "variants classes"]:
    """Class probabilities of every variant, in the order given; run in groups of like length.

    Where nothing is left to read, as of a text without special tokens, one token is read (`empty_id`).
    All are fetched from the device at the end: a GPU works on one group while the next is made here.
    """

    def answer(group: list[int]) -> Tensor:
        chosen = [variants[i] for i in group]
        whole = len({len(v.input_ids) for v in chosen}) == 1 and all(v.visible.all() for v in chosen)
        inputs = Inputs(
            padded([v.input_ids for v in chosen], classifier.pad_token_id, classifier.device),
            None if whole else padded([v.visible for v in chosen], False, classifier.device),
            padded([v.token_type_ids for v in chosen], 0, classifier.device),
        )
        return classifier.logits(inputs).softmax(-1)

    variants = [v if v.visible.any() else Variant.whole([classifier.empty_id], [0]) for v in variants]
    lengths = [len(v.input_ids) for v in variants]
    order: list[int] = []
    found = [torch.empty(0, len(classifier.labels), device=classifier.device)]
    fitting = classifier.fitting["probabilities"]
    for group, probabilities in grouped(
        lengths, classifier.token_budget, answer, classifier.workers, fitting
    ):
        order += group
        found.append(probabilities)
    out = np.empty((len(variants), len(classifier.labels)), dtype=np.float32)
    out[order] = torch.cat(found).cpu().numpy()
    return out
