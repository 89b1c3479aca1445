"""Explaining one's own text: what is explained, what is said about it, and how mistakes are met."""

from __future__ import annotations

import io
import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from rich.console import Console
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertModel,
    TextClassificationPipeline,
    pipeline,
)

import iba
from iba.attribution import InformationBottleneck
from iba.attributor import FitData, State
from iba.data.texts import OwnText, read_texts
from iba.data.tokens import Instance
from iba.errors import UserError
from iba.evaluation.variants import Variant
from iba.models.classifier import Classifier
from iba.models.tiny import tiny_bert, tiny_tokenizer
from iba.own_text import command, explanation, files, reference
from iba.own_text.explanation import Explanation, explain, explain_many
from iba.own_text.scores import MethodScores, remarks
from iba.own_text.show import visible

TEXT = "Anna called the concert <wonderful>, on Monday."
PAIR = ("Anna has a red coat.", "The coat of Anna is blue.")
LIGHT = ("method.iba.settings.n_copies=2", "method.iba.settings.n_steps=3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("classifier")
    tokenizer = tiny_tokenizer()
    tiny_bert(len(tokenizer), ["bad", "good"]).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def found(folder: Path) -> Explanation:
    return explain(TEXT, folder, methods=["iba", "ig"], overrides=LIGHT)


def test_the_calls_keep_their_names_beside_the_rooms() -> None:
    """A room of the package would hide a call of its name as soon as it is imported."""
    for _ in range(2):
        assert (iba.explain, iba.explain_many) == (explain, explain_many)
        assert callable(iba.show)
        assert callable(iba.save)


def test_predicted_class_is_explained_by_default(found: Explanation) -> None:
    assert found.target == found.predicted == max(found.probabilities, key=lambda c: found.probabilities[c])
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert [m.name for m in found.methods] == ["iba", "ig"]
    assert all(len(m.scores) == len(found.tokens) for m in found.methods)


def test_tokens_are_found_in_the_text_by_their_offsets(found: Explanation) -> None:
    spelled = [TEXT[start:end] for start, end in found.offsets]
    assert "".join(spelled) == TEXT.replace(" ", "")
    known = [found.tokens[i].removeprefix("##") for i, part in enumerate(found.sequence) if part == 0]
    assert known == [piece.lower() for piece in spelled if piece]


def test_bits_add_up_to_the_stored_bits_per_token(found: Explanation) -> None:
    bits = found.methods[0]
    assert bits.unit == "bits"
    assert sum(bits.scores) / len(bits.scores) == pytest.approx(bits.details["bits_per_token"], rel=1e-5)


def test_beta_follows_the_rule_of_thumb(folder: Path, found: Explanation) -> None:
    """10 × L_CE / L_IB, both read from the start of the optimisation that was run."""
    start = found.methods[0].details
    rule = 10 * start["cross_entropy_nats_start"] / start["mean_kl_nats_start"]
    assert start["beta"] == pytest.approx(rule, rel=1e-5)


@pytest.mark.parametrize("name", ["token_gate", "attention_write_bottleneck"])
def test_other_bottlenecks_have_a_beta_for_a_single_text(folder: Path, name: str) -> None:
    light = [f"method.{name}.settings.n_copies=1", f"method.{name}.settings.n_steps=2"]
    explained = explain(TEXT, folder, methods=[name], overrides=light)
    (method,) = explained.methods
    assert method.unit == "bits"
    assert any(f"β = {method.details['beta']:.3g}" in note for note in explained.notes)


def test_asked_class_changes_ig_by_its_sign(folder: Path) -> None:
    """With two classes the probabilities sum to one, so IG of one is minus IG of the other."""
    good, bad = (
        explain(TEXT, folder, methods=["ig"], target=name).methods[0].scores for name in ("good", "bad")
    )
    assert max(map(abs, good)) > 0
    assert good == pytest.approx([-s for s in bad], abs=1e-6)


def test_reference_texts_set_the_noise(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[FitData] = []
    fit = InformationBottleneck.fit

    def watched(self: InformationBottleneck, classifier: Classifier, data: FitData) -> State:
        seen.append(data)
        return fit(self, classifier, data)

    monkeypatch.setattr(InformationBottleneck, "fit", watched)
    explained = explain(PAIR[0], folder, PAIR[1], reference=[PAIR, PAIR], overrides=LIGHT)
    assert [r.example.text_pair for r in seen[0].train] == [PAIR[1]] * 2
    assert any("2 given reference texts" in note for note in explained.notes)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    """transformers would make one that knows no word, and explain a text of unknown words."""
    shutil.copytree(folder, tmp_path / "model")
    for file in (*(tmp_path / "model").glob("*token*"), *(tmp_path / "model").glob("vocab*")):
        file.unlink()
    with pytest.raises(UserError, match="holds no tokenizer"):
        explain(TEXT, tmp_path / "model", methods=["ig"])


def test_long_text_is_cut_and_said(folder: Path) -> None:
    explained = explain("good " * 50, folder, methods=["ig"], overrides=["max_length=12"])
    assert len(explained.tokens) == 12
    assert any("cut at 12 tokens" in note for note in explained.notes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": "  \n"}, "text is empty"),
        ({"text_pair": " "}, "text_pair is empty"),
        ({"target": "superb"}, "no class 'superb'"),
        ({"model": "/nowhere/at/all"}, "cannot be loaded"),
        ({"methods": ["astrology"]}, "astrology"),
        ({"reference": [PAIR]}, "reference texts must be single"),
        ({"reference": "Anna has a red coat."}, "reference is one string: give a list"),
        ({"reference": [PAIR[0], " "]}, "reference, row 2: text is empty"),
        ({"methods": "ig"}, r"methods is one string: give a list of names, such as \['ig'\]"),
        ({"overrides": ["device=0"]}, "device=0 cannot be used"),
        ({"overrides": ["max_length=1"]}, "max_length=1 must be greater than or equal to 4"),
        ({"overrides": ["seed=x"]}, "seed=x must be a valid integer"),
    ],
)
def test_mistakes_get_one_line(folder: Path, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        explain(**({"text": TEXT, "model": folder, "methods": ["ig"]} | change))


@pytest.mark.parametrize(
    ("texts", "targets", "message"),
    [
        ("Anna called.", None, "texts is one string: give a list"),
        ([], None, "no text to explain"),
        ([TEXT, ""], None, "texts, row 2: text is empty"),
        ([TEXT, PAIR], None, "texts, row 2: pairs and single texts are mixed"),
        ([TEXT, TEXT], ["good", "superb"], "texts, row 2: no class 'superb'"),
        ([TEXT, TEXT], ["good"], "1 targets were given for 2 texts"),
    ],
)
def test_a_mistake_in_many_texts_names_its_row(
    folder: Path, texts: Any, targets: list[str] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        explain_many(texts, folder, ["ig"], targets)


def same(found: Explanation, other: Explanation, tolerance: float = 0.0) -> None:
    """The same but for the seconds, up to `tolerance` in every number."""
    for one, two in zip(found.methods, other.methods, strict=True):
        assert (one.name, one.unit) == (two.name, two.unit)
        assert one.scores == pytest.approx(two.scores, rel=tolerance, abs=tolerance)
        assert one.details == pytest.approx(two.details, rel=tolerance, abs=tolerance)
    assert found.probabilities == pytest.approx(other.probabilities, abs=tolerance)
    rest = ("model", "text", "text_pair", "tokens", "special", "predicted", "target")
    assert all(getattr(found, name) == getattr(other, name) for name in rest)


@pytest.mark.parametrize("kind", ["pair", "pipeline", "classifier"])
def test_a_loaded_model_says_what_its_folder_says_and_is_left_as_it_was(
    folder: Path, found: Explanation, kind: str
) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model.train()
    model.bert.embeddings.eval().requires_grad_(False)
    flags = {name: module.training for name, module in model.named_modules()}
    learns = {name: p.requires_grad for name, p in model.named_parameters()}
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    given: Any = {
        "pair": lambda: (model, tokenizer),
        "pipeline": lambda: pipeline("text-classification", model=model, tokenizer=tokenizer),
        "classifier": lambda: Classifier(model, tokenizer),
    }[kind]()
    if kind != "pair":  # these have set the model to evaluation themselves
        flags = {name: module.training for name, module in model.named_modules()}
        learns = {name: p.requires_grad for name, p in model.named_parameters()}
    same(explain(TEXT, given, methods=["iba", "ig"], overrides=LIGHT), found)
    assert {name: module.training for name, module in model.named_modules()} == flags
    assert {name: p.requires_grad for name, p in model.named_parameters()} == learns
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_loaded_model_is_left_as_it_was_after_a_mistake_too(folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder).train()
    with pytest.raises(UserError, match="no class"):
        explain(TEXT, (model, AutoTokenizer.from_pretrained(folder)), methods=["ig"], target="superb")
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())


def test_what_is_no_classifier_with_its_tokenizer_is_refused(folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    given: list[Any] = [
        TextClassificationPipeline(model=model, tokenizer=None),
        (torch.nn.Linear(2, 2), AutoTokenizer.from_pretrained(folder)),
    ]
    for wrong in given:
        with pytest.raises(UserError, match=r"give a folder, a hub id, \(model, tokenizer\)"):
            explain(TEXT, wrong, methods=["ig"])


def test_a_folder_is_loaded_once_and_again_when_it_changed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = explanation.load_classifier
    monkeypatch.setattr(
        explanation, "load_classifier", lambda *a, **k: (loaded.append(a[0]), load(*a, **k))[1]
    )
    shutil.copytree(folder, tmp_path / "model")
    first, second = (explain(TEXT, tmp_path / "model", methods=["ig"]) for _ in range(2))
    assert len(loaded) == 1
    same(first, second)
    config = json.loads((tmp_path / "model/config.json").read_text())
    config["id2label"] = {"0": "awful", "1": "good"}
    (tmp_path / "model/config.json").write_text(json.dumps(config))
    assert "awful" in explain(TEXT, tmp_path / "model", methods=["ig"]).probabilities
    assert len(loaded) == 2


MANY = [TEXT, "Ben has a boat.", "A hat, a coat and a red boat in the garden of Anna on Monday."]


def test_many_texts_get_what_each_gets_alone(folder: Path) -> None:
    """Also where β differs by text (IBA's rule) and where chance decides (LIME)."""
    methods, targets = ["iba", "ig", "lime"], ["good", None, "bad"]
    together = explain_many(MANY, folder, methods, targets, overrides=LIGHT)
    assert [one.row for one in together] == [1, 2, 3]
    assert len({one.methods[0].details["beta"] for one in together}) == 3
    for text, target, found in zip(MANY, targets, together, strict=True):
        alone = explain(text, folder, methods=methods, target=target, overrides=LIGHT)
        same(found, alone, 1e-5)
        assert found.notes == alone.notes


def test_many_pairs_keep_their_order(folder: Path) -> None:
    pairs = [PAIR, ("Ben has a boat.", "The boat of Ben is blue, or red.")]
    assert [(f.text, f.text_pair) for f in explain_many(pairs, folder, ["ig"])] == pairs


def test_labels_that_are_a_yes_or_no_each_are_explained_text_by_text(folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, problem_type="multi_label_classification"
    )
    given = (model, AutoTokenizer.from_pretrained(folder))
    together = explain_many(MANY, given, ["iba"], ["good", "bad", "good"], overrides=LIGHT)
    assert [one.target for one in together] == ["good", "bad", "good"]
    for text, found in zip(MANY, together, strict=True):
        same(found, explain(text, given, target=found.target, overrides=LIGHT), 1e-5)


@pytest.mark.usefixtures("unchecked")  # the check of a shape reads a row to know its type
@pytest.mark.parametrize(("method", "read"), [("ig", []), ("iba", [2])])
def test_reference_texts_are_read_only_where_a_method_needs_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch, method: str, read: list[int]
) -> None:
    classified: list[int] = []
    answer = reference.class_probabilities

    def counted(classifier: Classifier, variants: list[Variant]) -> np.ndarray:
        classified.append(len(variants))
        return answer(classifier, variants)

    monkeypatch.setattr(reference, "class_probabilities", counted)
    explain(TEXT, folder, methods=[method], reference=["Ben has a boat."] * 2)
    assert classified == [1, *read], "the text itself, and then the reference texts"


def test_all_methods_explain_a_text(folder: Path) -> None:
    light = [*LIGHT, "method.token_gate.settings.n_steps=2", "method.token_gate.settings.n_copies=1"]
    light += ["method.iba_readout.settings.n_training_steps=2"]
    light += [f"method.attention_write_bottleneck.settings.{key}=1" for key in ("n_steps", "n_copies")]
    found = explain("Anna called.", folder, methods=["all"], reference=[TEXT], overrides=light)
    named = OmegaConf.load(explanation.CONFIGS / "method" / "all.yaml").defaults
    assert {method.name for method in found.methods} == set(named)


def test_special_tokens_share_of_the_bits_is_said(found: Explanation) -> None:
    bits = found.methods[0].scores
    share = (bits[0] + bits[-1]) / sum(bits)
    assert f"IBA: [CLS] and [SEP] hold {100 * share:.0f} % of the bits." in found.notes


def test_ig_tells_what_its_scores_should_add_up_to(folder: Path, found: Explanation) -> None:
    """By hand: the model's own probability of the text, less that of [PAD] in place of every word."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer(TEXT, return_tensors="pt")
    blank = text.input_ids.clone()
    blank[:, 1:-1] = tokenizer.pad_token_id
    with torch.no_grad():
        p, p_blank = (model(**text | {"input_ids": i}).logits.softmax(-1)[0] for i in (text.input_ids, blank))
    gained = float((p - p_blank)[model.config.label2id[found.target]])
    ig = found.methods[1]
    assert ig.details["probability_gained"] == pytest.approx(gained, abs=1e-6)
    assert ig.details["completeness_gap"] == pytest.approx(sum(ig.scores) - gained, abs=1e-6)
    (note,) = (note for note in found.notes if note.startswith("IG"))
    assert f"add up to {sum(ig.scores):+.3f}, the text gains {gained:+.3f} over its baseline" in note


@pytest.mark.parametrize(
    ("gained", "gap", "warned"),
    [
        (0.9, 0.09, False),
        (0.9, -0.11, True),  # a tenth of probability
        (0.3, 0.05, False),
        (0.3, -0.07, True),  # a fifth of what was gained
        (0.001, 0.005, False),  # nothing to see
        (None, 0.09, False),
        (None, 0.11, True),
    ],
)
def test_a_large_gap_is_warned_of(
    classifier: Classifier, instances: list[Instance], gained: float | None, gap: float, warned: bool
) -> None:
    details = {"completeness_gap": gap} | ({} if gained is None else {"probability_gained": gained})
    method = MethodScores("ig", "IG", "", (0.0,), details, 0.0)
    (note,) = remarks(classifier, instances[0], False, [method])
    assert note.startswith("Warning: IG") == warned
    assert ("method.ig.settings.n_steps=50" in note) == warned


def test_encoder_without_a_head_is_refused(folder: Path, tmp_path: Path) -> None:
    BertModel.from_pretrained(folder).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="without a trained classification head"):
        explain(TEXT, tmp_path, methods=["ig"])


TABLE = pd.DataFrame({"text": [TEXT, "null"], "target": ["good", None]})


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
def test_texts_of_a_table_keep_their_rows_and_targets(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"texts.{ending}"
    write = {
        "csv": lambda: TABLE.to_csv(file, index=False),
        "json": lambda: TABLE.to_json(file, orient="records"),
        "jsonl": lambda: TABLE.to_json(file, orient="records", lines=True),
        "parquet": lambda: TABLE.to_parquet(file),
    }
    write[ending]()
    assert read_texts(file) == [
        OwnText(TEXT, None, "good", str(file), 1),
        OwnText("null", None, None, str(file), 2),
    ]


def test_texts_of_lines_keep_their_line_numbers(tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("one, two\n\nthree\tfour\r\n", encoding="utf-8-sig")
    assert read_texts(file) == [
        OwnText("one, two", None, None, str(file), 1),
        OwnText("three", "four", None, str(file), 3),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"Anna\n \tBen\n", r"a\.txt, row 2: text is empty"),
        ("a.txt", b"\xff\xfe\xff", r"a\.txt is not UTF-8 text"),
        ("a.csv", b"sentence,label\nAnna,1\n", r"a\.csv: no column 'text'; the file has .*sentence"),
        ("a.csv", b"text,target\nAnna,good\n ,bad\n", r"a\.csv, row 2: text is empty"),
        ("a.csv", b"", r"a\.csv cannot be read"),
        ("a.jsonl", b'{"text": "Anna"}\n{"text": null}\n', r"a\.jsonl, row 2: text is None; it must be text"),
        ("a.jsonl", b'{"text": 3}\n', r"a\.jsonl, row 1: text is 3; it must be text"),
        ("a.jsonl", b'{"text": "Anna"', r"a\.jsonl cannot be read"),
        ("a.parquet", b"PAR1", r"a\.parquet cannot be read"),
    ],
)
def test_a_mistake_in_a_file_names_file_and_row(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_texts(tmp_path / name)


def script(repository: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Run scripts/explain.py in this process."""
    monkeypatch.setattr(sys, "argv", ["explain.py", *arguments])
    for name, value in (("IBA_ROOT", str(repository)), ("HYDRA_FULL_ERROR", "1")):
        monkeypatch.setenv(name, value)
    runpy.run_path(str(repository / "scripts" / "explain.py"), run_name="__main__")


def test_the_script_explains_a_file_of_texts(
    folder: Path,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, out = tmp_path / "my, texts.csv", tmp_path / "own"
    pd.DataFrame({"text": MANY, "target": ["bad", "", ""]}).to_csv(file, index=False)
    asked = (f"texts={file}", f"model={folder}", "method=ig,lime", "target=good", f"out={out}")
    script(repository, monkeypatch, *asked, "max_length=12")
    cut = f"2 of 3 texts were cut, the first in row 1 of {file}"
    assert capsys.readouterr().out.splitlines() == [cut, f"{out}.html", f"{out}.parquet"]
    stored = pd.read_parquet(f"{out}.parquet")
    assert list(zip(stored.row, stored.method, stored.target, strict=True)) == [
        (row, method, target)
        for row, target in ((1, "bad"), (2, "good"), (3, "good"))
        for method in ("ig", "lime")
    ]
    for (_, ig), one in zip(
        stored[stored.method == "ig"].iterrows(),
        explain_many(MANY, folder, ["ig"], ["bad", "good", "good"], overrides=["max_length=12"]),
        strict=True,
    ):
        assert ig.text == one.text
        assert list(ig.tokens) == list(one.tokens)
        assert list(ig.scores) == pytest.approx(one.methods[0].scores, abs=1e-6)
        assert ig.probability == pytest.approx(one.probabilities[one.target], abs=1e-6)
        assert ig.completeness_gap == pytest.approx(one.methods[0].details["completeness_gap"], abs=1e-6)
    page = Path(f"{out}.html").read_text()
    assert page.count("<h1>") == 3
    assert page.count('name="unit"') == 2, "one switch for all texts"
    assert "row 3" in page


def test_lines_of_standard_input_are_shown(
    folder: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Anna called.\n\nBen has a boat.\n"))
    script(repository, monkeypatch, "texts=-", f"model={folder}", "method=ig", "out=null")
    shown = capsys.readouterr()
    assert "Anna called." in shown.out
    assert "Ben has a boat." in shown.out
    assert shown.err == "", "no progress bar where no terminal is"


# Signed scores, bits, and scores of which none is negative; "not" alone is two tokens.
SHOWN = Explanation(
    model="m",
    text="Not \x1b[31mbad, $5 or $6",
    text_pair=None,
    tokens=("[CLS]", "No", "##t", "\x1b", "[", "31mbad", ",", "$", "5", "or", "$", "6", "[SEP]"),
    special=(True, *[False] * 11, True),
    offsets=(
        *((0, 0), (0, 2), (2, 3), (4, 5), (5, 6), (6, 12), (12, 13)),
        *((14, 15), (15, 16), (17, 19), (20, 21), (21, 22), (0, 0)),
    ),
    sequence=(None, *[0] * 11, None),
    probabilities={"bad": 0.3, "good": 0.7},
    predicted="good",
    target="good",
    methods=tuple(
        MethodScores(label.lower(), label, unit, (9.0, *scores, 9.0), {}, 0.1)
        for label, unit, scores in (
            ("IG", "", (0.5, 0.25, 0.0, 0.0, -0.5, 0.1, 0.0, 0.0, 0.0, 0.0, 0.3)),
            ("IBA", "bits", (2.0, 1.0, 0.5, 0.0, 4.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0)),
            ("Norm", "", (0.0,) * 11),
        )
    ),
    notes=("β = 0.1",),
)
UNSIGNED = replace(SHOWN, methods=SHOWN.methods[1:])


def terminal(found: Explanation, unit: str = "words", **how: Any) -> str:
    stream = io.StringIO()
    iba.show(found, unit, Console(file=stream, width=60, **how))
    return stream.getvalue()


def test_terminal_without_colours_shows_the_top_scores() -> None:
    assert terminal(SHOWN).splitlines() == [
        "good  0.700  (predicted)",
        r"Not \x1b[31mbad, $5 or $6",
        "+: for good   -: against it   IBA, Norm: no score below 0; how much, not for or against",
        "  IG  Not +0.75   31mbad -0.5   6 +0.3   , +0.1",
        r" IBA  31mbad 4   Not 3   \x1b 0.5   , 0.1   (bits)",
        "Norm  every score is 0",
        "β = 0.1",
    ]
    assert "  IG  No +0.5   31mbad -0.5   6 +0.3   t +0.25   , +0.1" in terminal(SHOWN, "pieces")


@pytest.mark.parametrize("how", [{"no_color": True}, {"color_system": "standard"}])
def test_colours_that_would_not_be_seen_are_numbers(how: dict) -> None:
    assert "Not +0.75" in terminal(SHOWN, force_terminal=True, **how)


def test_terminal_with_colours_shows_text_and_legend() -> None:
    coloured = {"force_terminal": True, "color_system": "truecolor"}
    shown = terminal(SHOWN, **coloured)
    assert "\x1b[31m" not in shown
    assert (
        "\x1b[30;48;2;245;158;11morange: for good\x1b[0m   \x1b[30;48;2;86;170;232mblue: against it" in shown
    )
    plain = re.sub("\x1b\\[[0-9;]*m", "", shown).splitlines()
    assert r"  IG  Not \x1b[31mbad, $5 or $6" in plain
    assert "48;2;86;170;232" not in terminal(UNSIGNED, **coloured)


def test_pairs_keep_their_separator_and_what_was_cut_is_an_ellipsis() -> None:
    found = replace(
        SHOWN,
        text="Good " + "unseen " * 20,
        text_pair="Bad\n",
        tokens=("<s>", "Good", "</s>", "</s>", "Bad", "</s>"),
        special=(True, False, True, True, False, True),
        offsets=((0, 0), (0, 4), (0, 0), (0, 0), (0, 3), (0, 0)),
        sequence=(None, 0, None, None, 1, None),
        methods=(MethodScores("ig", "IG", "", (9.0, 1.0, 9.0, 9.0, -1.0, 9.0), {}, 0.1),),
    )
    shown = visible(found, found.methods[0], "words")
    assert "".join(one.before + one.text for one in shown).strip() == "Good … </s> </s> Bad"
    assert [one.score for one in shown if one.score is not None] == [1.0, -1.0]


def test_page_and_picture_say_what_the_colours_mean() -> None:
    note = "IBA, Norm: no score below 0; how much, not for or against"
    for found, legend in (
        (SHOWN, f"orange: for good blue: against it {note}"),
        (UNSIGNED, f"orange: how much {note}"),
    ):
        texts = [text.get_text() for text in files.picture(found).texts]
        assert " ".join(texts[1:]).startswith(legend)
        assert texts.count("$") == 2 * len(found.methods)
        page = files.page(found)
        (key,) = re.findall('<p class="hl key">(.*?)\n', page)
        assert " ".join(re.sub("<[^>]+>", "", key).split()) == legend
        assert "title" not in key
        assert page.count('dir="auto"') == 2 * len(found.methods)
        assert ('class="against"' in page) == (found is SHOWN)
        assert "\x1b" not in page


@pytest.mark.parametrize("suffix", ["", ".png", ".html", ".JSON"])
def test_files_hold_the_explanation(found: Explanation, tmp_path: Path, suffix: str) -> None:
    picture, page, data = paths = iba.save(found, tmp_path / f"own.v1{suffix}")
    assert [path.name for path in paths] == ["own.v1.png", "own.v1.html", "own.v1.json"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    stored = json.loads(data.read_text())
    assert stored["methods"][1]["scores"] == pytest.approx(found.methods[1].scores)
    html = page.read_text()
    assert "&lt;" in html
    assert "<wonderful>" not in html
    assert "http" not in html, "the page must load nothing"


def test_a_stream_without_the_characters_gets_them_written_out() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    iba.show(replace(SHOWN, text="電 bad"), console=Console(file=stream, width=60))
    stream.seek(0)
    assert r"\u96fb bad" in (said := stream.read())
    assert r"\u03b2 = 0.1" in said


def test_the_script_explains_a_pair_beside_pairs_of_a_file(
    folder: Path,
    repository: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit, seen = InformationBottleneck.fit, []

    def watched(self: InformationBottleneck, classifier: Classifier, data: FitData) -> State:
        seen.extend((row.example.text, row.example.text_pair) for row in data.train)
        return fit(self, classifier, data)

    monkeypatch.setattr(InformationBottleneck, "fit", watched)
    others = [("Ben has a boat, and a hat.", "The boat of Ben is red."), PAIR]
    (tmp_path / "pairs.txt").write_text("\n\n".join("\t".join(pair) for pair in others) + "\n")
    asked = [f"text={PAIR[0]}", f"text_pair={PAIR[1]}", f"model={folder}", "method=iba", *LIGHT]
    asked += [f"reference={tmp_path}/pairs.txt", f"out={tmp_path}/own", "target=good"]
    script(repository, monkeypatch, *asked)
    assert seen == others
    written = [f"{tmp_path}/own{suffix}" for suffix in (".png", ".html", ".json")]
    assert capsys.readouterr().out.splitlines()[-3:] == written
    stored = json.loads(Path(written[2]).read_text())
    assert (stored["text"], stored["text_pair"], stored["target"]) == (*PAIR, "good")
    assert Path(written[0]).read_bytes().startswith(b"\x89PNG")
    assert "coat" in Path(written[1]).read_text()


def test_the_example_of_the_docs_runs_as_printed(
    folder: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (repository / "docs" / "own_text.md").read_text()
    (code,) = re.findall(r"```python\n(from iba import .*?)```", text, re.DOTALL)
    assert "FOLDER_OR_HUB_ID" in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace("FOLDER_OR_HUB_ID", str(folder)), {})
    assert {path.name for path in tmp_path.iterdir()} == {f"explanation.{s}" for s in ("png", "html", "json")}


@settings(max_examples=60)
@given(st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1))
@example("it's, {a} \"test\": $5 = \\ [x](y) ${seed} \\${seed} \\' \\")
@example("null and void, true")
def test_any_text_passes_through_the_command_line(text: str) -> None:
    [argument] = command.literal_arguments([f"text={text}"])
    value = OverridesParser.create().parse_override(argument).value()
    assert OmegaConf.create({"text": str(value)}).text == text


def test_model_and_a_list_of_methods_may_be_given_as_one_says_them() -> None:
    given = ["model=some/folder", "method=iba,ig", "method=[lime]", "seed=4"]
    assert command.literal_arguments(given) == [
        "model_dir='some/folder'",
        "method=[iba,ig]",
        "method=[lime]",
        "seed=4",
    ]
