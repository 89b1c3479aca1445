"""Other people's models: what their heads say, and which folders are refused and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from tokenizers import processors
from transformers import (
    AutoModelForSequenceClassification,
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from iba.data.examples import Example
from iba.data.tokens import tokenise
from iba.errors import UserError
from iba.evaluation.degradation import Ranked, curve
from iba.models.classifier import Classifier
from iba.models.heads import MULTI_LABEL
from iba.models.pretrained import encoder_source, load_classifier, new_classifier
from iba.models.tiny import tiny_bert, tiny_tokenizer
from iba.own_text.explanation import Explanation, explain

TEXT = "Anna called the concert wonderful, on Monday."
PAIR = ("Anna has a red coat.", "The coat of Anna is blue.")
LIGHT = ("method.iba.settings.n_copies=2", "method.iba.settings.n_steps=3")
ENCODER = OmegaConf.create({"name": "own", "hub": "own"})
SPECIAL = {f"{kind}_token": f"[{kind.upper()}]" for kind in ("pad", "unk", "cls", "sep", "mask")}
SEGMENTED = ["input_ids", "token_type_ids", "attention_mask"]

Save = Callable[..., Path]


def wide(model: Any) -> Any:
    """Weights so wide that the logits depend visibly on the text."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean=float("norm.weight" in name.lower()), std=0.2)
    return model.eval()


def tokenizer_without(*kinds: str, **settings: Any) -> PreTrainedTokenizerFast:
    """The tiny tokenizer without some of its special tokens, and with other settings."""
    left = {name: token for name, token in SPECIAL.items() if name.removesuffix("_token") not in kinds}
    given = {"model_max_length": 512, "model_input_names": SEGMENTED} | left | settings
    return PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer, **given)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save a tiny classifier with so many logits; keywords change its config.json afterwards."""

    def saved(n_logits: int = 2, tokenizer: Any = None, shape: Any = None, **config: Any) -> Path:
        tokenizer = tokenizer or tiny_tokenizer()
        names = [f"LABEL_{i}" for i in range(n_logits)]
        wide(tiny_bert(len(tokenizer), names, **(shape or {}))).save_pretrained(tmp_path)
        tokenizer.save_pretrained(tmp_path)
        edit(tmp_path, **config)
        return tmp_path

    return saved


def edit(folder: Path, **config: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


def own_logits(folder: Path, *text: str) -> torch.Tensor:
    """What transformers itself makes of a text: tokenizer and forward pass as everybody calls them."""
    classifier = Classifier(*load_classifier(folder))
    return forwarded(classifier, *text)


def forwarded(classifier: Classifier, *text: str) -> torch.Tensor:
    inputs = classifier.tokenizer(*text, return_tensors="pt")
    with torch.no_grad():
        logits: torch.Tensor = classifier.model(**inputs).logits[0]
    return logits


def explained(folder: Path, *methods: str, **settings: Any) -> Explanation:
    methods = methods or ("iba",)
    return explain(TEXT, folder, methods=methods, overrides=LIGHT if "iba" in methods else (), **settings)


def names(*labels: Any) -> dict[str, Any]:
    """The part of config.json that names the classes."""
    return {"id2label": {str(i): label for i, label in enumerate(labels)}}


# Heads


def test_each_of_many_labels_has_the_sigmoid_of_its_logit(save: Save) -> None:
    folder = save(3, problem_type=MULTI_LABEL, **names("joy", "fear", "not sad"))
    expected = own_logits(folder, TEXT).sigmoid().tolist()
    for number, name in enumerate(("joy", "fear", "not sad")):
        for target in (name, number, str(number)):
            found = explained(folder, "ig", target=target)
            assert found.target == name
            assert found.probabilities[name] == pytest.approx(expected[number], abs=1e-5)
            assert sum(found.probabilities.values()) == pytest.approx(1)
    best = ("joy", "fear", "not sad")[int(np.argmax(expected))]
    predicted = explained(folder)
    assert set(predicted.probabilities) == {best, f"not {best}"}
    assert predicted.target == predicted.predicted
    assert predicted.probabilities[predicted.target] >= 0.5
    assert np.isfinite(predicted.methods[0].scores).all()
    assert any("a yes or no by itself" in note and best in note for note in predicted.notes)
    assert explained(folder, "ig", target="not joy").probabilities["not joy"] == pytest.approx(
        1 - expected[0]
    )
    with pytest.raises(UserError, match=r"no class 'calm'; the classifier has \['joy', 'fear', 'not sad'\]"):
        explained(folder, target="calm")


def test_many_labels_have_no_softmax(save: Save) -> None:
    classifier = Classifier(*load_classifier(save(3, problem_type=MULTI_LABEL)))
    batch = classifier.batch(tokenise([Example("a", TEXT, None, 0)], classifier.tokenizer, 64))
    with pytest.raises(UserError, match="choose one of"):
        classifier.probabilities(batch)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}}
        | {"problem_type": MULTI_LABEL},
    ],
)
def test_a_single_logit_is_a_yes_by_its_sigmoid(save: Save, config: dict[str, Any]) -> None:
    folder = save(1, **config)
    found = explain(*PAIR[:1], folder, PAIR[1], overrides=LIGHT)
    yes = own_logits(folder, *PAIR).sigmoid().item()
    assert found.probabilities == {"no": pytest.approx(1 - yes), "yes": pytest.approx(yes, abs=1e-5)}
    assert np.isfinite(found.methods[0].scores).all()
    assert any("its sigmoid is read as the probability of yes" in note for note in found.notes)


def test_a_single_logit_is_explained_as_the_two_logits_0_and_z(save: Save) -> None:
    """The same classifier as a softmax: IBA, IG and occlusion say the same of it."""
    methods = ("iba", "ig", "occlusion")
    single = explained(save(1), *methods, target="yes")
    folder = save(1)
    weights = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = torch.cat([torch.zeros_like(weights[name]), weights[name]])
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    edit(folder, **names("no", "yes"))
    double = explained(folder, *methods, target="yes")
    assert single.probabilities == pytest.approx(double.probabilities)
    for one, two in zip(single.methods, double.methods, strict=True):
        np.testing.assert_allclose(one.scores, two.scores, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "config",
    [
        {"problem_type": "regression"},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
    ],
)
def test_a_predicted_number_is_refused_with_a_way_out(save: Save, config: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r'predicts a number, .*"problem_type": "multi_label_classification"'):
        explained(save(1, **config))


def test_several_predicted_numbers_are_refused(save: Save) -> None:
    with pytest.raises(UserError, match="predicts a number"):
        explained(save(3, problem_type="regression"))


def test_equal_class_names_are_numbered(save: Save) -> None:
    folder = save(3, **names("good", "bad", "good"))
    found = explained(folder, "ig", target="good (2)")
    assert list(found.probabilities) == ["good (0)", "bad", "good (2)"]
    assert list(found.probabilities.values()) == pytest.approx(own_logits(folder, TEXT).softmax(0).tolist())


@pytest.mark.parametrize(("asked", "logit"), [(7, 0), ("7", 0), (1, 2), ("1", 2), (0, 0), ("2", 2)])
def test_a_class_goes_by_its_name_and_else_by_its_number(save: Save, asked: str | int, logit: int) -> None:
    folder = save(3, **names(7, "x", 1))  # whole numbers as names: 1 is the name of the third
    found = explained(folder, "ig", target=asked)
    assert list(found.probabilities) == ["7", "x", "1"]
    assert found.target == ("7", "x", "1")[logit]
    with pytest.raises(UserError, match="no class 3"):
        explained(folder, target=3)


# Weights


def without(weights: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    return {name: values for name, values in weights.items() if part not in name}


def as_lora(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    query = "bert.encoder.layer.0.attention.self.query."
    return {name.replace(query, f"{query}base_layer."): values for name, values in weights.items()}


@pytest.mark.parametrize(
    ("change", "config", "message"),
    [
        (lambda w: without(w, "classifier"), {}, r"without a trained .* \(missing classifier\.bias, class"),
        (lambda w: without(w, "pooler"), {}, r"head \(missing bert\.pooler\.dense\.bias, bert\.pooler"),
        (lambda w: without(w, "layer.1.output"), {}, r"missing: bert\.encoder\.layer\.1\..* and 1 more\)"),
        (lambda w: w, {"num_hidden_layers": 6}, r"missing: bert\.encoder\.layer\.4\..* and 29 more\)"),
        (lambda w: w, {"num_hidden_layers": 3}, r"unused: bert\.encoder\.layer\.3\..* and 13 more\)"),
        (lambda w: w, names("a", "b", "c"), r"classifier\.weight \(2, 32\) for \(3, 32\)"),
        (as_lora, {}, r"missing: .*query\.bias.*; unused: .*query\.base_layer"),
    ],
)
def test_weights_that_are_not_the_models_are_refused(
    save: Save, change: Callable[..., Any], config: dict[str, Any], message: str
) -> None:
    folder = save(**config)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, {"format": "pt"})
    with pytest.raises(UserError, match=message) as refused:
        explained(folder)
    assert "\n" not in str(refused.value)


def test_known_buffers_and_a_pretraining_head_are_no_fault(save: Save) -> None:
    folder = save()
    expected = own_logits(folder, TEXT)
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.position_ids"] = torch.arange(512)[None]
    weights["bert.embeddings.token_type_ids"] = torch.zeros(1, 512)
    weights["cls.predictions.bias"] = torch.zeros(3)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    torch.testing.assert_close(own_logits(folder, TEXT), expected)


def test_old_pickled_weights_are_the_same_weights(save: Save) -> None:
    folder = save()
    expected = own_logits(folder, TEXT)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    torch.testing.assert_close(own_logits(folder, TEXT), expected)


@pytest.mark.parametrize("suffix", ["safetensors", "bin", "whole"])
@pytest.mark.parametrize("kept", [0, 10, 20_000])  # torch has another exception for each
def test_files_that_are_cut_off_get_one_line(save: Save, suffix: str, kept: int) -> None:
    folder = save()
    file = folder / "model.safetensors"
    if suffix != "safetensors":
        model = AutoModelForSequenceClassification.from_pretrained(folder)
        file.unlink()
        file = folder / "pytorch_model.bin"
        torch.save(model.state_dict() if suffix == "bin" else model, file)
    file.write_bytes(file.read_bytes()[: kept if suffix != "whole" else None])
    with pytest.raises(UserError, match=r"damaged or cut off|cannot be loaded") as refused:
        explained(folder)
    assert "\n" not in str(refused.value)


# A new head for fine-tuning


@pytest.mark.parametrize("kind", [BertModel, BertForMaskedLM])
def test_a_pretrained_encoder_gets_a_new_head(save: Save, tmp_path: Path, kind: Any) -> None:
    folder = save(3, problem_type=MULTI_LABEL)
    encoder = kind.from_pretrained(folder)
    encoder.save_pretrained(folder)
    model, tokenizer = new_classifier(ENCODER, str(folder), ["a", "b"], 0)
    assert Classifier(model, tokenizer).labels == ["a", "b"]
    torch.testing.assert_close(
        model.bert.encoder.layer[3].output.dense.weight,
        encoder.base_model.encoder.layer[3].output.dense.weight,
    )
    weights = without(load_file(folder / "model.safetensors"), "layer.2.")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"missing: bert\.encoder\.layer\.2\."):
        new_classifier(ENCODER, str(folder), ["a", "b"], 0)


def test_a_head_of_other_classes_is_replaced(save: Save) -> None:
    model, _ = new_classifier(ENCODER, str(save(3)), ["a", "b"], 0)
    assert model.classifier.weight.shape == (2, 32)
    assert model.config.problem_type != MULTI_LABEL


def test_training_without_a_padding_token_is_refused(save: Save) -> None:
    with pytest.raises(UserError, match="training needs a padding token"):
        new_classifier(ENCODER, str(save(tokenizer=tokenizer_without("pad"))), ["a", "b"], 0)


# Folders


@pytest.mark.parametrize("whole", [True, False])
def test_an_adapter_must_be_merged_first(save: Save, whole: bool) -> None:
    folder = save()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    if not whole:
        (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"merge_and_unload\(\)\.save_pretrained"):
        explained(folder)
    with pytest.raises(UserError, match=r"merge_and_unload\(\)\.save_pretrained"):
        encoder_source(ENCODER, str(folder))


def test_what_to_give_instead_goes_by_the_users_own_parameter(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Give model=FOLDER with a saved sequence classifier"):
        explained(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"paths\.model_dir=FOLDER"):
        load_classifier(tmp_path / "nothing")


@pytest.mark.parametrize(
    "config", [{"hidden_size": "wide"}, {"model_type": "none"}, {"num_attention_heads": 3}]
)
def test_a_configuration_that_cannot_be_gets_one_line(save: Save, config: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="cannot be loaded") as refused:
        explained(save(**config))
    assert "\n" not in str(refused.value)


# Tokenizers


def test_a_tokenizer_in_python_alone_is_refused(save: Save) -> None:
    folder = save()
    for file in folder.glob("tokenizer*"):
        file.unlink()
    (folder / "vocab.txt").write_text("a 1\nb 1\n")
    (folder / "bpe.codes").write_text("a b 1\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PhobertTokenizer"}))
    with pytest.raises(UserError, match="PhobertTokenizer is a tokenizer in Python alone"):
        explained(folder)


def test_text_may_be_cut_and_padded_on_the_left(save: Save) -> None:
    """Cut as the model's own tokenizer cuts; padded as the head needs it, which reads the first position."""
    folder = save(tokenizer=tokenizer_without(truncation_side="left", padding_side="left"))
    _, tokenizer = load_classifier(folder)
    (found,) = tokenise([Example("a", TEXT, None, 0)], tokenizer, 6)
    assert found.truncated
    assert [TEXT[a:b] for a, b in found.offsets[1:-1]] == [",", "on", "Monday", "."]
    assert list(found.input_ids) == tokenizer(TEXT, truncation=True, max_length=6)["input_ids"]
    assert tokenizer.pad({"input_ids": [[2, 3], [2]]})["attention_mask"] == [[1, 1], [1, 0]]


def test_without_a_padding_token_all_is_alike_but_what_needs_it(save: Save) -> None:
    methods = ("iba", "lime", "occlusion")
    expected = explained(save(), *methods)
    folder = save(tokenizer=tokenizer_without("pad"))
    found = explained(folder, *methods)
    assert [m.scores for m in found.methods] == [m.scores for m in expected.methods]
    tokenizer = load_classifier(folder)[1]
    classifier = Classifier(load_classifier(folder)[0], tokenizer)
    assert classifier.blank_id == tokenizer.unk_token_id
    assert classifier.empty_id == tokenizer.unk_token_id
    tokenizer.unk_token = None
    with pytest.raises(UserError, match="IG's baseline needs a pad or eos or unk or bos token"):
        explain(TEXT, (classifier.model, tokenizer), methods=["ig"])


def test_without_a_mask_token_tokens_can_be_deleted_but_not_masked(save: Save) -> None:
    classifier = Classifier(*load_classifier(save(tokenizer=tokenizer_without("mask"))))
    ranked = [Ranked([2, 40, 41, 3], [0] * 4, [1, 2], 0)]
    ((whole, *_),) = curve(classifier, ranked, [0.0, 0.5], "delete")
    assert 0 < whole[1] < 1
    with pytest.raises(UserError, match="operators: mask needs a mask token"):
        curve(classifier, ranked, [0.0, 0.5], "mask")


def roberta() -> tuple[Any, PreTrainedTokenizerFast]:
    backend = tiny_tokenizer().backend_tokenizer
    backend.post_processor = processors.RobertaProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **SPECIAL)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    return RobertaForSequenceClassification(RobertaConfig(vocab_size=400, **shape)), tokenizer


def distilbert() -> tuple[Any, PreTrainedTokenizerFast]:
    config = DistilBertConfig(vocab_size=400, dim=32, n_layers=2, n_heads=2, hidden_dim=48)
    return DistilBertForSequenceClassification(config), tokenizer_without(model_input_names=SEGMENTED[::2])


def bert(*inputs: str) -> tuple[Any, PreTrainedTokenizerFast]:
    return tiny_bert(400, ["a", "b"]), tokenizer_without(model_input_names=list(inputs))


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: bert(*SEGMENTED), id="bert"),
        pytest.param(lambda: bert("input_ids", "attention_mask"), id="bert without segments"),
        pytest.param(roberta, id="roberta"),
        pytest.param(distilbert, id="distilbert"),
    ],
)
def test_a_pair_has_the_logits_of_the_models_own_forward(made: Callable[[], Any], tmp_path: Path) -> None:
    model, tokenizer = made()
    wide(model).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    classifier = Classifier(*load_classifier(tmp_path))
    batch = classifier.batch(tokenise([Example("a", *PAIR, 0)], classifier.tokenizer, 64))
    ours = classifier.logits(batch.inputs)[0]
    torch.testing.assert_close(ours, forwarded(classifier, *PAIR), rtol=1e-4, atol=1e-5)


# The last layer


@pytest.mark.parametrize("n_layers", [2, 3])
def test_the_bottleneck_is_never_after_the_last_layer_by_default(save: Save, n_layers: int) -> None:
    found = explained(save(shape={"num_hidden_layers": n_layers}))
    assert found.methods[0].details["layer"] == n_layers - 1
    assert not any("the last" in note for note in found.notes)


def test_the_last_layer_is_explained_when_asked_for_and_said(save: Save) -> None:
    folder = save(shape={"num_hidden_layers": 1})
    with pytest.raises(UserError, match=r"the only layer of this encoder is its last.*give layer=1"):
        explained(folder)
    assert np.isfinite(explained(folder, "ig").methods[0].scores).all()
    asked = explain(TEXT, folder, overrides=[*LIGHT, "method.iba.settings.layer=1"])
    assert any("after layer 1, the last, the head reads [CLS] alone" in note for note in asked.notes)
