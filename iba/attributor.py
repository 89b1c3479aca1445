"""The one signature that every method shares: tokenised batch + classifier + target → one score per token."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from iba.data.tokens import Instance, TokenBatch
from iba.devices import sent
from iba.errors import UserError
from iba.models.classifier import Classifier
from iba.models.memory import FLOAT
from iba.models.parallel import grouped
from iba.progress import progress

State = dict[str, Tensor]


@dataclass(frozen=True)
class Attribution:
    """What a method says about a batch; dimension 0 of every tensor is the batch's.

    `scores` rank the tokens (larger: more important; only the order matters to the degradation test).
    `per_token` and `per_instance` hold whatever explains the scores, by name, with the unit in the name.
    """

    scores: Float[Tensor, "batch tokens"]
    per_token: dict[str, Float[Tensor, "batch tokens"]] = field(default_factory=dict)
    per_instance: dict[str, Float[Tensor, " batch"]] = field(default_factory=dict)

    def cpu(self) -> Attribution:
        """The same on the CPU, where reading a number waits for nothing."""
        return Attribution(
            self.scores.cpu(),
            {name: values.cpu() for name, values in self.per_token.items()},
            {name: values.cpu() for name, values in self.per_instance.items()},
        )


#: What a method may read of a classifier: its answers; word embeddings and their gradients; states between
#: layers, and the layers from one on; attention maps; maps put in place of them; the parts of every layer.
NEEDS = ("logits", "embeddings", "hidden", "attention", "set_attention", "blocks")


def refuse_lacking(method: Attributor, classifier: Classifier) -> None:
    """Raise `UserError` where the classifier's model does not give what the method reads of it."""
    if lack := classifier.lacks(method.needs):
        raise UserError(f"{type(method).__name__} {lack}")


@dataclass(frozen=True)
class FitData:
    """The rows that trained the classifier, from which a method may learn; no test row is among them.

    `shared` keeps what one method found and another may ask for again, such as the statistics of a layer.
    """

    train: Sequence[Instance]
    shared: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)


@runtime_checkable
class Attributor(Protocol):
    """An attribution method, made from its configuration."""

    #: Copies of every token that are run at once; the pipeline divides its token budget by it.
    copies: int
    #: What it reads of a classifier: one of `NEEDS`.
    needs: str
    #: Whether several threads may call `attribute` at a time: it changes nothing that they share.
    concurrent: bool

    def fit(self, classifier: Classifier, data: FitData) -> State:
        """Learn from training rows what the method needs; stored, and given back by `restore`."""

    def restore(self, state: State) -> None:
        """Take what `fit` returned, in this process or an earlier one."""

    def attribute(
        self, classifier: Classifier, batch: TokenBatch, target: Int[Tensor, " batch"]
    ) -> Attribution:
        """Scores for every token of every instance, explaining the class `target`."""

    def held(self, classifier: Classifier, tokens: int) -> int:
        """Numbers (float32) on the device for each token of a batch of texts of `tokens` tokens, at most."""


class Unfitted:
    """Base of the methods that need nothing but the classifier."""

    copies = 1
    concurrent = False
    needs = "logits"

    def fit(self, classifier: Classifier, data: FitData) -> State:
        """Nothing to learn."""
        return {}

    def restore(self, state: State) -> None:
        """Nothing to restore."""

    def held(self, classifier: Classifier, tokens: int) -> int:
        """A pass without gradients."""
        return classifier.shapes(tokens).forward


def attribute_grouped(
    method: Attributor, classifier: Classifier, rows: Sequence[Instance], targets: Sequence[int]
) -> Iterator[tuple[list[int], Attribution]]:
    """What `method` says about `rows` and the classes `targets`: by groups of positions of like length.

    Whatever the classifier's device, it is given on the CPU.
    """

    def work(group: list[int]) -> Attribution:
        target = sent(torch.tensor([targets[i] for i in group]), classifier.device)
        return method.attribute(classifier, classifier.batch([rows[i] for i in group]), target).cpu()

    workers = classifier.workers if method.concurrent else 1
    lengths, fitting = [len(r) for r in rows], classifier.fitting[type(method).__name__]
    return grouped(lengths, _budget(method, classifier, lengths), work, workers, fitting)


def _budget(method: Attributor, classifier: Classifier, lengths: Sequence[int]) -> int:
    """Tokens of a batch: the classifier's budget, of which every copy takes its share, and what has room."""
    budget = classifier.token_budget // method.copies
    if classifier.memory is None or not lengths:
        return budget
    return min(budget, int(classifier.memory / (FLOAT * method.held(classifier, max(lengths)))))


@dataclass(frozen=True)
class Attributed:
    """One row's token scores, and the numbers and other token scores that explain them."""

    scores: Tensor
    numbers: dict[str, Tensor]
    per_token: dict[str, Tensor]


def attribute_rows(
    method: Attributor, classifier: Classifier, rows: Sequence[Instance], title: str = "attribute"
) -> list[Attributed]:
    """What `method` says about each of `rows`, explaining its label; `title` stands before the bar."""
    found: dict[int, Attributed] = {}
    with progress(total=len(rows), desc=title, unit="inst") as bar:
        for group, said in attribute_grouped(method, classifier, rows, [r.example.label for r in rows]):
            for row, i in enumerate(group):
                numbers = {name: values[row] for name, values in said.per_instance.items()}
                tokens = {name: values[row, : len(rows[i])] for name, values in said.per_token.items()}
                found[i] = Attributed(said.scores[row, : len(rows[i])], numbers, tokens)
            bar.update(len(group))
    return [found[i] for i in range(len(rows))]


def learned(state: State, name: str) -> Tensor:
    """What `fit` returned under `name`; `UserError` where it was never given back by `restore`."""
    if name not in state:
        raise UserError(f"{name} was never learned: give the method what its fit() returns, by restore().")
    return state[name]


def instance_seed(seed: int, instance_id: str) -> int:
    """A seed of the instance's own, so that its result depends on no other instance and no batch."""
    return zlib.crc32(f"{seed}/{instance_id}".encode())


def pad_scores(rows: Sequence[Tensor], batch: TokenBatch) -> Float[Tensor, "batch tokens"]:
    """Per-instance score vectors, all of one device, as one padded float32 tensor (0 on padding)."""
    return pad_sequence(list(rows), batch_first=True).to(batch.input_ids.device, torch.float32)
