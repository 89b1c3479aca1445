"""Words and pieces cut out of the text itself, whatever the tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from iba.own_text.words import cut

SENTENCE = "It isn't state-of-the-art: 3.5 stars, café 😀 — unbelievable!"
WORDS = ["It", "isn't", "state-of-the-art", ":", "3.5", "stars", ",", "café", "😀", "—", "unbelievable", "!"]
CORPUS = [
    SENTENCE,
    "電影很好看。",
    "映画はとても面白い",
    "فيلم رائع جدا",
    "หนังดีมาก",
    "हिन्दी फ़िल्म",
    "a b c d e f",
]


def wordpiece() -> Tokenizer:
    """BERT's: accents are stripped, characters it does not know become [UNK]."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=90, special_tokens=["[UNK]"], initial_alphabet=list("abcdefghijklmnopqrstuvwxyz")
    )
    tokenizer.train_from_iterator(CORPUS[:2], trainer)
    return tokenizer


def byte_level(trim: bool = True) -> Tokenizer:
    """RoBERTa's (GPT-2's without `trim`): a character is up to four tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(CORPUS[:1], trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet))
    return tokenizer


def unigram() -> Tokenizer:
    """XLM-R's: a space belongs to the token that follows; compatibility forms are normalised."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=130, unk_token="<unk>", special_tokens=["<unk>"])
    tokenizer.train_from_iterator(CORPUS * 4, trainer)
    return tokenizer


TOKENIZERS = {
    "wordpiece": wordpiece(),
    "byte-level": byte_level(),
    "byte-level, spaces in": byte_level(False),
    "unigram": unigram(),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_words_of_a_sentence_are_the_same_for_every_tokenizer(kind: str) -> None:
    offsets = TOKENIZERS[kind].encode(SENTENCE).offsets
    shown = cut(SENTENCE, offsets, [1.0] * len(offsets))
    assert [one.text for one in shown] == WORDS
    assert all(one.score is not None and one.score >= 1 for one in shown)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("'tis the U.S. dogs' 1,000.50 (10:30).", "' tis the U . S . dogs ' 1,000.50 ( 10:30 ) ."),
        ("wait... what?! a--b “so” l’été", "wait ... what ? ! a -- b “ so ” l’été"),
        ("cafe\u0301 nai\u0308ve", "cafe\u0301 nai\u0308ve"),
        ("हिन्दी फ़िल्म।", "हिन्दी फ़िल्म ।"),
        ("نمی\u200cدانم، فيلم رائع", "نمی\u200cدانم ، فيلم رائع"),
        ("한국 영화 2023년", "한국 영화 2023년"),
        ("電影2023好。", "電 影 2023 好 。"),
        ("👩‍💻🇩🇪👍🏽1️⃣", "👩‍💻 🇩🇪 👍🏽 1️⃣"),
        ("$5 C++ 50% a_b <br />", "$ 5 C + + 50 % a_b < br / >"),
    ],
)
def test_word_borders_come_from_the_text(text: str, words: str) -> None:
    assert [one.text for one in cut(text, [], [])] == words.split(" ")


def test_scores_go_to_the_word_where_a_token_begins() -> None:
    """A token over two words keeps them together; one of white space counts for what follows, at the end for
    what precedes; what no token covers has no score."""
    text = "un believ a \x00 of the\n end "
    spans = [(0, 2), (3, 6), (6, 9), (9, 11), (14, 20), (20, 21), (21, 21), (22, 25), (25, 26)]
    scores = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]
    found = [(one.before, one.text, one.score) for one in cut(text, spans, scores)]
    assert found == [
        ("", "un", 1.0),
        (" ", "believ", 6.0),
        (" ", "a", 8.0),
        (" ", "\x00", None),
        (" ", "of the", 16.0),
        ("\n ", "end", 480.0),
        (" ", "", None),
    ]


def test_pieces_are_tokens_but_bytes_of_one_character_stay_together() -> None:
    text = "café 😀"
    spans = [(0, 2), (2, 4), (3, 4), *[(5, 6)] * 4]
    shown = cut(text, spans, [1.0] * 7, pieces=True)
    assert [(one.text, one.score) for one in shown] == [("ca", 1.0), ("fé", 2.0), ("😀", 4.0)]


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("kind", TOKENIZERS)
@settings(max_examples=40, deadline=None)
@given(
    st.text(
        st.one_of(st.sampled_from("".join(CORPUS) + "\t\n \u0301\u200dﬁ\r\x00"), st.characters(codec="utf-8"))
    )
)
def test_units_joined_are_the_text_and_keep_the_whole_score(kind: str, pieces: bool, text: str) -> None:
    offsets = TOKENIZERS[kind].encode(text).offsets
    shown = cut(text, offsets, [1.0] * len(offsets), pieces)
    assert "".join(one.before + one.text for one in shown) == text
    assert sum(one.score or 0.0 for one in shown) == len(offsets)
    assert all(one.before.isspace() for one in shown if one.before)
