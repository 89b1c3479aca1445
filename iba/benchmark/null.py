"""A classifier whose forward pass costs nothing: of a method's time, what is left is our own work on the CPU.

As beside a GPU that is never waited for, but for launching the model's kernels. States have few features, so
that what a GPU would compute between the layers (noise, gates, Adam) costs little more than its launch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Int
from omegaconf import DictConfig
from torch import Tensor

from iba.benchmark.reference import ReferenceModel
from iba.data.tokens import Inputs
from iba.models.classifier import Classifier
from iba.models.pretrained import new_classifier
from iba.models.runner import Hidden, Logits, Runner
from iba.settings import plain

_FEATURES = 4
_SHAPE = {
    "hidden_size": _FEATURES,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "intermediate_size": _FEATURES,
}


class NullRunner:
    """Twelve layers that change nothing, of which the head reads the sum of all tokens: the answer depends on
    what is read, and every token has a gradient.

    It offers what the timed methods ask of a `Runner`, no attention maps.
    """

    n_layers = 12

    def __init__(self, n_outputs: int) -> None:
        self.scale = torch.arange(1.0, n_outputs + 1)

    def logits(self, inputs: Inputs) -> Logits:
        """By the sum of the ids that may be read."""
        mask = inputs.attention_mask
        ids = inputs.input_ids if mask is None else inputs.input_ids * mask
        return torch.sin(ids.sum(1, keepdim=True) * self.scale)

    def hidden_states(self, inputs: Inputs, layers: Sequence[int]) -> dict[int, Hidden]:
        """The same for every layer."""
        return dict.fromkeys(layers, self.word_embeddings(inputs.input_ids))

    def logits_from(self, hidden: Hidden, inputs: Inputs, layer: int, exact_to: int = 0) -> Logits:
        """By the sum of all states."""
        return torch.sin(hidden.sum((1, 2))[:, None] * self.scale)

    def word_embeddings(self, input_ids: Int[Tensor, "batch tokens"]) -> Hidden:
        """Numbers that differ by id."""
        return torch.sin(input_ids[..., None] * torch.arange(1.0, _FEATURES + 1))

    def logits_of_words(self, words: Hidden, inputs: Inputs, exact_to: int = 0) -> Logits:
        """By the sum of all words."""
        return self.logits_from(words, inputs, 0)


class NullReference(ReferenceModel):
    """What the straightforward LIME and degradation read of a model, at no cost either."""

    def __init__(self, classifier: Classifier) -> None:
        self.runner, self.tokenizer, self.device = classifier.runner, classifier.tokenizer, classifier.device
        self.segmented, self.label_id = True, classifier.label_id

    def logits(self, **inputs: Tensor) -> Logits:
        """The null model's logits."""
        mask = inputs["attention_mask"].bool()
        return self.runner.logits(Inputs(inputs["input_ids"], mask, inputs["token_type_ids"]))


def null_classifier(cfg: DictConfig, labels: Sequence[str]) -> Classifier:
    """The configured model's tokenizer before a null model, on the CPU."""
    body = DictConfig(plain(cfg.model) | {"tiny" if cfg.model.get("tiny") else "random": _SHAPE})
    model, tokenizer = new_classifier(body, cfg.paths.model_dir, labels, cfg.finetune.seed)
    classifier = Classifier(model, tokenizer, "cpu", "fp32", cfg.token_budget)
    classifier.runner = cast(Runner, NullRunner(len(labels)))
    return classifier
