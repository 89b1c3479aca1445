"""Tokenised instances and batches: every later stage speaks in these."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.compute as pc
import tokenizers
import torch
from datasets import Dataset, Features, List, Value
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

from iba.data.examples import Example, Examples, Span
from iba.data.rows import Rows
from iba.devices import sent
from iba.settings import fingerprint
from iba.store import atomic

#: Something of every token: ids, segments, whether it is special.
PerToken = Sequence[int] | np.ndarray


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


class Tokenised(Rows[Instance]):
    """Tokenised examples in a memory-mapped table: the examples' columns, and those of `_LISTS`."""

    @staticmethod
    def _made(row: Mapping[str, Any]) -> Instance:
        return _instance(Example.of_row(row), row)

    @classmethod
    def of(
        cls, examples: Examples, tokenizer: PreTrainedTokenizerFast, max_length: int, cache: Path
    ) -> Tokenised:
        """What `tokenise` makes of `examples`; kept in a file below `cache`, so that it is done once."""
        key = fingerprint([examples.table._fingerprint, _rules(tokenizer), max_length])
        path = cache / "tokens" / f"{key}.arrow"
        if not path.is_file():
            with atomic(path) as temporary:
                examples.table.map(
                    lambda texts, pairs: _encoded(texts, pairs, tokenizer, max_length),
                    input_columns=["text", "text_pair"],
                    batched=True,
                    features=Features(examples.table.features | _LISTS | {"truncated": Value("bool")}),
                    cache_file_name=str(temporary),
                    new_fingerprint=key,
                )
        return cls(Dataset.from_file(str(path)))

    @property
    def lengths(self) -> list[int]:
        """Every instance's number of tokens."""
        ids = self.table.with_format("arrow")["input_ids"][:]
        return [int(length) for length in pc.list_value_length(ids).to_numpy()]


#: Columns with a value for every token. A mask of ones: not every tokenizer would give it when it pads.
_LISTS = {
    "input_ids": List(Value("int32")),
    "token_type_ids": List(Value("int8")),
    "attention_mask": List(Value("int8")),
    "special": List(Value("bool")),
    "start": List(Value("int32")),
    "end": List(Value("int32")),
    "sequence": List(Value("int8")),
}


@lru_cache(maxsize=8)
def _rules(tokenizer: PreTrainedTokenizerFast) -> str:
    """What a text's tokens depend on, but for how the texts before it were cut and padded."""
    rules = json.loads(tokenizer.backend_tokenizer.to_str()) | {"truncation": None, "padding": None}
    return fingerprint(
        [rules, tokenizer.model_input_names, tokenizer.truncation_side, tokenizers.__version__]
    )


def tokenise(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerFast, max_length: int
) -> list[Instance]:
    """Tokenise once, cutting texts to `max_length` tokens (the longer of a pair is cut first).

    Segment ids are what the model's own forward would get: 0 where the tokenizer hands over none.
    """
    if not examples:  # a tokenizer refuses an empty list
        return []
    texts, pairs = [e.text for e in examples], [e.text_pair for e in examples]
    columns = _encoded(texts, pairs, tokenizer, max_length)
    return [
        _instance(example, dict(zip(columns, values, strict=True)))
        for example, values in zip(examples, zip(*columns.values(), strict=True), strict=True)
    ]


def _encoded(
    texts: list[str], pairs: list[str | None], tokenizer: PreTrainedTokenizerFast, max_length: int
) -> dict[str, list[Any]]:
    """The columns of `Tokenised` that the tokenizer gives."""
    paired = None if pairs[0] is None else pairs
    found = tokenizer(texts, paired, truncation=True, max_length=max_length).encodings
    segmented = "token_type_ids" in tokenizer.model_input_names
    offsets = [encoding.offsets for encoding in found]
    return {
        "input_ids": [encoding.ids for encoding in found],
        "token_type_ids": [e.type_ids if segmented else [0] * len(e.ids) for e in found],
        "attention_mask": [encoding.attention_mask for encoding in found],
        "special": [encoding.special_tokens_mask for encoding in found],
        "start": [[start for start, _ in spans] for spans in offsets],
        "end": [[end for _, end in spans] for spans in offsets],
        "sequence": [encoding.sequence_ids for encoding in found],
        "truncated": [bool(encoding.overflowing) for encoding in found],
    }


def _instance(example: Example, row: Mapping[str, Any]) -> Instance:
    return Instance(
        example=example,
        input_ids=tuple(row["input_ids"]),
        token_type_ids=tuple(row["token_type_ids"]),
        special=tuple(map(bool, row["special"])),
        offsets=tuple(zip(row["start"], row["end"], strict=True)),
        sequence=tuple(row["sequence"]),
        truncated=row["truncated"],
    )


def collate(instances: Sequence[Instance], pad_token_id: int, device: torch.device | str) -> TokenBatch:
    """Pad to the longest instance and move to `device`."""
    return TokenBatch(
        instances=instances,
        input_ids=padded([i.input_ids for i in instances], pad_token_id, device),
        attention_mask=padded([[True] * len(i) for i in instances], False, device),
        token_type_ids=padded([i.token_type_ids for i in instances], 0, device),
        special=padded([i.special for i in instances], True, device),
    )


def padded(rows: Sequence[PerToken], fill: int | bool, device: torch.device | str) -> Tensor:
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
