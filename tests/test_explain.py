"""Explaining one's own text: what is explained, what is said about it, and how mistakes are met."""

from __future__ import annotations

import io
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from rich.console import Console
from transformers import BertModel

import iba
from iba.attributor import FitData, State
from iba.encoder import Classifier
from iba.errors import UserError
from iba.explanation import Explanation, explain
from iba.method import InformationBottleneck
from iba.report import own_text
from iba.tiny import tiny_bert, tiny_tokenizer

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


def test_predicted_class_is_explained_by_default(found: Explanation) -> None:
    assert found.target == found.predicted == max(found.probabilities, key=lambda c: found.probabilities[c])
    assert sum(found.probabilities.values()) == pytest.approx(1)
    assert [m.name for m in found.methods] == ["iba", "ig"]
    assert all(len(m.scores) == len(found.tokens) for m in found.methods)


def test_pieces_are_spelled_as_in_the_text(found: Explanation) -> None:
    spelled = "".join(
        (" " if space else "") + token.removeprefix("##")
        for token, special, space in zip(found.tokens, found.special, found.spaced, strict=True)
        if not special
    )
    assert spelled.strip() == TEXT


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
        ({"overrides": ["device=0"]}, "device=0 cannot be used"),
        ({"overrides": ["max_length=1"]}, "max_length=1 must be greater than or equal to 4"),
        ({"overrides": ["seed=x"]}, "seed=x must be a valid integer"),
        ({"methods": ["iba_readout"]}, "method.iba_readout.settings.beta=0.1"),
    ],
)
def test_mistakes_get_one_line(folder: Path, change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        explain(**({"text": TEXT, "model": folder, "methods": ["ig"]} | change))


def test_encoder_without_a_head_is_refused(folder: Path, tmp_path: Path) -> None:
    BertModel.from_pretrained(folder).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="without a trained classification head"):
        explain(TEXT, tmp_path, methods=["ig"])


def test_number_predictor_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tiny_bert(len(tokenizer), ["score"]).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="predicts a number"):
        explain(TEXT, tmp_path, methods=["ig"])


@pytest.mark.parametrize("unit", own_text.UNITS)
def test_terminal_shows_class_and_text(found: Explanation, unit: str) -> None:
    coloured, plain = io.StringIO(), io.StringIO()
    iba.show(found, unit, Console(file=coloured, width=300, force_terminal=True, color_system="truecolor"))
    assert "48;2;" in coloured.getvalue()
    iba.show(found, unit, Console(file=plain, width=300))
    first, *lines = plain.getvalue().splitlines()
    assert first.startswith(f"{found.target}  {found.probabilities[found.target]:.3f}")
    assert lines[0].strip() == f"IBA   {TEXT}"


def test_files_hold_the_explanation(found: Explanation, tmp_path: Path) -> None:
    picture, page, data = iba.save(found, tmp_path / "own")
    assert picture.read_bytes().startswith(b"\x89PNG")
    stored = json.loads(data.read_text())
    assert stored["methods"][1]["scores"] == pytest.approx(found.methods[1].scores)
    html = page.read_text()
    assert "&lt;" in html
    assert "<wonderful>" not in html
    assert "http" not in html, "the page must load nothing"


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
    monkeypatch.setattr(sys, "argv", ["explain.py", *asked])
    for name, value in (("IBA_ROOT", str(repository)), ("HYDRA_FULL_ERROR", "1")):
        monkeypatch.setenv(name, value)
    runpy.run_path(str(repository / "scripts" / "explain.py"), run_name="__main__")
    assert seen == others
    written = [f"{tmp_path}/own{suffix}" for suffix in (".png", ".html", ".json")]
    assert capsys.readouterr().out.splitlines()[-3:] == written
    stored = json.loads(Path(written[2]).read_text())
    assert (stored["text"], stored["text_pair"], stored["target"]) == (*PAIR, "good")
    assert Path(written[0]).read_bytes().startswith(b"\x89PNG")
    assert "coat" in Path(written[1]).read_text()


def test_the_readmes_example_runs_as_printed(
    folder: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (repository / "README.md").read_text()
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
    [argument] = own_text.literal_arguments([f"text={text}"])
    value = OverridesParser.create().parse_override(argument).value()
    assert OmegaConf.create({"text": str(value)}).text == text


def test_model_and_a_list_of_methods_may_be_given_as_one_says_them() -> None:
    given = ["model=some/folder", "method=iba,ig", "method=[lime]", "seed=4"]
    assert own_text.literal_arguments(given) == [
        "model_dir='some/folder'",
        "method=[iba,ig]",
        "method=[lime]",
        "seed=4",
    ]
