"""One text, one classifier, any methods: which tokens made the prediction.

What IBA must know and a single text cannot tell:

- the noise's mean and standard deviation per feature come from other texts through the same classifier:
  `reference` (yours, one a line, best from the training data), else 64 sentences generated from templates.
  Bits are relative to them: they say how much a token tells beyond what such texts tell on average.
- β, by the rule of the paper's Appendix D: 10 × L_CE / L_IB, both at the start of the optimisation of
  this very text, unless a number is given.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from iba.attributor import Attribution, Attributor, FitData, State
from iba.cli import CONFIGS
from iba.data import planted
from iba.data.examples import Example
from iba.data.tokens import Instance, TokenBatch, tokenise
from iba.devices import resolve_device, resolve_precision
from iba.encoder import Classifier
from iba.errors import UserError
from iba.experiment import method_settings, selected
from iba.method import InformationBottleneck
from iba.pretrained import load_classifier, n_positions
from iba.stages.checks import check_explaining
from iba.variants import Variant, class_probabilities

_TEXT, _PROTOCOL = "text", "explain"
_N_TEMPLATES = 64


@dataclass(frozen=True)
class MethodScores:
    """What one method says: `scores` per token, in `unit`; `details` holds β, layer and the like."""

    name: str
    label: str
    unit: str
    scores: tuple[float, ...]
    details: Mapping[str, float]
    seconds: float


@dataclass(frozen=True)
class Explanation:
    """A classified text and the scores of its tokens.

    `tokens` are the pieces as they stand in the text, with the tokenizer's marks of continuation, and
    `spaced` tells before which a space stands; every method has one score for each, special ones included.
    """

    model: str
    text: str
    text_pair: str | None
    tokens: tuple[str, ...]
    special: tuple[bool, ...]
    spaced: tuple[bool, ...]
    probabilities: Mapping[str, float]
    predicted: str
    target: str
    methods: tuple[MethodScores, ...]
    notes: tuple[str, ...]


def explain(
    text: str,
    model: str | Path,
    text_pair: str | None = None,
    methods: Sequence[str] = ("iba",),
    target: str | None = None,
    reference: Sequence[str | tuple[str, str]] | None = None,
    overrides: Sequence[str] = (),
) -> Explanation:
    """Explain why the classifier `model` (a folder or a hub id) gives `text` its class.

    `methods` are names in configs/method; `target` is a class name, the predicted class by default.
    `reference` are texts (or pairs) like those the classifier was trained on, for IBA's noise.
    `overrides` change any setting of configs/explain.yaml, such as "method.iba.settings.layer=6".
    """
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        try:
            cfg = compose("explain", [f"method=[{','.join(methods)}]", *overrides])
        except ConfigCompositionException as error:
            raise UserError(f"no such method or setting: {' '.join(str(error).split())}") from error
    cfg.paths.root = str(CONFIGS.parent)
    pairs = None if reference is None else [r if isinstance(r, tuple) else (r, None) for r in reference]
    return explain_with(cfg, open_classifier(cfg, str(model)), str(model), text, text_pair, target, pairs)


def open_classifier(cfg: DictConfig, source: str) -> Classifier:
    """A trained sequence classifier from a folder or the hub; `UserError` for anything else."""
    check_explaining(cfg, _TEXT, _PROTOCOL)
    try:
        model, tokenizer = load_classifier(source)
    except UserError as error:
        raise UserError(
            f"model_dir={source} cannot be loaded: give a folder with a saved sequence classifier, or a hub "
            f"id that can be reached ({str(error.__cause__ or error).splitlines()[0]})."
        ) from error
    kinds = model.config.architectures or []
    if not any("SequenceClassification" in kind for kind in kinds):
        raise UserError(
            f"{source} holds {', '.join(kinds) or 'a model'} without a trained classification head: "
            "fine-tune it first (scripts/finetune.py), or give a sequence classifier."
        )
    if int(model.config.num_labels or 0) < 2:
        raise UserError(f"{source} predicts a number, not a class: there is no class to explain.")
    device = resolve_device(cfg.device)
    return Classifier(model, tokenizer, device, resolve_precision(cfg.precision, device), cfg.token_budget)


def explain_with(
    cfg: DictConfig,
    classifier: Classifier,
    name: str,
    text: str,
    text_pair: str | None,
    target: str | None,
    reference: Sequence[tuple[str, str | None]] | None,
) -> Explanation:
    """`explain` with a composed configuration and an open classifier, called `name` in the result."""
    for which, given in (("text", text), ("text_pair", text_pair)):
        if given is not None and not given.strip():
            raise UserError(f"{which} is empty: there is nothing to explain.")
    for method in selected(cfg.method):
        if method_settings(cfg, _TEXT, _PROTOCOL, cfg.method[method]).get("beta") == "calibrated":
            raise UserError(
                f"method {method} chooses its β on held-out training rows, which one text does not have: "
                f"give a number, method.{method}.settings.beta=0.1, or choose another method."
            )
    wanted = None if target is None else classifier.label_id(target)
    limit = _limit(cfg, classifier)
    instance = tokenise([Example("own", text, text_pair, 0)], classifier.tokenizer, limit)[0]
    if all(instance.special):
        raise UserError("the tokenizer finds no token in this text: there is nothing to explain.")
    batch = classifier.batch([instance])
    probabilities = classifier.probabilities(batch)[0].cpu()
    explained = int(probabilities.argmax()) if wanted is None else wanted
    data = _fit_data(cfg, classifier, instance, reference, limit)
    found = tuple(
        _attribute(cfg, method, classifier, batch, explained, data) for method in selected(cfg.method)
    )
    return Explanation(
        model=name,
        text=text,
        text_pair=text_pair,
        tokens=_as_written(classifier, instance),
        special=instance.special,
        spaced=_spaced(instance),
        probabilities=dict(zip(classifier.labels, probabilities.tolist(), strict=True)),
        predicted=classifier.labels[int(probabilities.argmax())],
        target=classifier.labels[explained],
        methods=found,
        notes=tuple(_notes(instance, limit, found, data, reference)),
    )


def _limit(cfg: DictConfig, classifier: Classifier) -> int:
    return min(int(cfg.max_length), int(classifier.tokenizer.model_max_length), n_positions(classifier.model))


def _fit_data(
    cfg: DictConfig,
    classifier: Classifier,
    instance: Instance,
    reference: Sequence[tuple[str, str | None]] | None,
    limit: int,
) -> FitData:
    """Reference texts, single or pairs as the text is, labelled with their predicted classes."""
    paired = instance.example.text_pair is not None
    given = _templates(paired, cfg.seed) if reference is None else list(reference)
    if not given or any((second is not None) != paired for _, second in given):
        form = "pairs (two texts a line, a tab between them)" if paired else "single texts, one a line"
        raise UserError(f"the reference texts must be {form}, like the text that is explained.")
    examples = [Example(f"reference:{i}", a, b, 0) for i, (a, b) in enumerate(given)]
    rows = tokenise(examples, classifier.tokenizer, limit)
    variants = [Variant.whole(r.input_ids, r.token_type_ids) for r in rows]
    labels = class_probabilities(classifier, variants).argmax(1)
    labelled = [
        replace(row, example=replace(row.example, label=int(label)))
        for row, label in zip(rows, labels, strict=True)
    ]
    return FitData(labelled, [])


def _templates(paired: bool, seed: int) -> list[tuple[str, str | None]]:
    sizes = {"train": _N_TEMPLATES, "test": 0}
    if paired:
        return [(r["premise"], r["hypothesis"]) for r in planted.pairs("train", sizes, seed)]
    return [(r["text"], None) for r in planted.sentences("train", sizes, seed)]


def _attribute(
    cfg: DictConfig, name: str, classifier: Classifier, batch: TokenBatch, target: int, data: FitData
) -> MethodScores:
    started = time.monotonic()
    settings = method_settings(cfg, _TEXT, _PROTOCOL, cfg.method[name])
    targets = torch.tensor([target], device=classifier.device)
    by_rule = settings.get("beta") == "rule"
    try:
        method: Attributor = instantiate(settings | ({"beta": 0.0} if by_rule else {}))
    except InstantiationException as error:
        raise UserError(f"method {name} cannot be made from its settings: {error}") from error
    state = method.fit(classifier, data)
    if by_rule and isinstance(method, InformationBottleneck):
        method = method.with_beta(_rule_of_thumb(settings, state, classifier, batch, targets), state)
    else:
        method.restore(state)
    found: Attribution = method.attribute(classifier, batch, targets)
    bits = found.per_token.get("bits")
    details = {key: float(value[0]) for key, value in found.per_instance.items()}
    if isinstance(method, InformationBottleneck):
        details["layer"] = float(classifier.resolve_layer(method.layer))
    shown = found.scores if bits is None else bits
    return MethodScores(
        name=name,
        label=str(cfg.method[name].label),
        unit="" if bits is None else "bits",
        scores=tuple(shown[0].float().cpu().tolist()),
        details=details,
        seconds=time.monotonic() - started,
    )


def _rule_of_thumb(
    settings: dict[str, Any], state: State, classifier: Classifier, batch: TokenBatch, target: Tensor
) -> float:
    """β = 10 × L_CE / L_IB at the start (Appendix D): a run of no steps tells both."""
    start: InformationBottleneck = instantiate(settings | {"beta": 0.0, "n_steps": 0})
    start.restore(state)
    found = start.attribute(classifier, batch, target).per_instance
    return float(10 * found["cross_entropy_nats_start"] / found["mean_kl_nats_start"])


def _as_written(classifier: Classifier, instance: Instance) -> tuple[str, ...]:
    """Tokens spelled as in the text (case, accents), the tokenizer's marks in front."""
    pieces = classifier.tokenizer.convert_ids_to_tokens(list(instance.input_ids))
    written = []
    for piece, (start, end), part in zip(pieces, instance.offsets, instance.sequence, strict=True):
        if part is None or start == end:
            written.append(piece)
            continue
        source = instance.example.text if part == 0 else str(instance.example.text_pair)
        mark = next((m for m in ("##", "Ġ", "▁") if piece.startswith(m)), "")
        written.append(mark + source[start:end].strip())
    return tuple(written)


def _spaced(instance: Instance) -> tuple[bool, ...]:
    """Whether something stands between a token and the one before it; always around special tokens."""
    ends = [None, *zip(instance.sequence, (end for _, end in instance.offsets), strict=True)]
    begins = zip(instance.sequence, (start for start, _ in instance.offsets), strict=True)
    return tuple(
        part is None or before is None or before != (part, start)
        for before, (part, start) in zip(ends, begins, strict=False)
    )


def _notes(
    instance: Instance,
    limit: int,
    found: Sequence[MethodScores],
    data: FitData,
    reference: Sequence[tuple[str, str | None]] | None,
) -> list[str]:
    notes = []
    if instance.truncated:
        notes.append(f"The text was cut at {limit} tokens; what follows was not seen.")
    for method in found:
        if "beta" not in method.details:
            continue
        origin = "given reference texts" if reference is not None else "sentences from templates"
        hint = "" if reference is not None else "; give your own by reference=FILE"
        where = f"after layer {method.details['layer']:.0f}, " if "layer" in method.details else ""
        notes.append(
            f"{method.label}: {where}β = {method.details['beta']:.3g}; "
            f"bits beyond {len(data.train)} {origin}{hint}."
        )
        start = method.details.get("bits_per_token_start")
        kept = f"{method.details['bits_per_token']:.0f}" + ("" if start is None else f" of {start:.0f}")
        notes.append(
            f"{method.label}: with {kept} bits a token let through, the class still has "
            f"probability {method.details['prob_bottleneck']:.2f}."
        )
    return notes
