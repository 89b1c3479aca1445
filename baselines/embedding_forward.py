"""Class probabilities as a function of word embeddings: what gradient methods differentiate."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from iba.data.tokens import TokenBatch
from iba.encoder import Classifier
from iba.frozen import exact_forward


def probabilities_from_words(classifier: Classifier) -> Callable[..., Tensor]:
    """f(word embeddings, ids, attention mask or None, segments) → class probabilities, in Captum's form.

    The forward pass is float32 also where the classifier computes in bfloat16: its rounding there would
    reorder the tokens of small gradient. (On a GPU its linear maps then use TF32 where a gradient follows.)
    """

    def probabilities(words: Tensor, input_ids: Tensor, mask: Tensor | None, segments: Tensor) -> Tensor:
        with exact_forward():
            hidden = classifier.embed(input_ids, segments, words=words)
            return classifier.logits_from(hidden, mask, 0).softmax(-1)

    return probabilities


def forward_arguments(batch: TokenBatch) -> tuple[Tensor, Tensor | None, Tensor]:
    """What `probabilities_from_words` takes beside the embeddings."""
    return batch.input_ids, batch.key_mask, batch.token_type_ids
