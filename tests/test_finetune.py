"""Fine-tuning runs the recipe that is configured, on the device that is configured."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from filelock import FileLock

from iba.data.examples import Example, Examples
from iba.data.tokens import Instance, Tokenised, collate
from iba.errors import UserError
from iba.models.classifier import Classifier
from iba.models.pretrained import WEIGHTS_FILE, load_classifier
from iba.models.tiny import tiny_bert, tiny_tokenizer
from iba.pipeline.training import Recipe, _trainer, arguments_on, finetune
from iba.store import TRAINED, write_json

SETTINGS = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-4, "weight_decay": 0.01, "warmup": 0.06}
RECIPE = Recipe(
    train_name="planted",
    model={"name": "tiny"},
    settings=SETTINGS | {"schedule": "linear", "save_every": 200},
    labels=("neg", "pos"),
    max_length=64,
    seed=3,
    precision="fp32",
    n_train=1,
    train_digest="0" * 12,
)


@pytest.mark.parametrize("name", ["cuda:1", "cuda", "cpu"])
def test_more_visible_gpus_change_neither_batch_nor_device(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    arguments = arguments_on(torch.device(name), RECIPE, tmp_path)
    assert arguments.train_batch_size == SETTINGS["batch_size"]
    assert arguments.n_gpu <= 1
    assert arguments.device == torch.device(name)


def test_what_is_trained_on_are_the_rows(instances: list[Instance], tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    model = tiny_bert(len(tokenizer), ["a", "b", "c"], num_hidden_layers=1)
    chosen = [one for one in instances if one.example.text_pair]
    rows = Tokenised.of(Examples.of([one.example for one in chosen]), tokenizer, 64, tmp_path)
    trainer = _trainer(model, tokenizer, rows, arguments_on(torch.device("cpu"), RECIPE, tmp_path))
    (batch,) = trainer.get_train_dataloader()
    expected = collate(chosen, tokenizer.pad_token_id, "cpu")
    order = [batch["labels"].tolist().index(one.example.label) for one in chosen]
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert torch.equal(batch[name][order], getattr(expected, name).long())
    assert expected.token_type_ids.any()


def no_rows() -> Tokenised:
    return Tokenised(Dataset.from_dict({"input_ids": []}))


def test_the_recipe_reaches_the_trainer(tmp_path: Path) -> None:
    found = arguments_on(torch.device("cpu"), RECIPE, tmp_path)
    assert (found.learning_rate, found.weight_decay, found.num_train_epochs) == (1e-4, 0.01, 1)
    assert (found.get_warmup_steps(100), found.lr_scheduler_type, found.seed) == (6, "linear", 3)
    assert not found.bf16


def test_training_learns_the_labels(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    model = tiny_bert(len(tokenizer), ["neg", "pos"], num_hidden_layers=1)
    texts = [Example(f"train:{i}", ("awful", "wonderful")[i % 2], None, i % 2) for i in range(16)]
    rows = Tokenised.of(Examples.of(texts), tokenizer, 16, tmp_path)
    assert rows[0].input_ids != rows[1].input_ids
    recipe = replace(RECIPE, settings=RECIPE.settings | {"epochs": 20, "learning_rate": 5e-3, "warmup": 0.0})
    finetune(model, tokenizer, rows, recipe, tmp_path / "classifier", torch.device("cpu"))
    again = Classifier(*load_classifier(tmp_path / "classifier"))
    assert again.probabilities(again.batch(list(rows))).argmax(1).tolist() == [0, 1] * 8


def test_a_batch_that_does_not_fit_names_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_much(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("iba.pipeline.training.Trainer.train", too_much)
    tokenizer = tiny_tokenizer()
    model = tiny_bert(len(tokenizer), ["neg", "pos"], num_hidden_layers=1)
    with pytest.raises(UserError, match=r"a batch of 8 texts does not fit .*finetune\.batch_size"):
        finetune(model, tokenizer, no_rows(), RECIPE, tmp_path, torch.device("cpu"))
    assert not (tmp_path / TRAINED).exists()


def test_of_two_processes_at_one_checkpoint_the_second_waits_and_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where both MNLI sets are fine-tuned at once, whose classifier is one."""
    monkeypatch.setattr("iba.pipeline.training.Trainer", lambda **_: pytest.fail("trained twice"))
    tokenizer = tiny_tokenizer()
    model = tiny_bert(len(tokenizer), ["neg", "pos"], num_hidden_layers=1)
    with ThreadPoolExecutor(1) as pool:
        with FileLock(tmp_path / "lock"):
            second = pool.submit(finetune, model, tokenizer, no_rows(), RECIPE, tmp_path, torch.device("cpu"))
            while "another process trains it; waiting" not in capsys.readouterr().out:
                assert not second.done()
            (tmp_path / WEIGHTS_FILE).touch()
            write_json(tmp_path / TRAINED, {"recipe": RECIPE.described()})
        second.result(timeout=60)
