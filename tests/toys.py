"""Classifiers whose every answer can be worked out by hand, and small helpers for tests of methods."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from iba.attributor import Attributor, FitData
from iba.data.examples import Example
from iba.data.tokens import Inputs, Instance
from iba.models.classifier import Classifier
from iba.models.frozen import Products
from iba.models.tiny import tiny_tokenizer

Answer = Callable[[tuple[int, ...], tuple[int, ...]], float]


class ToyClassifier(Classifier):
    """Two classes; the probability of class 1 is `answer(visible ids, their segment ids)`.

    `seen` keeps what was asked, in order, and `passes` how many rows each forward pass held.
    """

    def __init__(self, answer: Answer, token_budget: int = 64) -> None:
        self.answer = answer
        self.tokenizer = tiny_tokenizer()
        self.device = torch.device("cpu")
        self.token_budget, self.products = token_budget, Products()
        self.fitting = defaultdict(dict)
        self.seen: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
        self.passes: list[int] = []

    @property
    def workers(self) -> int:
        return 1

    @property
    def labels(self) -> list[str]:
        return ["zero", "one"]

    def logits(self, inputs: Inputs) -> Tensor:
        input_ids, attention_mask, token_type_ids = inputs
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids, dtype=torch.bool)
        self.passes.append(len(input_ids))
        rows = []
        for ids, visible, segments in zip(input_ids, attention_mask, token_type_ids, strict=True):
            asked = (tuple(ids[visible].tolist()), tuple(segments[visible].tolist()))
            self.seen.append(asked)
            rows.append(self.answer(*asked))
        p = torch.tensor(rows, dtype=torch.float64)
        return torch.stack([torch.log1p(-p), torch.log(p)], 1).float()


def instance(
    ids: Sequence[int], special: Sequence[bool], segments: Sequence[int] | None = None, name: str = "test:0"
) -> Instance:
    """An instance made of bare token ids."""
    n = len(ids)
    return Instance(
        example=Example(name, "toy", None, 1),
        input_ids=tuple(ids),
        token_type_ids=tuple(segments or [0] * n),
        special=tuple(special),
        offsets=((0, 0),) * n,
        sequence=tuple(None if s else 0 for s in special),
        truncated=False,
    )


def fitted(method: Attributor, classifier: Classifier, data: FitData) -> Attributor:
    """The method with what it learns from `data`."""
    method.restore(method.fit(classifier, data))
    return method
