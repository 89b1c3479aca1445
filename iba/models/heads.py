"""What a model's raw logits say: which classes there are, and how their probabilities are read.

A softmax over the logits is the common case and the one that every method knows. Other heads are seen as two
classes with the logits (0, z), whose softmax is the sigmoid of z, so that probabilities, cross-entropies and
gradients need to know no other case. Nothing here knows an encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PretrainedConfig

from iba.errors import UserError

#: transformers' names for what a head is trained for (`config.problem_type`).
SINGLE_LABEL, MULTI_LABEL, REGRESSION = (
    "single_label_classification",
    "multi_label_classification",
    "regression",
)
_NOT = "not "
_ONE_OUTPUT = "The model has one output: its sigmoid is read as the probability of yes."


@dataclass(frozen=True)
class Head:
    """`classes` in the order of the logits that it returns; `note` tells a reader what is not plain.

    `logit` is None where each of the model's logits is a class; else classes are two, and this logit's
    sigmoid is the probability of the second.
    """

    classes: tuple[str, ...]
    logit: int | None = None
    note: str = ""

    def __call__(self, raw: Float[Tensor, "batch outputs"]) -> Float[Tensor, "batch classes"]:
        """Logits of the classes from the model's raw ones; a softmax makes them probabilities."""
        if self.logit is None:
            return raw
        z = raw[:, self.logit]
        return torch.stack([torch.zeros_like(z), z], 1)


@dataclass(frozen=True)
class ManyLabels(Head):
    """Labels that are a yes or no each, by itself: one of them is explained, as two classes."""

    def __call__(self, raw: Float[Tensor, "batch outputs"]) -> Float[Tensor, "batch classes"]:
        """Refused: these logits have no softmax."""
        raise UserError(f"each label is a yes or no by itself: choose one of {list(self.classes)}.")

    def alone(self, target: str | int | None, raw: Float[Tensor, " outputs"]) -> tuple[Head, int | None]:
        """One label as two classes, and which of them is asked for (None: the predicted one).

        `target` is a label, "not LABEL" or a label's number; None takes the most probable by `raw`.
        """
        if target is None:
            label, wanted = int(raw.argmax()), None
        elif (name := str(target)).startswith(_NOT) and name not in self.classes:
            label, wanted = class_id(self.classes, name.removeprefix(_NOT)), 0
        else:
            label, wanted = class_id(self.classes, target), 1
        name = self.classes[label]
        chosen = "as asked" if target is not None else "the most probable; choose another by target=NAME"
        note = f"Each of {len(self.classes)} labels is a yes or no by itself; this is of {name!r} ({chosen})."
        return Head((_NOT + name, name), label, note), wanted


def head_of(config: PretrainedConfig) -> Head:
    """The head that a model's configuration describes; raises `UserError` for one that predicts no class.

    `problem_type` "multi_label_classification": a sigmoid for each label; "regression": refused. One logit
    alone is transformers' regression and also what cross-encoders and binary heads have: it is taken for a
    yes or no by its sigmoid, unless the configuration says regression, or (sentence-transformers) that the
    logit is used as it is. All else is a softmax.
    """
    names = class_names(config)
    as_it_is = len(names) == 1 and _activation(config).endswith("Identity")
    if not names or config.problem_type == REGRESSION or (as_it_is and config.problem_type != MULTI_LABEL):
        raise UserError(
            "the model predicts a number, not a class: there is no class to explain. If the sigmoid of its "
            f'output is a probability, write "problem_type": "{MULTI_LABEL}" into its config.json.'
        )
    if len(names) == 1:
        return Head(("no", "yes"), 0, _ONE_OUTPUT)
    return ManyLabels(names) if config.problem_type == MULTI_LABEL else Head(names)


def class_names(config: PretrainedConfig) -> tuple[str, ...]:
    """A name for every logit; equal ones are told apart by the logit's number."""
    known: dict[Any, Any] = dict(config.id2label or {})
    names = [str(known.get(i, f"LABEL_{i}")) for i in range(config.num_labels or 0)]
    return tuple(f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names))


def class_id(classes: Sequence[str], asked: str | int) -> int:
    """The place of a class in `classes`, by its name or, where none is called so, by its number from 0 on."""
    name = str(asked)
    if name in classes:
        return list(classes).index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise UserError(f"no class {asked!r}; the classifier has {list(classes)}.")


def _activation(config: PretrainedConfig) -> str:
    """What sentence-transformers applies to a cross-encoder's logits; old versions save the second key."""
    saved = getattr(config, "sentence_transformers", None) or {}
    return str(saved.get("activation_fn") or getattr(config, "sbert_ce_default_activation_function", ""))
