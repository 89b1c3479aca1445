"""What a token takes of a GPU's memory, method by method: `python tests/memory_page.py` prints the table."""

from __future__ import annotations

from unittest import mock

import torch
from architectures import all_methods
from transformers import BertConfig, BertForSequenceClassification

from iba.models.classifier import Classifier
from iba.models.memory import FLOAT, LONG, PLANNED
from iba.models.postnorm import PostNorm
from iba.models.tiny import tiny_tokenizer

#: bert-base's weights, bytes.
_WEIGHTS = 110e6 * FLOAT


def bert_base() -> Classifier:
    """Its shapes, without weights."""
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    with mock.patch(
        "iba.models.classifier.runner_of", lambda model, _, products, *__: PostNorm(model, products)
    ):
        return Classifier(model, tiny_tokenizer(), "meta")


def table() -> str:
    """KiB for each token of a batch of texts of 512 tokens, and how many of them have room."""
    classifier = bert_base()
    lines = ["| method | KiB a token | texts on 11 GiB | texts on 140 GiB |", "| --- | ---: | ---: | ---: |"]
    for label, method in all_methods(sizes={}).items():
        size = FLOAT * method.held(classifier, LONG)
        rooms = (PLANNED * (gib * 2**30 - _WEIGHTS) / (size * LONG) for gib in (11, 140))
        lines.append(f"| {label} | {size / 2**10:,.0f} | {' | '.join(f'{int(room):,}' for room in rooms)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
