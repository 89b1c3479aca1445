"""Stage 1: a classifier for every selected data set, kept in the cache and shared between runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from iba.data.examples import Example, Samples, draw_samples
from iba.data.tokens import tokenise
from iba.devices import resolve_device, resolve_precision
from iba.experiment import datasets
from iba.finetune import Recipe, finetune, is_finished
from iba.pretrained import encoder_identity, new_classifier
from iba.store import plain


def recipe_for(cfg: DictConfig, dataset: DictConfig, train: Sequence[Example]) -> Recipe:
    """What the classifier of `dataset` is made of."""
    settings = plain(dataset.finetune) | {
        name: cfg.finetune[name] for name in ("weight_decay", "warmup", "schedule", "save_every")
    }
    return Recipe(
        train_name=dataset.train_name,
        model=encoder_identity(cfg.model, cfg.paths.model_dir),
        settings=settings,
        labels=tuple(dataset.labels),
        max_length=dataset.max_length,
        seed=cfg.finetune.seed,
        precision=resolve_precision(cfg.finetune.precision, resolve_device(cfg.device)),
        train_ids=tuple(example.id for example in train),
    )


def classifier_folder(cfg: DictConfig, dataset: DictConfig, samples: Samples) -> Path:
    """Where the fine-tuned classifier of `dataset` lies or will lie."""
    return recipe_for(cfg, dataset, samples.train).folder(Path(cfg.paths.cache))


def run(cfg: DictConfig) -> None:
    """Fine-tune what is not fine-tuned yet."""
    for name, dataset in datasets(cfg).items():
        samples = draw_samples(dataset, cfg.seed)
        recipe = recipe_for(cfg, dataset, samples.train)
        folder = recipe.folder(Path(cfg.paths.cache))
        if is_finished(folder, recipe):
            print(f"{name}: classifier is ready in {folder.name}")
            continue
        print(f"{name}: fine-tuning {cfg.model.title} on {len(samples.train)} rows")
        model, tokenizer = new_classifier(cfg.model, cfg.paths.model_dir, dataset.labels, cfg.finetune.seed)
        instances = tokenise(samples.train, tokenizer, dataset.max_length)
        finetune(model, tokenizer, instances, recipe, folder, resolve_device(cfg.device))
