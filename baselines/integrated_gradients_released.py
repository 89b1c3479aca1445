"""Integrated gradients as the authors' released code runs them (see REPRODUCTION.md).

The path runs through the output of the whole embedding layer (words, positions and segments after their layer
norm) instead of through the word embeddings; of a pair, the first [SEP] counts to the second text.
"""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from baselines.embedding_forward import probabilities_from_hidden
from baselines.integrated_gradients import IntegratedGradients, IntegrationPath
from iba.data.tokens import Inputs, TokenBatch
from iba.models.classifier import Classifier


class IntegratedGradientsReleased(IntegratedGradients):
    """The released IG; `explained_class` names the authors' class 0 and `normalise` divides by the norm."""

    def path(
        self, classifier: Classifier, batch: TokenBatch, blank: Int[Tensor, "batch tokens"]
    ) -> IntegrationPath:
        """From the embedding layer's output for the ids `blank` to that for the text."""
        segments = batch.token_type_ids.clone()
        segments[:, :-1] |= batch.token_type_ids[:, 1:]  # whatever stands before segment 1 joins it
        return IntegrationPath(
            classifier.entering(Inputs(blank, batch.key_mask, segments)),
            classifier.entering(Inputs(batch.input_ids, batch.key_mask, segments)),
            probabilities_from_hidden(classifier),
            (batch.input_ids, batch.key_mask, segments),
        )
