"""LIME as the authors' released code runs it, bugs included.

Words are split by `\\W+` and repeated words are one feature; class 1 of the authors' label order is
explained whatever the target is; a pair becomes one sentence with asterisks in the middle and no segment
ids, with 75 samples; every perturbed text is padded to the maximal length and padding is attended to;
only as many words as the text has pieces get a weight, which matters for texts that are cut; and a word
piece that is not among those words gets the largest weight of all.
"""

from __future__ import annotations

import re
from itertools import chain, islice, pairwise
from operator import getitem

import numpy as np
import torch
from jaxtyping import Float, Int
from lime.lime_base import LimeBase
from lime.lime_text import IndexedString
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from baselines.lime_tokens import kernel_weights, ridge, samples
from baselines.presence import Presence
from iba.attributor import Attribution, Unfitted, instance_seed, pad_scores
from iba.data.tokens import Instance, TokenBatch
from iba.evaluation.variants import Variant, class_probabilities
from iba.models.classifier import Classifier
from iba.models.parallel import single_blas
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

        indexed = IndexedString(text)
        n_samples = self.n_samples_pair if pair else self.n_samples
        presence = samples(indexed.num_words(), n_samples, instance_seed(self.seed, instance.id))
        probabilities = self._probabilities(classifier, perturbed(indexed, presence))[:, explained]
        weights = [(indexed.word(i), weight) for i, weight in weighed(presence, probabilities, len(instance))]
        pieces = [str(p) for p in classifier.tokenizer.convert_ids_to_tokens(list(instance.input_ids))]
        return torch.tensor(word_scores(pieces, weights))

    def _probabilities(self, classifier: Classifier, texts: list[str]) -> Float[np.ndarray, "texts classes"]:
        rows = token_ids(classifier.tokenizer, texts, self.max_length)
        length = max(self.pad_to, *map(len, rows))
        input_ids = np.full((len(rows), length), classifier.special_id("the released LIME", "pad"))
        for padded, ids in zip(input_ids, rows, strict=True):
            padded[: len(ids)] = ids
        # Only as the released code: no attention mask, so padding is read as text.
        segments = np.zeros(length, dtype=int)
        return class_probabilities(classifier, [Variant.whole(ids, segments) for ids in input_ids])


def perturbed(indexed: IndexedString, presence: Presence) -> list[str]:
    """The text without the words that are absent, everywhere; what stands between words stays."""
    parts = indexed.as_list
    placed = sorted((place, word) for word, places in enumerate(indexed.positions) for place in places)
    begins, words = zip(*placed, strict=True)
    # What follows a word up to the next, without the word and with it.
    choices = [
        ("".join(parts[begin + 1 : end]), "".join(parts[begin:end]))
        for begin, end in pairwise([*begins, len(parts)])
    ]
    before = "".join(parts[: begins[0]])
    return [before + "".join(map(getitem, choices, row)) for row in presence[:, words].tolist()]


def token_ids(tokenizer: PreTrainedTokenizerFast, texts: list[str], max_length: int) -> list[list[int]]:
    """What the tokenizer makes of every text, cut at `max_length`.

    BERT's looks at nothing beyond a space: what stands between spaces in many of the texts is tokenised once.
    """
    if not _splits_at_spaces(tokenizer):
        found: list[list[int]] = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
        return found
    spaced = [text.split(" ") for text in texts]
    words = list(set().union(*spaced))
    encoded = tokenizer(words, is_split_into_words=True, verbose=False)
    numbers, special = encoded.word_ids(), list[int]()
    pieces = {word: list[int]() for word in words}
    for number, piece in zip(numbers, encoded["input_ids"], strict=True):
        (special if number is None else pieces[words[number]]).append(piece)
    first = next((i for i, number in enumerate(numbers) if number is not None), 0)
    joined = (chain.from_iterable(map(pieces.__getitem__, row)) for row in spaced)
    room = max_length - len(special)
    return [[*special[:first], *islice(ids, room), *special[first:]] for ids in joined]


def _splits_at_spaces(tokenizer: PreTrainedTokenizerFast) -> bool:
    backend = tokenizer.backend_tokenizer
    return (
        isinstance(backend.normalizer, BertNormalizer)
        and isinstance(backend.pre_tokenizer, BertPreTokenizer)
        and tokenizer.truncation_side == "right"
        and not any(" " in token for token in tokenizer.get_added_vocab())
    )


def weighed(
    presence: Presence, probabilities: Float[np.ndarray, " rows"], most: int
) -> list[tuple[int, float]]:
    """lime's words with their weights, the largest first; of more than `most` words those that it selects."""
    weights = kernel_weights(presence)
    chosen = np.arange(presence.shape[1])
    if len(chosen) > most:
        lime = LimeBase(kernel_fn=None)
        with single_blas():
            chosen = lime.feature_selection(presence.astype(float), probabilities, weights, most, "auto")
    found = ridge(presence[:, chosen], probabilities, weights)
    order = np.argsort(-np.abs(found), kind="stable")
    return [(int(chosen[i]), float(found[i])) for i in order]


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
