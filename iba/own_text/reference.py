"""Reference texts: what the noise of a bottleneck is measured on where no training rows are at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import SupportsIndex, overload

import numpy as np
from jaxtyping import Float

from iba.data import planted
from iba.data.examples import Example
from iba.data.texts import OwnText
from iba.data.tokens import Instance, tokenise
from iba.errors import UserError
from iba.evaluation.variants import Variant, class_probabilities
from iba.models.classifier import Classifier

_N_TEMPLATES = 64


class ReferenceRows(Sequence[Instance]):
    """Texts tokenised and labelled with their predicted classes, once a method reads the first of them."""

    def __init__(self, classifier: Classifier, texts: Sequence[OwnText], max_length: int) -> None:
        self.classifier, self.texts, self.max_length = classifier, texts, max_length

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, position: SupportsIndex) -> Instance: ...
    @overload
    def __getitem__(self, position: slice) -> list[Instance]: ...
    def __getitem__(self, position: SupportsIndex | slice) -> Instance | list[Instance]:
        return self._rows[position]

    @cached_property
    def _rows(self) -> list[Instance]:
        examples = [Example(f"reference:{i}", t.text, t.text_pair, 0) for i, t in enumerate(self.texts)]
        rows = tokenise(examples, self.classifier.tokenizer, self.max_length)
        return labelled(rows, [int(p.argmax()) for p in probabilities(self.classifier, rows)])


def reference_texts(given: Sequence[OwnText] | None, paired: bool, seed: int) -> Sequence[OwnText]:
    """The given texts, which must be pairs if what is explained is `paired`, or 64 from templates."""
    if given is None:
        sizes = {"train": _N_TEMPLATES, "test": 0}
        if paired:
            pairs = planted.pairs("train", sizes, seed)
            return [OwnText(r["premise"], r["hypothesis"]) for r in pairs]
        return [OwnText(r["text"]) for r in planted.sentences("train", sizes, seed)]
    if not given or any((t.text_pair is not None) != paired for t in given):
        form = "pairs (two texts a line, a tab between them)" if paired else "single texts, one a line"
        raise UserError(f"the reference texts must be {form}, like the text that is explained.")
    return given


def probabilities(classifier: Classifier, rows: Sequence[Instance]) -> Float[np.ndarray, "rows classes"]:
    """Class probabilities of tokenised texts."""
    return class_probabilities(classifier, [Variant.whole(r.input_ids, r.token_type_ids) for r in rows])


def labelled(rows: Sequence[Instance], labels: Sequence[int]) -> list[Instance]:
    """The rows with other labels."""
    return [
        replace(row, example=replace(row.example, label=label))
        for row, label in zip(rows, labels, strict=True)
    ]
