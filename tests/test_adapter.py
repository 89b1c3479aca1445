"""The adapter against the Hugging Face forward of many architectures, on random weights."""

from __future__ import annotations

import inspect
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from architectures import N_LAYERS, SHAPES, byte_tokenizer, tiny_model
from scipy.stats import spearmanr
from torch import Tensor, nn

from baselines.attattr import AttentionAttribution
from baselines.attention_rollout import AttentionRollout
from baselines.integrated_gradients import IntegratedGradients
from baselines.lime_tokens import LimeTokens
from baselines.occlusion import Occlusion
from iba.attribution import InformationBottleneck
from iba.attributor import Attributor, FitData
from iba.data.examples import Example
from iba.data.tokens import Instance, tokenise
from iba.errors import UserError
from iba.evaluation.degradation import Ranked, curve
from iba.models.adapter import Adapter
from iba.models.block import FAMILIES
from iba.models.classifier import Classifier
from iba.models.postnorm import PostNorm
from iba.models.tiny import tiny_tokenizer
from iba.own_text.explanation import explain

TEXTS = (
    "Anna walked from the station to the harbour on Monday. It felt awful.",
    "The lecture was wonderful.",
    "Superb!",
)
TARGET = torch.tensor([1, 0, 2])
#: Architectures whose attention maps cannot be read, or not be set.
NO_MAPS = ("longformer", "xlnet")


def methods() -> dict[str, Attributor]:
    return {
        "iba": InformationBottleneck(0.75, 0.1, n_steps=2, n_copies=2, max_tokens=32),
        "ig": IntegratedGradients(n_steps=3),
        "lime": LimeTokens(n_samples=20),
        "occlusion": Occlusion(),
    }


@pytest.fixture(scope="module", params=[*SHAPES, "gpt2 of bytes", "llama of bytes"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def adapted(kind: str) -> Classifier:
    """Of bytes: with a tokenizer that has no mask, no padding, and adds no special tokens."""
    model, _, of_bytes = kind.partition(" ")
    return Classifier(tiny_model(model), byte_tokenizer() if of_bytes else tiny_tokenizer(), fast=False)


@pytest.fixture
def rows(adapted: Classifier) -> list[Instance]:
    examples = [Example(f"test:{i}", text, None, 0) for i, text in enumerate(TEXTS)]
    return tokenise(examples, adapted.tokenizer, 64)


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def own_logits(classifier: Classifier, row: Instance) -> Tensor:
    """By the model's own forward, one text without padding."""
    model: Any = classifier.model
    segments, name = {}, "token_type_ids"
    if name in inspect.signature(model.forward).parameters and name in classifier.tokenizer.model_input_names:
        segments = {name: torch.tensor([row.token_type_ids])}
    with torch.no_grad():
        return model(torch.tensor([row.input_ids]), **segments).logits[0]


def test_padded_texts_and_every_layer_give_the_models_own_logits(
    adapted: Classifier, rows: list[Instance]
) -> None:
    inputs = adapted.batch(rows).inputs
    expected = torch.stack([own_logits(adapted, row) for row in rows])
    close(adapted.logits(inputs), expected)
    states = adapted.runner.hidden_states(inputs, range(N_LAYERS + 1))
    for layer, state in states.items():
        close(adapted.logits_from(state, inputs, layer), expected)
        close(adapted.logits_from(torch.cat([state, state]), inputs, layer)[len(rows) :], expected)
    assert expected.std(0).max() > 1e-3, "the test is blind if the logits do not depend on the input"


def test_the_state_is_used_and_has_gradients_where_the_text_is(
    adapted: Classifier, rows: list[Instance]
) -> None:
    batch = adapted.batch(rows)
    words = adapted.word_embeddings(batch.input_ids).detach().requires_grad_()
    logits = adapted.logits_of_words(words, batch.inputs)
    close(logits.detach(), adapted.logits(batch.inputs))
    (by_words,) = torch.autograd.grad(logits[:, 0].sum(), words)
    state = adapted.hidden_states(batch, [1])[1].requires_grad_()
    (by_state,) = torch.autograd.grad(adapted.logits_from(state, batch.inputs, 1)[:, 0].sum(), state)
    for gradient in (by_words, by_state):
        assert (gradient[batch.attention_mask].abs().sum(-1) > 0).all()
        assert (gradient[~batch.attention_mask] == 0).all()


@pytest.mark.parametrize("name", methods())
def test_methods_score_a_batch_as_each_text_alone(
    name: str, adapted: Classifier, rows: list[Instance]
) -> None:
    method = methods()[name]
    method.restore(method.fit(adapted, FitData(rows)))
    together = method.attribute(adapted, adapted.batch(rows), TARGET).scores
    for row, instance in enumerate(rows):
        alone = method.attribute(adapted, adapted.batch([instance]), TARGET[row : row + 1]).scores[0]
        assert alone.isfinite().all()
        torch.testing.assert_close(together[row, : len(instance)], alone, rtol=2e-2, atol=2e-4)
    assert together.std() > 0


def test_degradation_asks_the_model_itself(adapted: Classifier, rows: list[Instance]) -> None:
    row = rows[1]
    removal = [i for i, special in enumerate(row.special) if not special]
    ranked = Ranked(row.input_ids, row.token_type_ids, removal, 0)
    (found,) = curve(adapted, [ranked], [0.0, 0.5, 1.0], "delete")
    kept = [i for i, special in zip(row.input_ids, row.special, strict=True) if special]
    kept = kept or [adapted.tokenizer.eos_token_id]
    emptied = own_logits(adapted, replace(row, input_ids=tuple(kept), token_type_ids=(0,) * len(kept)))
    assert found[0][1] == pytest.approx(own_logits(adapted, row).softmax(-1)[0].item(), abs=1e-3)
    assert found[2][1] == pytest.approx(emptied.softmax(-1)[0].item(), abs=1e-3)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_a_decoder_with_a_tokenizer_of_bytes_is_explained(kind: str) -> None:
    model, text = tiny_model(kind), "Ça, Anna — it felt \N{GRINNING FACE} superb!"
    few = ["method.iba.settings.n_steps=2", "method.lime.settings.n_samples=20"]
    found = explain(text, (model, byte_tokenizer()), methods=[*methods()], overrides=few)
    assert not any(found.special)
    assert {text[start:end] for start, end in found.offsets} >= {"felt", "superb", "!"}
    for method in found.methods:
        assert all(map(math.isfinite, method.scores))
        assert any(method.scores)
    assert not any("hold" in note for note in found.notes), "there is no special token to speak of"
    classifier = Classifier(model, byte_tokenizer())
    (hidden,) = curve(classifier, [Ranked([5, 6], [0, 0], [0, 1], 0)], [1.0], "attention")
    (single,) = curve(classifier, [Ranked([0], [0], [], 0)], [0.0], "delete")
    assert hidden[0][1] == single[0][1], "where all is hidden, the token that ends a text is read alone"


def test_the_model_is_bit_for_bit_as_before_also_after_an_error(
    adapted: Classifier, rows: list[Instance]
) -> None:
    model, batch = adapted.model, adapted.batch(rows)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    config, forwards = model.config.to_dict(), [layer.forward for layer in adapted.runner.layers]
    state = adapted.hidden_states(batch, [1])[1]
    with pytest.raises(RuntimeError):
        adapted.logits_from(state[..., :-1], batch.inputs, 1)
    for method in methods().values():
        method.restore(method.fit(adapted, FitData(rows)))
        method.attribute(adapted, batch, TARGET)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.config.to_dict() == config
    assert [layer.forward for layer in adapted.runner.layers] == forwards
    modules = list(model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks or "forward" in m.__dict__ for m in modules)


def test_rollout_is_that_of_the_models_own_maps(kind: str, adapted: Classifier, rows: list[Instance]) -> None:
    batch = adapted.batch(rows)
    if kind in NO_MAPS:
        with pytest.raises(UserError, match="gives no attention maps"):
            AttentionRollout().attribute(adapted, batch, TARGET)
        return
    scores = AttentionRollout().attribute(adapted, batch, TARGET).scores
    torch.testing.assert_close(scores.sum(1), torch.ones(len(rows)), rtol=1e-3, atol=1e-3)
    maps = [found.sum(-1) for _, found in adapted.runner.attentions(batch.inputs)]
    assert len(maps) == N_LAYERS


@pytest.mark.parametrize("family", [kind for kind in SHAPES if kind in FAMILIES])
def test_adapter_and_fast_path_rank_alike(family: str) -> None:
    fast, general = (Classifier(tiny_model(family), tiny_tokenizer(), fast=f) for f in (True, False))
    assert isinstance(fast.runner, PostNorm)
    assert isinstance(general.runner, Adapter)
    rows = tokenise([Example(t, t, None, 0) for t in TEXTS], fast.tokenizer, 64)
    maps = [AttentionRollout(), *([] if family == "mpnet" else [AttentionAttribution(3)])]
    for method in (*methods().values(), *maps):
        found = []
        for classifier in (fast, general):
            method.restore(method.fit(classifier, FitData(rows)))
            found.append(method.attribute(classifier, classifier.batch(rows), TARGET).scores[0])
        torch.testing.assert_close(*found, rtol=1e-2, atol=1e-4)
        assert spearmanr(*found).statistic > 0.9999


def test_a_model_whose_layers_cannot_be_started_is_refused() -> None:
    model = tiny_model("gpt2")

    class Counting(nn.Module):
        """A layer that depends on how often the model has run: no state can stand for what came before."""

        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.count = inner, 0

        def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            self.count += 1
            return self.inner(hidden, *args, **kwargs).roll(self.count, -1)

    model.transformer.h = nn.ModuleList([Counting(layer) for layer in model.transformer.h])
    with pytest.raises(UserError, match="cannot be started after layer 1"):
        Classifier(model, tiny_tokenizer())


@pytest.mark.parametrize("kind", ["bert", "electra", "llama"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_in_sixteen_bits_keeps_them(kind: str, dtype: torch.dtype) -> None:
    classifier = Classifier(tiny_model(kind).to(dtype), tiny_tokenizer(), fast=False)
    rows = tokenise([Example(t, t, None, 0) for t in TEXTS], classifier.tokenizer, 64)
    for method in methods().values():
        method.restore(method.fit(classifier, FitData(rows)))
        scores = method.attribute(classifier, classifier.batch(rows), TARGET).scores
        assert scores.dtype == torch.float32
        assert scores.isfinite().all()
    assert {p.dtype for p in classifier.model.parameters()} == {dtype}
