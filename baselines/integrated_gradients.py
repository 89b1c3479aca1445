"""Integrated gradients (Sundararajan et al. 2017) on the word embeddings, by Captum.

Baseline: by default the embedding of [PAD] in place of every token, [CLS] and [SEP] kept; where the tokenizer
has no padding, of the token that ends a text (`Classifier.blank_id`). The released code has the same
baseline but another path to it: `integrated_gradients_released.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from jaxtyping import Int
from torch import Tensor

from baselines.embedding_forward import probabilities_from_words
from iba.attributor import Attribution, Unfitted
from iba.data.tokens import TokenBatch
from iba.models.classifier import Classifier
from iba.settings import Count

#: A pass on a GPU takes one in so many of the steps of its texts: a cautious guess of what fits.
_SHARE = 4


@dataclass(frozen=True)
class IntegrationPath:
    """A straight line from `start` to `end`, both (batch, tokens, hidden), and the probabilities along it:
    `probabilities(point, *arguments)`."""

    start: Tensor
    end: Tensor
    probabilities: Callable[..., Tensor]
    arguments: tuple[Any, ...]


class IntegratedGradients(Unfitted):
    """Path integral of the gradient of a class's probability, summed over features.

    `explained_class`: None explains the target; a class name explains that class whatever the target is,
    as the released code does with its class 0. `internal_batch_size`: rows that a pass on a CPU holds even
    of texts of which the token budget allows fewer. `baseline`: what stands in place of every token: the
    embedding of [PAD] or of [MASK], zeros, or the mean of all embeddings. `completeness`: also report how far
    the scores are from adding up to the probability gained.
    Cost: `n_steps` forward and backward passes; with `completeness` two forward passes more.
    """

    needs = "embeddings"
    concurrent = True

    def __init__(
        self,
        n_steps: Count = 10,
        explained_class: str | None = None,
        normalise: bool = False,
        internal_batch_size: Count = 256,
        completeness: bool = False,
        baseline: Literal["pad", "mask", "zero", "mean"] = "pad",
    ) -> None:
        self.n_steps = n_steps
        self.explained_class = explained_class
        self.normalise = normalise
        self.internal_batch_size = internal_batch_size
        self.completeness = completeness
        self.baseline = baseline
        self.copies = n_steps

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Signed scores. per_instance, on request: `probability_gained` from the baseline to the text, and
        `completeness_gap`, the sum of the scores (before `normalise`) less that."""
        if self.explained_class is not None:
            target = torch.full_like(target, classifier.label_id(self.explained_class))
        masked = self.baseline == "mask"
        absent = classifier.special_id("IG's baseline", "mask") if masked else classifier.blank_id
        blank = torch.where(batch.removable, torch.full_like(batch.input_ids, absent), batch.input_ids)
        path = self.path(classifier, batch, blank)
        found = CaptumIntegratedGradients(path.probabilities).attribute(
            path.end,
            baselines=path.start,
            target=target,
            additional_forward_args=path.arguments,
            n_steps=self.n_steps,
            internal_batch_size=rows_of_a_pass(classifier, batch, self.n_steps, self.internal_batch_size),
            return_convergence_delta=self.completeness,
        )
        attributed, *gap = found if self.completeness else (found,)
        scores = attributed.sum(-1).float()
        told = {}
        if gap:
            missed = gap[0].float()
            told = {"completeness_gap": missed, "probability_gained": scores.sum(1) - missed}
        if self.normalise:
            scores = scores / scores.norm(dim=1, keepdim=True).clamp_min(1e-12)
        return Attribution(scores, per_instance=told)

    def held(self, classifier: Classifier, tokens: int) -> int:
        """As many passes with gradients as steps go together; both ends of the path, their sums."""
        shapes = classifier.shapes(tokens)
        return steps_of_a_pass(self.n_steps) * shapes.backward() + 4 * shapes.hidden

    def path(
        self, classifier: Classifier, batch: TokenBatch, blank: Int[Tensor, "batch tokens"]
    ) -> IntegrationPath:
        """From the word embeddings of the ids `blank`, or the baseline's vector, to those of the text."""
        start = classifier.word_embeddings(blank)
        if self.baseline in ("zero", "mean"):
            every = torch.arange(len(classifier.tokenizer), device=start.device)[None]
            mean = classifier.word_embeddings(every).mean(1)
            vector = mean if self.baseline == "mean" else torch.zeros_like(mean)
            start = torch.where(batch.removable[..., None], vector, start)
        return IntegrationPath(
            start,
            classifier.word_embeddings(batch.input_ids),
            probabilities_from_words(classifier),
            tuple(batch.inputs),
        )


def rows_of_a_pass(classifier: Classifier, batch: TokenBatch, n_steps: int, least: int = 1) -> int:
    """Rows, each one text at one of `n_steps`, that go through the classifier together.

    On a CPU as many as the token budget allows, and `least` even of texts so long that it allows fewer. On a
    GPU a quarter of the steps of the batch, but one at least: every layer's activations are kept for the
    backward pass, so a pass must shrink with a batch that was halved.
    """
    if classifier.device.type != "cpu":
        return len(batch) * steps_of_a_pass(n_steps)
    return max(least, len(batch), classifier.token_budget // batch.input_ids.shape[1])


def steps_of_a_pass(n_steps: int) -> int:
    """How many of `n_steps` go through the classifier together on a GPU."""
    return max(1, n_steps // _SHARE)
