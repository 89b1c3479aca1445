"""Fine-tuning runs the recipe that is configured, on the device that is configured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from iba.finetune import Recipe, arguments_on

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
