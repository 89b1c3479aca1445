"""Tokenised instances and batches: every later stage speaks in these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import index
from typing import NamedTuple, SupportsIndex, overload

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from iba.data.examples import Example, Span
from iba.models.devices import sent

#: Something of every token: ids, segments, whether it is special.
Row = Sequence[int] | np.ndarray


@dataclass(frozen=True)
class Instance:
    """One tokenised example: ids, segment ids, which tokens are special, and where each token stands.

    `offsets` are character spans in `example.text` or, where `sequence` is 1, in `example.text_pair`;
    `sequence` is None for special tokens. `truncated` tells that text was cut at `max_length`.
    """

    example: Example
    input_ids: tuple[int, ...]
    token_type_ids: tuple[int, ...]
    special: tuple[bool, ...]
    offsets: tuple[Span, ...]
    sequence: tuple[int | None, ...]
    truncated: bool

    @property
    def id(self) -> str:
        """The example's id, unique inside its data set."""
        return self.example.id

    def __len__(self) -> int:
        return len(self.input_ids)

    def evidence(self) -> list[bool] | None:
        """Which tokens overlap planted evidence; None where no evidence is known."""
        known = self.example.evidence
        if known is None:
            return None
        return [
            part is not None and any(a < end and start < b for a, b in known[part])
            for (start, end), part in zip(self.offsets, self.sequence, strict=True)
        ]


class Inputs(NamedTuple):
    """What a classifier reads, padded on the right; no mask: every token may be read."""

    input_ids: Int[Tensor, "batch tokens"]
    attention_mask: Bool[Tensor, "batch tokens"] | None
    token_type_ids: Int[Tensor, "batch tokens"]

    def matching(self, n_rows: int) -> Inputs:
        """The batch as often, one after the other, as `n_rows` rows take (noise copies)."""
        copies = n_rows // len(self.input_ids)
        return self if copies == 1 else self._each(lambda part: part.repeat(copies, 1))

    def cut(self, rows: Int[Tensor, " rows"], n_tokens: int) -> Inputs:
        """Some rows, their first `n_tokens` positions."""
        return self._each(lambda part: part[rows, :n_tokens])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Inputs:
        mask = None if self.attention_mask is None else change(self.attention_mask)
        return Inputs(change(self.input_ids), mask, change(self.token_type_ids))


@dataclass(frozen=True)
class TokenBatch:
    """Right-padded token tensors; dimension 0 runs over `instances`."""

    instances: Sequence[Instance]
    input_ids: Int[Tensor, "batch tokens"]
    attention_mask: Bool[Tensor, "batch tokens"]
    token_type_ids: Int[Tensor, "batch tokens"]
    special: Bool[Tensor, "batch tokens"]

    def __len__(self) -> int:
        return len(self.instances)

    @property
    def key_mask(self) -> Bool[Tensor, "batch tokens"] | None:
        """`attention_mask`, or None where nothing is padded: known by the lengths, without asking a GPU."""
        return None if len(set(map(len, self.instances))) == 1 else self.attention_mask

    @property
    def inputs(self) -> Inputs:
        """What the classifier reads of the batch."""
        return Inputs(self.input_ids, self.key_mask, self.token_type_ids)

    @property
    def removable(self) -> Bool[Tensor, "batch tokens"]:
        """Tokens that may be removed or scored: neither special nor padding."""
        return self.attention_mask & ~self.special


def tokenise(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast, max_length: int
) -> list[Instance]:
    """Tokenise once, cutting texts to `max_length` tokens (the longer of a pair is cut first).

    Segment ids are what the model's own forward would get: 0 where the tokenizer hands over none.
    """
    if not examples:  # a tokenizer refuses an empty list
        return []
    texts = [e.text for e in examples]
    pairs = [e.text_pair for e in examples] if examples[0].text_pair is not None else None
    encoded = tokenizer(texts, pairs, truncation=True, max_length=max_length)
    segmented = "token_type_ids" in tokenizer.model_input_names
    instances = []
    for row, example in enumerate(examples):
        encoding = encoded.encodings[row]
        instances.append(
            Instance(
                example=example,
                input_ids=tuple(encoding.ids),
                token_type_ids=tuple(encoding.type_ids) if segmented else (0,) * len(encoding.ids),
                special=tuple(bool(s) for s in encoding.special_tokens_mask),
                offsets=tuple(encoding.offsets),
                sequence=tuple(encoding.sequence_ids),
                truncated=bool(encoding.overflowing),
            )
        )
    return instances


class Tokenised(Sequence[Instance]):
    """What `tokenise` makes of `examples`, each time it is asked for: of many rows, a method may need few."""

    def __init__(
        self, examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast, max_length: int
    ) -> None:
        self.examples, self.tokenizer, self.max_length = examples, tokenizer, max_length

    def __len__(self) -> int:
        return len(self.examples)

    @overload
    def __getitem__(self, position: SupportsIndex) -> Instance: ...
    @overload
    def __getitem__(self, position: slice) -> list[Instance]: ...
    def __getitem__(self, position: SupportsIndex | slice) -> Instance | list[Instance]:
        if isinstance(position, slice):
            return tokenise(self.examples[position], self.tokenizer, self.max_length)
        return tokenise([self.examples[index(position)]], self.tokenizer, self.max_length)[0]


def collate(instances: Sequence[Instance], pad_token_id: int, device: torch.device | str) -> TokenBatch:
    """Pad to the longest instance and move to `device`."""
    return TokenBatch(
        instances=instances,
        input_ids=padded([i.input_ids for i in instances], pad_token_id, device),
        attention_mask=padded([[True] * len(i) for i in instances], False, device),
        token_type_ids=padded([i.token_type_ids for i in instances], 0, device),
        special=padded([i.special for i in instances], True, device),
    )


def padded(rows: Sequence[Row], fill: int | bool, device: torch.device | str) -> Tensor:
    """Rows of unequal length as one tensor (rows, longest) on `device`, padded on the right with `fill`."""
    together = pad_sequence([torch.as_tensor(row) for row in rows], batch_first=True, padding_value=fill)
    return sent(together, device)


#: A group is closed before a text that would be padded to more than so many times its length,
#: once the group holds this share of the budget or this many tokens: smaller passes do not use the device
#: well, and a large budget is no reason to pad short texts.
_PADDING, _ENOUGH, _ENOUGH_TOKENS = 1.2, 1 / 8, 2048


def buckets(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Positions grouped by length so that no group, padded, holds more than `token_budget` tokens.

    Longest first (so memory peaks at once, not an hour in); a group always has at least one member. Texts
    much shorter than a group's longest start another group, unless the group is still small.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    group: list[int] = []
    enough = min(_ENOUGH * token_budget, _ENOUGH_TOKENS)
    for position in order:
        longest = lengths[group[0]] if group else 0
        full = (len(group) + 1) * longest > token_budget
        wasteful = longest > _PADDING * lengths[position] and len(group) * longest >= enough
        if group and (full or wasteful):
            yield group
            group = []
        group.append(position)
    if group:
        yield group
