"""Changed inputs and the classifier's answer to them: what LIME, occlusion and the degradation test share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from iba.data.tokens import buckets
from iba.encoder import Classifier


@dataclass(frozen=True)
class Variant:
    """One changed input: ids, segment ids, and which positions may be attended to."""

    input_ids: Sequence[int]
    token_type_ids: Sequence[int]
    visible: Sequence[bool]

    @classmethod
    def keeping(cls, input_ids: Sequence[int], token_type_ids: Sequence[int], kept: Iterable[int]) -> Variant:
        """The input with only the positions `kept`, in their order; segment ids follow the tokens."""
        positions = list(kept)
        return cls(
            [input_ids[i] for i in positions], [token_type_ids[i] for i in positions], [True] * len(positions)
        )


def class_probabilities(
    classifier: Classifier, variants: Sequence[Variant]
) -> Float[np.ndarray, "variants classes"]:
    """Class probabilities of every variant, in the order given; run in groups of like length."""
    out = np.empty((len(variants), len(classifier.labels)), dtype=np.float32)

    def run(group: list[int]) -> None:
        chosen = [variants[i] for i in group]
        length = max(len(v.input_ids) for v in chosen)

        def padded(rows: Iterable[Sequence[int | bool]], fill: int) -> torch.Tensor:
            filled = [[*row, *([fill] * (length - len(row)))] for row in rows]
            return torch.tensor(filled, device=classifier.device)

        logits = classifier.logits(
            padded((v.input_ids for v in chosen), classifier.tokenizer.pad_token_id),
            padded((v.visible for v in chosen), 0).bool(),
            padded((v.token_type_ids for v in chosen), 0),
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
