"""Loading encoders and classifiers: from the hub, a folder, an installed wheel, or random."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
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

from iba.data.packaged import joined_model, packaged_path
from iba.errors import UserError
from iba.hub import HUB_ERRORS, cached_first
from iba.models.heads import SINGLE_LABEL
from iba.models.tiny import tiny_bert, tiny_tokenizer
from iba.settings import plain

#: The file of a saved model's weights.
WEIGHTS_FILE = "model.safetensors"
#: What to do about a LoRA adapter, of which nothing here would be read.
MERGE_FIRST = (
    "the model is an adapter (LoRA, PEFT): merge it first, model.merge_and_unload().save_pretrained(FOLDER), "
    "save the tokenizer beside it, and give that folder."
)
#: How the pipeline's user gets another model.
_ELSEWHERE = (
    "Without a network, give a local folder: paths.model_dir=FOLDER, or use model=minilm_l6, which is "
    "installed with the project."
)
#: What the readers of weights raise for files that are cut off, no weights, or pickles of code.
_UNREADABLE = (SafetensorError, UnpicklingError, EOFError, RuntimeError)
#: Ends of names of tensors that older versions saved and nobody reads.
_BUFFERS = ("position_ids", "token_type_ids")
_N_SHOWN = 3


def encoder_source(model: DictConfig, model_dir: str | None) -> str:
    """Where the pretrained encoder lies: `model_dir`, an installed wheel, or the hub id."""
    if model_dir:
        _refuse_adapter(model_dir)
        if not (Path(model_dir) / "config.json").is_file():
            raise UserError(f"paths.model_dir={model_dir} holds no config.json; it must be a saved encoder.")
        return str(model_dir)
    if packaged := model.get("packaged"):
        return str((joined_model if "parts" in packaged else packaged_path)(**packaged))
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
    """How many tokens the model can number; without limit where its positions are relative."""
    most = getattr(model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
    # RoBERTa and MPNet count from behind the padding id on.
    padding = getattr(getattr(model.base_model, "embeddings", None), "padding_idx", None)
    return int(most) - (0 if padding is None else padding + 1)


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
    loaded, tokenizer = load_classifier(encoder_source(model, model_dir), labels, config)
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"model={model.name}: training needs a padding token: set tokenizer.pad_token and save it again."
        )
    return loaded, tokenizer


@cached_first
def _tokenizer(source: str | Path) -> PreTrainedTokenizerFast:
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
    except HUB_ERRORS as error:
        raise UserError(f"{source} holds no tokenizer that can be loaded.") from error
    check_tokenizer(tokenizer, source)
    found: PreTrainedTokenizerFast = tokenizer
    return found


@cached_first
def load_classifier(
    source: str | Path,
    labels: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
    elsewhere: str = _ELSEWHERE,
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """A sequence classifier and its tokenizer from a folder or the hub, in float32.

    With `labels`, a new head of that many classes, named so; else every weight must be there. `elsewhere`
    tells the user what to give instead. Raises `UserError` where nothing can be loaded, where weights are
    missing, unused or of another shape, and for tokenizers that do not serve (`check_tokenizer`).
    """
    _refuse_adapter(source)
    named: dict[str, Any] = dict(config or {})
    if labels is not None:
        label2id = {name: i for i, name in enumerate(labels)}
        named |= {"id2label": dict(enumerate(labels)), "label2id": label2id, "problem_type": SINGLE_LABEL}
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
        model, found = AutoModelForSequenceClassification.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, **named
        )
    except _UNREADABLE as error:
        raise UserError(
            f"the weights in {source} are damaged or cut off, or not saved by save_pretrained "
            f"({_reason(error).split('. ')[0]}): fetch or train them again."
        ) from error
    except Exception as error:  # the libraries raise almost anything for a folder that they cannot read
        raise UserError(f"model {str(source)!r} cannot be loaded ({_reason(error)}). {elsewhere}") from error
    _refuse_unfit(model, found, str(source), new_head=labels is not None)
    check_tokenizer(tokenizer, str(source), model.get_input_embeddings().weight.shape[0])
    tokenizer.padding_side = "right"  # the heads read the first position
    return model, tokenizer


def check_tokenizer(tokenizer: Any, source: str | Path, n_embedded: int | None = None) -> None:
    """Raise `UserError` for a tokenizer without character offsets, without words, or with too many.

    Without a vocabulary transformers makes one of special tokens alone, and every word is unknown; one that
    knows more tokens than the model embeds is another model's, of which nothing else would tell.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"{source}: {type(tokenizer).__name__} is a tokenizer in Python alone, which does not tell where "
            "its tokens stand in the text: save a fast one (tokenizer.json) beside the model."
        )
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise UserError(
            f"{source} holds no tokenizer (tokenizer.json or vocab.txt): save it beside the model."
        )
    if n_embedded is not None and len(tokenizer) > n_embedded:
        raise UserError(
            f"{source}: the tokenizer knows {len(tokenizer)} tokens, the model only {n_embedded}."
        )


def _refuse_adapter(source: str | Path) -> None:
    """Without the peft package transformers would pass over an adapter and read the weights beside it."""
    if (Path(source) / "adapter_config.json").is_file():
        raise UserError(f"{source}: {MERGE_FIRST}")


def _refuse_unfit(model: PreTrainedModel, found: Mapping[str, Any], source: str, new_head: bool) -> None:
    """Raise `UserError` where the file's weights are not the model's; `found` is transformers' loading info.

    Unused weights outside the encoder, such as a pretraining head, are harmless. With a `new_head` so is
    all that is not the encoder.
    """
    encoder = {name for name, _ in model.base_model.named_children()} - {"pooler"}

    def of_encoder(key: str) -> bool:
        return key.removeprefix(f"{model.base_model_prefix}.").split(".")[0] in encoder

    shapes = {key: f"{key} {tuple(saved)} for {tuple(ours)}" for key, saved, ours in found["mismatched_keys"]}
    missing, reshaped = (
        {key for key in keys if of_encoder(key) or not new_head} for keys in (found["missing_keys"], shapes)
    )
    unused = {key for key in found["unexpected_keys"] if of_encoder(key) and not key.endswith(_BUFFERS)}
    if missing and not any(map(of_encoder, missing | reshaped | unused)):
        kinds = ", ".join(model.config.architectures or []) or "a model"
        raise UserError(
            f"{source} holds {kinds} without a trained classification head (missing {_some(missing)}): "
            "fine-tune it first (scripts/finetune.py), or give a sequence classifier."
        )
    wrong = {"missing": missing, "unused": unused, "of another shape": {shapes[key] for key in reshaped}}
    if any(wrong.values()):
        said = "; ".join(f"{kind}: {_some(keys)}" for kind, keys in wrong.items() if keys)
        raise UserError(f"{source}: the weights are not those of its config.json ({said}): save both again.")


def _some(keys: Iterable[str]) -> str:
    """The first few names, and how many more there are."""
    shown = sorted(keys)
    rest = len(shown) - _N_SHOWN
    return ", ".join(shown[:_N_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _reason(error: Exception) -> str:
    """The first line of a library's message."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip(" .:")[:160]
