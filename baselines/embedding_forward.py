"""Class probabilities as a function of embeddings: what gradient methods differentiate.

The first two thirds of the layers are float32 (on a GPU TF32) also where the classifier computes in bfloat16:
rounded there, tokens of small gradient would change places; rounded later, they hardly do.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from iba.data.tokens import TokenBatch
from iba.encoder import Classifier
from iba.frozen import exact_forward


def probabilities_from_words(classifier: Classifier) -> Callable[..., Tensor]:
    """f(word embeddings, ids, attention mask or None, segments) → class probabilities, in Captum's form."""
    of_hidden = probabilities_from_hidden(classifier)

    def probabilities(words: Tensor, input_ids: Tensor, mask: Tensor | None, segments: Tensor) -> Tensor:
        with exact_forward(tf32=True):
            hidden = classifier.embed(input_ids, segments, words=words)
        return of_hidden(hidden, mask)

    return probabilities


def probabilities_from_hidden(classifier: Classifier) -> Callable[..., Tensor]:
    """f(what the first block reads, attention mask or None) → class probabilities, in Captum's form."""
    exact = round(2 / 3 * classifier.n_layers)

    def probabilities(hidden: Tensor, mask: Tensor | None) -> Tensor:
        with exact_forward(tf32=True):
            hidden = classifier.advance(hidden, classifier.attends(mask, hidden.shape[1]), 0, exact)
        return classifier.logits_from(hidden, mask, exact).softmax(-1)

    return probabilities


def forward_arguments(batch: TokenBatch) -> tuple[Tensor, Tensor | None, Tensor]:
    """What `probabilities_from_words` takes beside the embeddings."""
    return batch.input_ids, batch.key_mask, batch.token_type_ids
