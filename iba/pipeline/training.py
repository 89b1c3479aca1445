"""Fine-tuning a classifier with transformers' Trainer; resumable, seeded, reused while nothing changed."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    ProgressCallback,
    Trainer,
    TrainingArguments,
    set_seed,
)

from iba.data.tokens import Tokenised
from iba.errors import UserError
from iba.models.pretrained import WEIGHTS_FILE
from iba.settings import fingerprint, plain
from iba.store import STEPS, TRAINED, alone, provenance, read_json, write_json


@dataclass(frozen=True)
class Recipe:
    """Everything that a fine-tuned classifier depends on; its fingerprint names the checkpoint.

    `settings` are the optimiser's; `train_digest` stands for the rows used. A change in any makes another
    checkpoint.
    """

    train_name: str
    model: dict[str, Any]
    settings: dict[str, Any]
    labels: tuple[str, ...]
    max_length: int
    seed: int
    precision: str
    n_train: int
    train_digest: str

    def folder(self, cache: Path) -> Path:
        """The checkpoint's folder below `cache`: readable, and unique to the recipe."""
        name = f"{self.train_name}-{self.model['name']}-seed{self.seed}-{fingerprint(self.described())}"
        return cache / "classifiers" / name

    def described(self) -> dict[str, Any]:
        """The recipe as plain data."""
        described: dict[str, Any] = plain(asdict(self))
        return described


class LossBesideBar(ProgressCallback):
    """Trainer's progress bar with the loss beside it, instead of dictionaries between the lines."""

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Show the newest training loss."""
        if self.training_bar is not None and "loss" in (logs or {}):
            self.training_bar.set_postfix_str(f"loss {float(logs['loss']):.3f}")


def is_finished(folder: Path, recipe: Recipe) -> bool:
    """Whether `folder` holds a classifier that was trained to the end by this very recipe."""
    record = folder / TRAINED
    there = record.is_file() and (folder / WEIGHTS_FILE).is_file()
    return there and read_json(record)["recipe"] == recipe.described()


def finetune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Tokenised,
    recipe: Recipe,
    folder: Path,
    device: torch.device,
) -> None:
    """Train `model` on `rows` and save it, with its record, into `folder` (safetensors).

    A killed run continues from its last saved step with the same optimiser, data order and random
    state, so the result is that of an uninterrupted run. Of two processes one trains and the other waits.
    Raises `UserError` where a batch does not fit in a GPU's memory.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arguments = arguments_on(device, recipe, folder / STEPS)  # makes the first GPU the current one
    with alone(folder / "lock", f"{folder.name}: another process trains it"), _current(device):
        if is_finished(folder, recipe):
            return
        (folder / TRAINED).unlink(missing_ok=True)  # left without its weights
        started = time.monotonic()
        set_seed(recipe.seed)
        # As the first step says; a run that was killed after the last one has no step left.
        model.config.problem_type = "single_label_classification"
        trainer = _trainer(model, tokenizer, rows, arguments)
        try:
            trainer.train(resume_from_checkpoint=_last_step(folder / STEPS))
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                f"{recipe.train_name}: a batch of {recipe.settings['batch_size']} texts does not fit in the "
                "GPU's memory; train with fewer at a time (dataset.NAME.finetune.batch_size)."
            ) from error
        model.eval()
        _save(model, tokenizer, folder)
        record = {
            "recipe": recipe.described(),
            "steps": trainer.state.global_step,
            "provenance": provenance(device, seconds=round(time.monotonic() - started, 1)),
        }
        write_json(folder / TRAINED, plain(record))
        shutil.rmtree(folder / STEPS, ignore_errors=True)


def _save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save among the unfinished steps first: a file in `folder` is whole."""
    last = folder / STEPS / "last"
    model.save_pretrained(last)
    tokenizer.backend_tokenizer.no_truncation()  # else how the last text was cut is saved as well
    tokenizer.save_pretrained(last)
    for path in last.iterdir():
        path.replace(folder / path.name)


def _trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    rows: Tokenised,
    arguments: TrainingArguments,
) -> Trainer:
    """Trainer on the rows, padded by the batch; on a terminal with a bar and the loss beside it."""
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows.table,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.remove_callback(ProgressCallback)
    if sys.stderr.isatty():
        trainer.add_callback(LossBesideBar)
    return trainer


def arguments_on(device: torch.device, recipe: Recipe, output: Path) -> TrainingArguments:
    """Trainer's arguments for exactly `device` and the recipe's batch size.

    By itself Trainer takes the first GPU, or all that are visible, with the batch so many times as large.
    """
    settings = recipe.settings
    arguments = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=settings["epochs"],
        per_device_train_batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        weight_decay=settings["weight_decay"],
        warmup_steps=settings["warmup"],
        lr_scheduler_type=settings["schedule"],
        train_sampling_strategy="group_by_length",
        save_strategy="steps",
        save_steps=settings["save_every"],
        save_total_limit=2,
        logging_steps=50,
        disable_tqdm=False,
        seed=recipe.seed,
        data_seed=recipe.seed,
        bf16=recipe.precision == "bf16",
        use_cpu=device.type == "cpu",
        report_to=[],
    )
    # Found out once and kept under these names; there is no public setting for either.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    arguments._setup_devices = device
    return arguments


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """While it is held, "cuda" means `device`: accelerate and saved random states know no number."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _last_step(output: Path) -> str | None:
    """The newest complete checkpoint of a killed run (its state file is what Trainer writes last)."""
    complete = [p.parent for p in output.glob("checkpoint-*/trainer_state.json") if _is_whole(p)]
    return str(max(complete, key=lambda p: int(p.name.split("-")[1]))) if complete else None


def _is_whole(state: Path) -> bool:
    return state.read_text().endswith("\n}\n")
