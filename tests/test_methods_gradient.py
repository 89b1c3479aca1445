"""Methods on gradients: completeness, and the plain Hugging Face model's own derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from baselines.attattr import AttentionAttribution
from baselines.attention_maps import layer_attentions
from baselines.grad_x_input import GradientTimesInput
from baselines.saliency import Saliency
from iba.attributor import Attributor
from iba.data.tokens import TokenBatch
from iba.models.classifier import Classifier

TARGET = torch.tensor([0, 1, 2, 0, 1])


def test_attattr_is_complete_in_every_layer(classifier: Classifier, batch: TokenBatch) -> None:
    classifier.token_budget = 64  # several passes per layer
    method = AttentionAttribution(n_steps=20)
    rows = torch.arange(len(batch))
    clean = classifier.probabilities(batch)[rows, TARGET]
    total = torch.zeros(batch.input_ids.shape)
    for number, layer in enumerate(layer_attentions(classifier, batch), start=1):
        given = (layer.hidden, batch.inputs, number)
        whole = classifier.logits_given_maps(layer.probabilities, *given)
        torch.testing.assert_close(whole.softmax(-1)[rows, TARGET], clean)
        blind = classifier.logits_given_maps(torch.zeros_like(layer.probabilities), *given)
        gained = clean - blind.softmax(-1)[rows, TARGET]
        found, gap = method.layer_attribution(
            classifier, batch, TARGET, number, layer.hidden, layer.probabilities
        )
        torch.testing.assert_close(found.sum((1, 2, 3)), gained, rtol=1e-3, atol=1e-4)
        assert gap.abs().max() < 1e-4
        total += found.sum((1, 2))
    torch.testing.assert_close(method.attribute(classifier, batch, TARGET).scores, total)


def plain_probability(classifier: Classifier, batch: TokenBatch, words: Tensor) -> Tensor:
    """The targets' probabilities by the Hugging Face model itself."""
    logits = classifier.model(
        inputs_embeds=words,
        attention_mask=batch.attention_mask.long(),
        token_type_ids=batch.token_type_ids,
    ).logits
    return logits.softmax(-1)[torch.arange(len(batch)), TARGET]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (GradientTimesInput(), lambda gradient, words: (gradient * words).sum(-1)),
        (Saliency(norm=2), lambda gradient, words: gradient.square().sum(-1).sqrt()),
        (Saliency(norm=1), lambda gradient, words: gradient.abs().sum(-1)),
    ],
    ids=["grad_x_input", "saliency_l2", "saliency_l1"],
)
def test_gradients_are_those_of_the_plain_model(
    method: Attributor,
    expected: Callable[[Tensor, Tensor], Tensor],
    classifier: Classifier,
    batch: TokenBatch,
) -> None:
    words = classifier.model.get_input_embeddings()(batch.input_ids).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(plain_probability(classifier, batch, words).sum(), words)
    found = method.attribute(classifier, batch, TARGET).scores
    torch.testing.assert_close(found, expected(gradient, words.detach()), rtol=1e-3, atol=1e-6)


def test_gradient_times_input_is_a_derivative(classifier: Classifier, batch: TokenBatch) -> None:
    """Central differences: scaling token 2's embedding by 1 ± h changes p by 2 h times its score."""
    classifier.model.double()
    words = classifier.model.get_input_embeddings()(batch.input_ids)
    step = torch.ones(words.shape[1], 1, dtype=torch.float64)
    step[2] = 1e-4
    up, down = words.clone(), words.clone()
    up[:, 2] *= 1 + 1e-4
    down[:, 2] *= 1 - 1e-4
    with torch.no_grad():
        rise = plain_probability(classifier, batch, up) - plain_probability(classifier, batch, down)
    classifier.model.float()
    found = GradientTimesInput().attribute(classifier, batch, TARGET).scores[:, 2]
    torch.testing.assert_close(found, (rise / 2e-4).float(), rtol=1e-3, atol=1e-6)
