"""The adapter against the Hugging Face forward, for every architecture it knows, on random weights."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from architectures import COMMON, N_LAYERS
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    CamembertConfig,
    CamembertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    MPNetConfig,
    MPNetForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from iba.data.tokens import Inputs, Instance, TokenBatch, collate, tokenise
from iba.errors import UserError
from iba.models.block import Block
from iba.models.classifier import Classifier
from iba.models.pretrained import n_positions
from iba.models.tiny import tiny_tokenizer
from iba.pipeline.task import refuse_long_texts

SHAPE: dict[str, Any] = COMMON | {"num_labels": 3}
DISTIL: dict[str, Any] = {
    "vocab_size": 400,
    "dim": 32,
    "n_layers": N_LAYERS,
    "n_heads": 4,
    "hidden_dim": 48,
    "num_labels": 3,
}
ARCHITECTURES: dict[str, tuple[type[PreTrainedModel], PretrainedConfig]] = {
    "bert": (BertForSequenceClassification, BertConfig(**SHAPE)),
    "bert-relu": (BertForSequenceClassification, BertConfig(**SHAPE, hidden_act="relu")),
    "roberta": (RobertaForSequenceClassification, RobertaConfig(**SHAPE, type_vocab_size=1)),
    "roberta-segments": (RobertaForSequenceClassification, RobertaConfig(**SHAPE)),
    "xlm-roberta": (XLMRobertaForSequenceClassification, XLMRobertaConfig(**SHAPE, type_vocab_size=1)),
    "camembert": (CamembertForSequenceClassification, CamembertConfig(**SHAPE, type_vocab_size=1)),
    "distilbert": (DistilBertForSequenceClassification, DistilBertConfig(**DISTIL)),
    "mpnet": (MPNetForSequenceClassification, MPNetConfig(**SHAPE)),
}


def randomised(model: PreTrainedModel) -> PreTrainedModel:
    """Every parameter drawn at random: with the default norms (1 and 0) two swapped norms would go unseen."""
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        centre = float("norm.weight" in name.lower())
        with torch.no_grad():
            parameter.copy_(centre + 0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.fixture(params=ARCHITECTURES)
def adapted(request: pytest.FixtureRequest) -> Classifier:
    kind, config = ARCHITECTURES[request.param]
    return Classifier(randomised(kind(copy.deepcopy(config))), tiny_tokenizer())


@pytest.fixture
def padded(adapted: Classifier, instances: list[Instance]) -> TokenBatch:
    """Mixed lengths with segments, padded with the architecture's own padding id."""
    known = [i for i in instances if 1 not in i.input_ids]
    assert len(known) >= 4
    return collate(known, adapted.model.config.pad_token_id, "cpu")


def reference(classifier: Classifier, batch: TokenBatch) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """Logits and hidden states by the model's own forward."""
    has_segments = getattr(classifier.model.config, "type_vocab_size", 1) > 1
    segments = {"token_type_ids": batch.token_type_ids} if has_segments else {}
    with torch.no_grad():
        out = classifier.model(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask.long(),
            output_hidden_states=True,
            **segments,
        )
    return out.logits, out.hidden_states


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_hidden_states_and_logits_are_those_of_the_model(adapted: Classifier, padded: TokenBatch) -> None:
    logits, states = reference(adapted, padded)
    ours = adapted.hidden_states(padded, list(range(N_LAYERS + 1)))
    assert len(states) == N_LAYERS + 1
    for layer, state in enumerate(states):
        close(ours[layer][padded.attention_mask], state[padded.attention_mask])
    close(adapted.logits(padded.inputs), logits)
    close(adapted.probabilities(padded), logits.softmax(-1))
    assert logits.std(0).min() > 5e-3, "the test is blind if the logits do not depend on the input"


@pytest.mark.parametrize("layer", range(N_LAYERS + 1))
def test_logits_from_any_layer_are_the_full_forwards(
    adapted: Classifier, padded: TokenBatch, layer: int
) -> None:
    # The last block is computed at the first position alone; all layers must agree with the whole forward.
    logits, states = reference(adapted, padded)
    close(adapted.logits_from(states[layer], padded.inputs, layer), logits)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_one_product_for_queries_keys_and_values_changes_nothing(
    adapted: Classifier, padded: TokenBatch, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, forward and backward, here on the CPU."""
    adapted = adapted.in_precision(precision)
    hidden = adapted.hidden_states(padded, [1])[1].requires_grad_()

    def logits_and_gradient() -> tuple[torch.Tensor, torch.Tensor]:
        logits = adapted.logits_from(hidden, padded.inputs, 1)
        return logits.detach(), *torch.autograd.grad(logits[:, 0].sum(), hidden)

    apart = logits_and_gradient()
    monkeypatch.setattr(Block, "projected", lambda block, h: block.side_by_side(h).chunk(3, -1))
    for ours, theirs in zip(logits_and_gradient(), apart, strict=True):
        allowed = 1e-4 if precision == "fp32" else 0.02 * theirs.abs().max().item()
        torch.testing.assert_close(ours, theirs, rtol=0, atol=allowed)


def test_padding_changes_nothing(adapted: Classifier, padded: TokenBatch) -> None:
    full = adapted.logits(padded.inputs)
    for row, one in enumerate(padded.instances):
        alone = collate([one], adapted.model.config.pad_token_id, "cpu")
        assert alone.attention_mask.all()
        ours = adapted.logits(alone.inputs)
        close(ours[0], full[row])


def test_texts_that_are_grouped_anew_are_not_remembered_twice(
    classifier: Classifier, instances: list[Instance], monkeypatch: pytest.MonkeyPatch
) -> None:
    computed, plainly = [], classifier.runner.hidden_states
    monkeypatch.setattr(
        classifier.runner,
        "hidden_states",
        lambda inputs, _: computed.append(len(inputs.input_ids)) or plainly(inputs, [0, 1]),
    )
    pair, one, other = (classifier.batch(instances[rows]) for rows in (slice(2), slice(1), slice(2, 3)))
    with classifier.remembering():
        for batch in (pair, other, pair, one, other, one, pair):
            classifier.hidden_states(batch, [1])
    assert computed == [2, 1, 1, 2], "the pair was forgotten for its first text, and the other text never"


def test_no_mask_is_a_mask_of_all_tokens(adapted: Classifier, padded: TokenBatch) -> None:
    same = padded.input_ids[:, : min(map(len, padded.instances))]
    segments = torch.zeros_like(same)
    masked = adapted.logits(Inputs(same, torch.ones_like(same, dtype=torch.bool), segments))
    close(adapted.logits(Inputs(same, None, segments)), masked)


def test_embedding_by_words_is_embedding_by_ids(adapted: Classifier, padded: TokenBatch) -> None:
    words = adapted.word_embeddings(padded.input_ids)
    ours = adapted.post_norm.embed(padded.inputs, words)
    by_ids = adapted.post_norm.embed(padded.inputs)
    close(ours[padded.attention_mask], by_ids[padded.attention_mask])
    replaced = adapted.post_norm.embed(padded.inputs, words + 1.0)
    assert not torch.allclose(replaced[padded.attention_mask], by_ids[padded.attention_mask])


def test_gradient_reaches_the_hidden_state_and_no_parameter(adapted: Classifier, padded: TokenBatch) -> None:
    hidden = adapted.hidden_states(padded, [2])[2].requires_grad_()
    adapted.logits_from(hidden, padded.inputs, 2).sum().backward()
    assert hidden.grad is not None
    assert (hidden.grad[padded.attention_mask].abs().sum(-1) > 0).all()
    assert (hidden.grad[~padded.attention_mask] == 0).all()
    assert all(p.grad is None for p in adapted.model.parameters())


def test_as_many_tokens_as_the_encoder_can_number_run_and_no_more(adapted: Classifier) -> None:
    n = n_positions(adapted.model)
    refuse_long_texts(adapted.model, n)
    ids = torch.full((1, n + 1), 7)
    assert adapted.logits(Inputs(ids[:, :n], None, torch.zeros_like(ids[:, :n]))).isfinite().all()
    with pytest.raises(UserError, match=f"max_length={n + 1}: this encoder has {n} positions"):
        refuse_long_texts(adapted.model, n + 1)
    with pytest.raises((IndexError, RuntimeError)):
        adapted.logits(Inputs(ids, None, torch.zeros_like(ids)))


def test_segments_matter_for_bert(classifier: Classifier, instances: list[Instance]) -> None:
    batch = classifier.batch(instances)
    without = batch.inputs._replace(token_type_ids=torch.zeros_like(batch.token_type_ids))
    blind = classifier.logits(without).softmax(-1)
    changed = (classifier.probabilities(batch) - blind).abs().amax(1) > 1e-4
    assert changed.tolist() == [i.example.text_pair is not None for i in instances]


@pytest.mark.parametrize(("layer", "resolved"), [(1, 1), (4, 4), (0.75, 3), (0.25, 1), (0.9, 3)])
def test_layers_count_from_one_and_fractions_are_of_the_depth(
    classifier: Classifier, layer: int | float, resolved: int
) -> None:
    assert classifier.resolve_layer(layer) == resolved


def test_the_papers_layers_are_fractions_of_twelve() -> None:
    model = BertForSequenceClassification(BertConfig(**(SHAPE | {"num_hidden_layers": 12})))
    twelve = Classifier(model, tiny_tokenizer())
    assert (twelve.resolve_layer(0.75), twelve.resolve_layer(0.8333)) == (9, 10)


@pytest.mark.parametrize("layer", [0, -1, 5, 99, 0.01, -0.5])
def test_a_layer_out_of_range_is_refused(classifier: Classifier, layer: int | float) -> None:
    with pytest.raises(UserError, match=r"out of range: this encoder has layers 1 to 4\.$"):
        classifier.resolve_layer(layer)


def test_an_encoder_without_a_head_is_refused() -> None:
    with pytest.raises(UserError, match="no classification head"):
        Classifier(BertModel(BertConfig(**SHAPE)), tiny_tokenizer())


def test_a_class_goes_by_its_name(classifier: Classifier) -> None:
    assert classifier.labels == ["entailment", "neutral", "contradiction"]
    assert classifier.label_id("neutral") == 1
    with pytest.raises(UserError, match="no class 'maybe'"):
        classifier.label_id("maybe")


def test_the_model_is_frozen_and_without_dropout(classifier: Classifier, instances: list[Instance]) -> None:
    assert not classifier.model.training
    assert not any(p.requires_grad for p in classifier.model.parameters())
    batch = classifier.batch(instances)
    assert torch.equal(classifier.probabilities(batch), classifier.probabilities(batch))


def test_bfloat16_is_close_and_returns_float32(classifier: Classifier, instances: list[Instance]) -> None:
    rounded = Classifier(classifier.model, classifier.tokenizer, precision="bf16")
    batch = classifier.batch(instances)
    ours, exact = rounded.probabilities(batch), classifier.probabilities(batch)
    assert ours.dtype == torch.float32
    assert not torch.equal(ours, exact)
    torch.testing.assert_close(ours, exact, rtol=0, atol=0.03)


def test_unknown_tokens_stay_out_of_the_padding_tests(instances: list[Instance]) -> None:
    # Id 1 is [UNK] here and padding for RoBERTa and MPNet; the fixtures must never hold it.
    tokens = tokenise([i.example for i in instances[:1]], tiny_tokenizer(), 64)
    assert 1 not in tokens[0].input_ids
