"""Tokenising once: pairs, truncation, padding, buckets; and evidence spans that land on the right tokens."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from iba.data import planted
from iba.data.examples import Example, Examples
from iba.data.tokens import Instance, Tokenised, buckets, collate, tokenise
from iba.models.tiny import tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


def one(tokenizer: PreTrainedTokenizerFast, text: str, pair: str | None = None, length: int = 64) -> Instance:
    return tokenise([Example("test:0", text, pair, 0)], tokenizer, length)[0]


def tokens(tokenizer: PreTrainedTokenizerFast, instance: Instance) -> list[str]:
    return [str(t) for t in tokenizer.convert_ids_to_tokens(list(instance.input_ids))]


def test_a_single_text(tokenizer: PreTrainedTokenizerFast) -> None:
    found = one(tokenizer, "The lecture was superb.")
    assert tokens(tokenizer, found) == ["[CLS]", "the", "lecture", "was", "superb", ".", "[SEP]"]
    assert found.special == (True, False, False, False, False, False, True)
    assert set(found.token_type_ids) == {0}
    assert found.sequence == (None, 0, 0, 0, 0, 0, None)
    assert [found.example.text[a:b] for a, b in found.offsets[1:-1]] == [
        "The",
        "lecture",
        "was",
        "superb",
        ".",
    ]
    assert not found.truncated
    assert found.evidence() is None


@pytest.mark.parametrize("pair", [None, "It was dull."])
def test_tokens_from_the_cache_are_those_made_at_once(
    tokenizer: PreTrainedTokenizerFast, pair: str | None, tmp_path: Path
) -> None:
    texts = ["superb", "the lecture was superb", "Anna has a boat and a very long story about it"]
    evidence = (((0, 3),), ()) if pair else None
    examples = [Example(f"train:{i}", text, pair, i % 2, evidence) for i, text in enumerate(texts)]
    known = tokenise(examples, tokenizer, 10)
    for _ in range(2):  # made, then read
        found = Tokenised.of(Examples.of(examples), tokenizer, 10, tmp_path)
        assert list(found) == known
        assert found.lengths == [len(one) for one in known]
    assert list(found[1:]) == known[1:]
    assert list(found[5:]) == []
    assert found[np.int64(2)] == found[-1] == known[2]
    with pytest.raises(IndexError):
        found[3]


def test_cached_tokens_are_those_of_the_same_rows_tokenizer_and_cut(tmp_path: Path) -> None:
    tokenizer, others = tiny_tokenizer(), tiny_tokenizer()
    examples = Examples.of(examples_of(3))
    Tokenised.of(examples, tokenizer, 8, tmp_path)
    tokenizer.save_pretrained(tmp_path / "saved")  # with the cut of its last call
    saved = PreTrainedTokenizerFast.from_pretrained(tmp_path / "saved")
    files = tmp_path / "tokens"
    for same in (examples, Examples.of(examples_of(3))):
        Tokenised.of(same, saved, 8, tmp_path)
    assert len(list(files.iterdir())) == 1
    others.add_tokens(["red red"])
    Tokenised.of(examples, others, 8, tmp_path)
    Tokenised.of(examples, tokenizer, 9, tmp_path)
    Tokenised.of(Examples.of(examples_of(3)[::-1]), tokenizer, 8, tmp_path)
    assert len(list(files.iterdir())) == 4


def test_a_pair(tokenizer: PreTrainedTokenizerFast) -> None:
    found = one(tokenizer, "Anna has a boat", "the boat is red")
    assert tokens(tokenizer, found)[4:7] == ["boat", "[SEP]", "the"]
    assert found.token_type_ids == (0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1)
    assert found.sequence == (None, 0, 0, 0, 0, None, 1, 1, 1, 1, None)
    assert found.special == tuple(s is None for s in found.sequence)


def test_truncation_cuts_to_length_and_says_so(tokenizer: PreTrainedTokenizerFast) -> None:
    text = "the lecture was superb and the dinner was poor"  # 9 tokens and two special ones
    assert [one(tokenizer, text, length=n).truncated for n in (10, 11, 12)] == [True, False, False]
    assert len(one(tokenizer, text, length=10)) == 10
    assert one(tokenizer, text, length=10).special[-1], "[SEP] is kept"


def test_of_a_pair_the_longer_is_cut(tokenizer: PreTrainedTokenizerFast) -> None:
    cut = one(tokenizer, "the lecture was superb and the dinner was poor", "it was red", length=11)
    assert cut.truncated
    assert len(cut) == 11
    assert cut.sequence.count(0) == 5
    assert cut.sequence.count(1) == 3


def test_truncated_texts_can_be_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    examples = [Example(f"test:{n}", " ".join(["red"] * n), None, 0) for n in range(1, 21)]
    assert sum(i.truncated for i in tokenise(examples, tokenizer, 12)) == 10


def test_no_examples_are_no_instances(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenise(examples_of(0), tokenizer, 8) == []


def examples_of(n: int) -> list[Example]:
    return [Example(f"test:{i}", " ".join(["red"] * (i + 1)), None, 0) for i in range(n)]


def test_batches_are_padded_on_the_right(tokenizer: PreTrainedTokenizerFast) -> None:
    instances = [one(tokenizer, "red blue"), one(tokenizer, "red", "blue green")]
    batch = collate(instances, pad_token_id=7, device="cpu")
    assert len(batch) == 2
    assert batch.input_ids.shape == (2, 6)
    for row, i in enumerate(instances):
        n = len(i)
        assert tuple(batch.input_ids[row, :n].tolist()) == i.input_ids
        assert batch.input_ids[row, n:].tolist() == [7] * (6 - n)
        assert batch.attention_mask[row].tolist() == [True] * n + [False] * (6 - n)
        assert tuple(batch.token_type_ids[row, :n].tolist()) == i.token_type_ids
        assert batch.removable[row].tolist() == [not s for s in i.special] + [False] * (6 - n)
    assert batch.attention_mask.dtype == batch.special.dtype == torch.bool
    assert batch.key_mask is batch.attention_mask
    assert collate([instances[0]] * 2, pad_token_id=7, device="cpu").key_mask is None


@given(st.lists(st.integers(1, 512), max_size=200), st.integers(1, 4096))
def test_buckets_are_a_partition_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = list(buckets(lengths, budget))
    assert sorted(i for g in groups for i in g) == list(range(len(lengths)))
    assert all(len(g) == 1 or len(g) * max(lengths[i] for i in g) <= budget for g in groups)
    assert all(groups)
    flat = [lengths[i] for g in groups for i in g]
    assert flat == sorted(flat, reverse=True), "longest first, so memory peaks at once"


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60), st.integers(64, 1024))
def test_a_bucket_ends_when_it_is_full_or_the_next_text_is_much_shorter(
    lengths: list[int], budget: int
) -> None:
    groups = list(buckets(lengths, budget))
    for group, following in pairwise(groups):
        longest, next_length = lengths[group[0]], lengths[following[0]]
        padded = len(group) * longest
        assert padded + longest > budget or (longest > 1.2 * next_length and padded >= budget / 8)
        assert lengths[group[-1]] >= next_length


def test_buckets_by_hand() -> None:
    # 400 tokens and an eighth of them, 50: [30, 30] is enough to leave 10s out, [10, 10, 10] is not.
    assert list(buckets([10, 30, 10, 30, 5, 10], 400)) == [[1, 3], [0, 2, 5, 4]]
    assert list(buckets([30, 29, 28], 60)) == [[0, 1], [2]]


def test_a_large_budget_is_no_reason_to_pad_short_texts() -> None:
    # An eighth of 65,536 tokens are 8,192: 32 texts of 64 tokens are only 2,048, but enough.
    assert list(map(len, buckets([64] * 32 + [16] * 100, 65536))) == [32, 100]
    assert list(map(len, buckets([64] * 31 + [16] * 100, 65536))) == [32, 99]


@pytest.mark.parametrize(("make", "words"), [("sentences", planted.WORDS), ("pairs", (planted.COLOURS,))])
def test_planted_evidence_lands_on_its_tokens(
    tokenizer: PreTrainedTokenizerFast, make: str, words: tuple[tuple[str, ...], ...]
) -> None:
    vocabulary = {w for group in words for w in group}
    for row in getattr(planted, make)("test", {"test": 100}, 5):
        texts = (row["text"], None) if make == "sentences" else (row["premise"], row["hypothesis"])
        first, second = (tuple((a, b) for a, b in part) for part in row["evidence"])
        example = Example("test:0", texts[0], texts[1], row["label"], (first, second))
        (found,) = tokenise([example], tokenizer, 128)
        marked = found.evidence()
        assert marked is not None
        pieces = tokens(tokenizer, found)
        chosen = [piece for piece, is_evidence in zip(pieces, marked, strict=True) if is_evidence]
        assert len(chosen) == len(first) + len(second)
        assert set(chosen) <= vocabulary
        if make == "sentences":
            assert set(chosen) <= set(words[row["label"]]), "judging words are of the label's class"
            assert not set(pieces) & set(words[1 - row["label"]])
        else:
            told, asked = chosen
            assert (told != asked) == bool(row["label"])


def test_evidence_in_pieces_marks_every_piece(tokenizer: PreTrainedTokenizerFast) -> None:
    text, pair = "it felt zany", "so zany"
    example = Example("test:0", text, pair, 0, (((8, 12),), ()))
    (found,) = tokenise([example], tokenizer, 64)
    marked = found.evidence()
    assert marked is not None
    pieces = tokens(tokenizer, found)
    assert [p for p, m in zip(pieces, marked, strict=True) if m] == ["z", "##a", "##n", "##y"]
    assert sum(marked) == 4, "the same characters of the second text are not evidence"


def test_neighbouring_tokens_are_no_evidence(tokenizer: PreTrainedTokenizerFast) -> None:
    # Spans are half open: "red" [4, 7) touches neither the blank before it nor the full stop after it.
    (found,) = tokenise([Example("test:0", "the red.", None, 0, (((4, 7),), ()))], tokenizer, 64)
    assert found.evidence() == [False, False, True, False, False]


def test_a_tokenizer_without_segments_gives_none_but_zero() -> None:
    roberta_like = tiny_tokenizer()
    roberta_like.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 [SEP]:0 $B:0 [SEP]:0",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    found = one(roberta_like, "red", "blue")
    assert set(found.token_type_ids) == {0}
    assert found.special == (True, False, True, True, False, True)
    assert found.sequence == (None, 0, None, None, 1, None)
