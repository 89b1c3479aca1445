"""Texts, one classifier, any methods: which tokens made the predictions.

What IBA must know and a single text cannot tell:

- the noise's mean and standard deviation per feature come from other texts through the same classifier:
  `reference` (yours, one a line, best from the training data), else 64 sentences generated from templates.
  Bits are relative to them: they say how much a token tells beyond what such texts tell on average.
- β, by the rule of the paper's Appendix D: 10 × L_CE / L_IB, both at the start of the optimisation of
  this very text, unless a number is given.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from jaxtyping import Float
from omegaconf import DictConfig
from torch import nn
from transformers import Pipeline, PreTrainedModel, PreTrainedTokenizerBase

from iba.attributor import FitData, attribute_rows, refuse_lacking
from iba.data.examples import Example, Span
from iba.data.texts import OwnText, own_texts
from iba.data.tokens import Instance, tokenise
from iba.devices import resolve_device, resolve_precision
from iba.errors import UserError
from iba.models.adapter import bare
from iba.models.classifier import Classifier
from iba.models.pretrained import check_tokenizer, load_classifier, n_positions
from iba.own_text.reference import ReferenceRows, labelled, probabilities, reference_texts
from iba.own_text.scores import MethodScores, remarks
from iba.pipeline.checks import build, check_explaining
from iba.pipeline.experiment import method_settings, selected
from iba.settings import CONFIGS

_TEXT, _PROTOCOL = "text", "explain"
#: A folder or a hub id; a loaded model (also compiled, with LoRA or quantised) with its tokenizer, or both in
#: a pipeline; or what is open already.
Model = str | Path | tuple[nn.Module, PreTrainedTokenizerBase] | Pipeline | Classifier


@dataclass(frozen=True)
class Explanation:
    """A classified text, number `row` (from 1) of those explained together, and the scores of its tokens.

    `tokens` are the tokenizer's own pieces; `offsets` and `sequence` tell the place of each in `text` (0) or
    `text_pair` (1), None for special tokens. Every method has one score for each, special ones included.
    """

    model: str
    text: str
    text_pair: str | None
    tokens: tuple[str, ...]
    special: tuple[bool, ...]
    offsets: tuple[Span, ...]
    sequence: tuple[int | None, ...]
    probabilities: Mapping[str, float]
    predicted: str
    target: str
    methods: tuple[MethodScores, ...]
    notes: tuple[str, ...]
    truncated: bool = False
    row: int = 1


def explain(
    text: str,
    model: Model,
    text_pair: str | None = None,
    methods: Sequence[str] = ("iba",),
    target: str | int | None = None,
    reference: Sequence[str | tuple[str, str]] | None = None,
    overrides: Sequence[str] = (),
) -> Explanation:
    """Explain why the classifier `model` gives `text` its class.

    `model` is a folder or a hub id (kept for the next call), a loaded model with its tokenizer, or a
    pipeline; what is loaded stays on its device and is given back as it was. `methods` are names in
    configs/method; `target` is a class's name or number, the predicted class by default. `reference` are
    texts (or pairs) like those the classifier was trained on, for IBA's noise. `overrides` change any
    setting of configs/explain.yaml, such as "method.iba.settings.layer=6".
    """
    cfg = _composed(methods, overrides)
    given = None if reference is None else own_texts(reference, "reference")
    return explain_all(cfg, model, [OwnText.of(text, text_pair, target)], given)[0]


def explain_many(
    texts: Sequence[str | tuple[str, str]],
    model: Model,
    methods: Sequence[str] = ("iba",),
    targets: Sequence[str | int | None] | None = None,
    reference: Sequence[str | tuple[str, str]] | None = None,
    overrides: Sequence[str] = (),
) -> list[Explanation]:
    """`explain` for many texts (or pairs), in batches; each gets what it would get alone.

    `targets` has a class for every text, or None for its predicted class.
    """
    cfg = _composed(methods, overrides)
    given = None if reference is None else own_texts(reference, "reference")
    return explain_all(cfg, model, own_texts(texts, "texts", targets), given)


def _composed(methods: Sequence[str], overrides: Sequence[str]) -> DictConfig:
    if isinstance(methods, str):
        raise UserError(f"methods is one string: give a list of names, such as [{methods!r}].")
    return _settings(f"method=[{','.join(methods)}]", *overrides)


@lru_cache(maxsize=8)  # composing takes as long as explaining a short text
def _settings(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            cfg = compose("explain", [*overrides])
        except ConfigCompositionException as error:
            raise UserError(f"no such method or setting: {' '.join(str(error).split())}") from error
    cfg.paths.root = str(CONFIGS.parent)
    return cfg


def _opened(cfg: DictConfig, model: Model) -> AbstractContextManager[Classifier]:
    """`model` as an open classifier, while it is held."""
    match model:
        case Classifier():
            return nullcontext(model)
        case str() | Path():
            return nullcontext(open_classifier(cfg, str(model)))
        case (nn.Module() as loaded, PreTrainedTokenizerBase() as tokenizer) | Pipeline(
            model=nn.Module() as loaded, tokenizer=PreTrainedTokenizerBase() as tokenizer
        ) if isinstance(bare(loaded), PreTrainedModel):
            return _lent(cfg, bare(loaded), tokenizer)
    raise UserError("model: give a folder, a hub id, (model, tokenizer) or a text-classification pipeline.")


@contextmanager
def _lent(cfg: DictConfig, model: Any, tokenizer: Any) -> Iterator[Classifier]:
    """A loaded model as a classifier, on the device and in the type it has; it is given back as it was."""
    check_tokenizer(tokenizer, "the loaded model", model.get_input_embeddings().weight.shape[0])
    training = [(module, module.training) for module in model.modules()]
    learning = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    precision = resolve_precision(cfg.precision, model.device)
    try:
        yield Classifier(model, tokenizer, model.device, precision, cfg.token_budget, cfg.fast, cfg.layers)
    finally:
        for module, flag in training:
            module.training = flag
        for parameter, flag in learning:
            parameter.requires_grad_(flag)


def open_classifier(cfg: DictConfig, source: str) -> Classifier:
    """A trained sequence classifier from a folder or the hub; `UserError` for anything else.

    The last two are kept, as long as their files stay the same.
    """
    device = resolve_device(cfg.device)
    precision = resolve_precision(cfg.precision, device)
    files = {file: file.stat() for file in Path(source).resolve().glob("*")}
    versions = frozenset((file, status.st_mtime_ns, status.st_size) for file, status in files.items())
    return _loaded(source, versions, device, precision, cfg.token_budget, cfg.fast, cfg.layers)


@lru_cache(maxsize=2)
def _loaded(
    source: str,
    versions: frozenset[tuple[Path, int, int]],  # not read: files that changed are another key
    device: torch.device,
    precision: str,
    *running: Any,  # token budget, fast, layers
) -> Classifier:
    model, tokenizer = load_classifier(
        source,
        elsewhere="Give model=FOLDER with a saved sequence classifier, or a hub id that can be reached.",
    )
    return Classifier(model, tokenizer, device, precision, *running)


def explain_all(
    cfg: DictConfig, model: Model, texts: Sequence[OwnText], reference: Sequence[OwnText] | None
) -> list[Explanation]:
    """`explain_many` with a composed configuration."""
    check_explaining(cfg, _TEXT, _PROTOCOL)
    paired = _all_paired(texts)
    others = reference_texts(reference, paired, cfg.seed)
    methods = list(selected(cfg.method))
    with _opened(cfg, model) as classifier:
        limit = _limit(cfg, classifier)
        rows = _tokenised(texts, classifier, limit)
        facing = [_facing(classifier, text, row) for text, row in zip(texts, rows, strict=True)]
        found: dict[int, Explanation] = {}
        shared: dict[Any, Any] = {}
        for view in {view.head: view for view, _ in facing}.values():  # one, unless each label has its own
            members = [i for i, (other, _) in enumerate(facing) if other.head == view.head]
            data = FitData(ReferenceRows(view, others, limit), shared)
            aimed, answers = _aimed(view, [rows[i] for i in members], [facing[i][1] for i in members])
            said = [_attribute(cfg, method, view, aimed, data) for method in methods]
            for i, row, answer, *scores in zip(members, aimed, answers, *said, strict=True):
                notes = remarks(view, row, reference is not None, scores)
                found[i] = _explanation(view, texts[i], row, answer, scores, notes)
    return [found[i] for i in range(len(texts))]


def _facing(classifier: Classifier, text: OwnText, row: Instance) -> tuple[Classifier, int | None]:
    """The classifier as the text's target asks to see it, and the class asked for."""
    try:
        return classifier.facing(text.target, classifier.batch([row]))
    except UserError as error:
        raise UserError(f"{text.place}{error}") from error


def _aimed(
    classifier: Classifier, rows: Sequence[Instance], wanted: Sequence[int | None]
) -> tuple[list[Instance], Float[np.ndarray, "rows classes"]]:
    """The rows labelled with the classes to explain, the predicted ones where none is wanted, and all
    probabilities."""
    answers = probabilities(classifier, rows)
    explained = [int(p.argmax()) if w is None else w for w, p in zip(wanted, answers, strict=True)]
    return labelled(rows, explained), answers


def _explanation(
    classifier: Classifier,
    text: OwnText,
    row: Instance,
    answer: np.ndarray,
    methods: Sequence[MethodScores],
    notes: Iterable[str],
) -> Explanation:
    return Explanation(
        model=Path(classifier.model.name_or_path).name or type(classifier.model).__name__,
        text=text.text,
        text_pair=text.text_pair,
        tokens=tuple(classifier.tokenizer.convert_ids_to_tokens(list(row.input_ids))),
        special=row.special,
        offsets=row.offsets,
        sequence=row.sequence,
        probabilities=dict(zip(classifier.labels, answer.tolist(), strict=True)),
        predicted=classifier.labels[int(answer.argmax())],
        target=classifier.labels[row.example.label],
        methods=tuple(methods),
        notes=tuple(notes),
        truncated=row.truncated,
        row=text.row,
    )


def _all_paired(texts: Sequence[OwnText]) -> bool:
    """Whether the texts are pairs; `UserError` where there are none, or some are pairs and others not."""
    if not texts:
        raise UserError("there is no text to explain.")
    paired = texts[0].text_pair is not None
    for text in texts:
        if (text.text_pair is not None) != paired:
            raise UserError(f"{text.place}pairs and single texts are mixed: explain them apart.")
    return paired


def _tokenised(texts: Sequence[OwnText], classifier: Classifier, limit: int) -> list[Instance]:
    # All have one id, from which methods draw: a text gets what it would get alone.
    examples = [Example("own", text.text, text.text_pair, 0) for text in texts]
    rows = tokenise(examples, classifier.tokenizer, limit)
    for text, row in zip(texts, rows, strict=True):
        if all(row.special):
            raise UserError(
                f"{text.place}the tokenizer finds no token in this text: there is nothing to explain."
            )
    return rows


def _limit(cfg: DictConfig, classifier: Classifier) -> int:
    return min(int(cfg.max_length), int(classifier.tokenizer.model_max_length), n_positions(classifier.model))


def _attribute(
    cfg: DictConfig, name: str, classifier: Classifier, rows: Sequence[Instance], data: FitData
) -> list[MethodScores]:
    """What method `name` says about each of `rows`, explaining its label."""
    started = time.monotonic()
    settings, label = method_settings(cfg, _TEXT, _PROTOCOL, cfg.method[name]), str(cfg.method[name].label)
    method = build(f"method.{name}.settings", settings)
    refuse_lacking(method, classifier)
    state = method.fit(classifier, data)
    method.restore(state)
    known = {}
    if (n := "n_statistics_instances") in state:
        known[n] = float(state[n])
    if "layer" in settings:
        known["layer"] = float(classifier.resolve_layer(settings["layer"]))
    found = attribute_rows(method, classifier, rows, label)
    seconds = (time.monotonic() - started) / len(rows)
    return [
        MethodScores(
            name=name,
            label=label,
            unit="bits" if "bits" in one.per_token else "",
            scores=tuple(one.per_token.get("bits", one.scores).float().tolist()),
            details={key: float(value) for key, value in one.numbers.items()} | known,
            seconds=seconds,
        )
        for one in found
    ]
