"""Words that people marked as the reason for a label, as the evidence of test rows.

The training rows are those of the data set that the marks belong to, so that its classifier is explained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from omegaconf import DictConfig

from iba.data.sources import hub_or_files
from iba.errors import UserError

Spans = list[list[int]]


def marked_pairs(split: str, files: DictConfig, data_dir: str | None) -> Dataset:
    """MNLI pairs with marked words (Kim et al. 2020): columns `premise_words`, `hypothesis_words` hold the
    places of words in `text.split()`. Pairs without a mark are left out."""
    return _marked(split, files, data_dir, _words_of_pair, most=1.0)


def marked_sentences(split: str, files: DictConfig, data_dir: str | None, most: float) -> Dataset:
    """Sentences with marked character ranges, column `spans` (ERASER's film reviews, DeYoung et al. 2020), of
    which at most the share `most` is marked: where all is marked every ranking agrees."""
    return _marked(split, files, data_dir, lambda row: [list(map(list, row["spans"])), []], most)


def _marked(split: str, files: DictConfig, data_dir: str | None, evidence: Any, most: float) -> Dataset:
    if data_dir is None:
        raise UserError("marked words are read from files: give paths.data_dir=FOLDER.")
    table = hub_or_files(split, "", None, DictConfig({}), files, data_dir)
    if split == "train":
        return table
    rows = [{**row, "evidence": evidence(row)} for row in table]
    return Dataset.from_list([row for row in rows if 0 < _share(row) <= most])


def _words_of_pair(row: Mapping[str, Any]) -> list[Spans]:
    return [_words(row[text], row[f"{text}_words"]) for text in ("premise", "hypothesis")]


def _words(text: str, places: Sequence[int]) -> Spans:
    """Character ranges of the words of `text` at these places."""
    words = [list(found.span()) for found in re.finditer(r"\S+", text)]
    return [words[place] for place in places]


def _share(row: Mapping[str, Any]) -> float:
    """Share of the characters that are marked."""
    texts = [row[name] for name in ("text", "premise", "hypothesis") if name in row]
    marked = sum(end - start for spans in row["evidence"] for start, end in spans)
    return float(marked / sum(map(len, texts)))
