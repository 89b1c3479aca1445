"""LIME as the authors' released code runs it, bugs included.

Words are split by `\\W+` and repeated words are one feature; class 1 of the authors' label order is
explained whatever the target is; a pair becomes one sentence with asterisks in the middle and no segment
ids, with 75 samples; every perturbed text is padded to the maximal length and padding is attended to;
only as many words as the text has pieces get a weight, which matters for texts that are cut; and a word
piece that is not among those words gets the largest weight of all.
"""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Int
from lime.lime_text import LimeTextExplainer
from torch import Tensor

from iba.attributor import Attribution, Unfitted, instance_seed, pad_scores
from iba.data.tokens import Instance, TokenBatch
from iba.evaluation.variants import Variant, class_probabilities
from iba.models.classifier import Classifier
from iba.settings import Count, Seed


class LimeReleased(Unfitted):
    """The released LIME; `explained_class` names the authors' class 1.

    Every text is padded to `pad_to` tokens (512 in the released code; a smaller number is a stated
    saving) or, if longer, to the longest of its samples; texts are cut at `max_length`.
    """

    def __init__(
        self,
        explained_class: str,
        pad_to: Count = 512,
        max_length: Count = 512,
        n_samples: Count = 100,
        n_samples_pair: Count = 75,
        seed: Seed = 0,
    ) -> None:
        self.explained_class, self.pad_to, self.max_length = explained_class, pad_to, max_length
        self.n_samples, self.n_samples_pair = n_samples, n_samples_pair
        self.seed = seed

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Word weights for `explained_class`, given to word pieces as the released code does."""
        explained = classifier.label_id(self.explained_class)
        return Attribution(
            pad_scores([self._explain(classifier, i, explained) for i in batch.instances], batch)
        )

    def _explain(self, classifier: Classifier, instance: Instance, explained: int) -> Tensor:
        example = instance.example
        pair = example.text_pair is not None
        text = f"{example.text} ****** {example.text_pair}" if pair else example.text
        if not re.search(r"\w", text):  # lime cannot sample from no words
            return torch.zeros(len(instance))

        def predict(texts: list[str]) -> np.ndarray:
            rows = classifier.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
            length = max(self.pad_to, *map(len, rows))
            input_ids = np.full((len(rows), length), classifier.special_id("the released LIME", "pad"))
            for padded, ids in zip(input_ids, rows, strict=True):
                padded[: len(ids)] = ids
            # Only as the released code: no attention mask, so padding is read as text.
            segments = np.zeros(length, dtype=int)
            return class_probabilities(classifier, [Variant.whole(ids, segments) for ids in input_ids])

        explainer = LimeTextExplainer(random_state=instance_seed(self.seed, instance.id))
        explanation = explainer.explain_instance(
            text,
            predict,
            labels=(explained,),
            num_features=len(instance),
            num_samples=self.n_samples_pair if pair else self.n_samples,
        )
        pieces = [str(p) for p in classifier.tokenizer.convert_ids_to_tokens(list(instance.input_ids))]
        return torch.tensor(word_scores(pieces, explanation.as_list(label=explained)))


def word_scores(pieces: list[str], weights: list[tuple[str, float]]) -> list[float]:
    """A piece's score: its word's, if it or it and a neighbour spell one of lime's words; else the maximum.

    Two pieces are tried only if the first is no word by itself. Of words that differ in their case alone, the
    last counts, but the maximum is over all.
    """
    words = {word.lower(): weight for word, weight in weights}
    highest = max((weight for _, weight in weights), default=0.0)
    scores = [words.get(piece, highest) for piece in pieces]
    for i, (piece, follower) in enumerate(pairwise(pieces)):
        joined = piece + follower.removeprefix("##")
        if follower.startswith("##") and piece not in words and joined in words:
            scores[i] = scores[i + 1] = words[joined]
    return scores
