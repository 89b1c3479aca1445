"""A random BERT with a vocabulary of its own: the pipeline in seconds, for tests and first steps."""

from __future__ import annotations

import string

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from iba.data import planted

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """WordPiece over the planted templates' words, with single characters for everything else."""
    templates = " ".join(
        (*planted.NEUTRAL, *planted.JUDGING, *planted.PEOPLE, *planted.PLACES, *planted.DAYS)
    )
    words = " ".join((templates, *planted.THINGS, *planted.OBJECTS, *planted.COLOURS, *planted.WORDS[0]))
    words += " " + " ".join(planted.WORDS[1]) + " has a is of"
    found = sorted({w.strip("{}.").lower() for w in words.split()})
    characters = sorted(set(string.ascii_lowercase + string.digits + string.punctuation))
    vocabulary = dict.fromkeys([*SPECIAL, *characters, *(f"##{c}" for c in characters), *found])
    ids = {token: i for i, token in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", ids["[SEP]"]), ("[CLS]", ids["[CLS]"]))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def tiny_bert(
    vocab_size: int,
    labels: list[str],
    hidden_size: int = 32,
    num_hidden_layers: int = 4,
    num_attention_heads: int = 2,
    intermediate_size: int = 64,
) -> BertForSequenceClassification:
    """A BERT classifier with random weights (seed the generator first)."""
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=num_attention_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=512,
        id2label=dict(enumerate(labels)),
        label2id={name: i for i, name in enumerate(labels)},
    )
    return BertForSequenceClassification(config).float()
