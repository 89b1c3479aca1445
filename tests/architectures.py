"""Random tiny classifiers of many architectures, for the adapter's tests."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from iba.data import planted

N_LAYERS = 4
_COMMON: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
}
_DECODER = _COMMON | {
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": None,
    "eos_token_id": 3,
    "bos_token_id": 2,
}
_BART = {
    "vocab_size": 400,
    "d_model": 32,
    "encoder_layers": N_LAYERS,
    "decoder_layers": N_LAYERS,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 80,
    "pad_token_id": 0,
    "eos_token_id": 3,
    "bos_token_id": 2,
    "decoder_start_token_id": 3,
    "forced_eos_token_id": 3,
}
#: By model type: the configuration of a tiny one. Ids as `iba.tiny`'s tokenizer: 0 [PAD], 2 [CLS], 3 [SEP].
SHAPES: dict[str, dict[str, Any]] = {
    "bert": _COMMON,
    "roberta": _COMMON | {"type_vocab_size": 1},
    "xlm-roberta": _COMMON | {"type_vocab_size": 1},
    "camembert": _COMMON | {"type_vocab_size": 1},
    "distilbert": {"vocab_size": 400, "dim": 32, "n_layers": N_LAYERS, "n_heads": 4, "hidden_dim": 48},
    "mpnet": _COMMON,
    "electra": _COMMON | {"embedding_size": 16},
    "albert": _COMMON | {"embedding_size": 16},
    "deberta": _COMMON
    | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "pooler_hidden_size": 32},
    "deberta-v2": _COMMON
    | {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "conv_kernel_size": 3,
        "pooler_hidden_size": 32,
    },
    "modernbert": _COMMON
    | {"pad_token_id": 0, "eos_token_id": 3, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 3},
    "longformer": _COMMON | {"attention_window": 4, "pad_token_id": 0},
    "big_bird": _COMMON | {"attention_type": "original_full"},
    "roformer": _COMMON | {"embedding_size": 32},
    "ernie": _COMMON,
    "xlnet": {"vocab_size": 400, "d_model": 32, "n_layer": N_LAYERS, "n_head": 4, "d_inner": 48},
    "gpt2": {"vocab_size": 400, "n_embd": 32, "n_layer": N_LAYERS, "n_head": 4, "n_positions": 80}
    | {"pad_token_id": None, "eos_token_id": 3, "bos_token_id": 2},
    "opt": {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": N_LAYERS, "num_attention_heads": 4}
    | {"ffn_dim": 48, "max_position_embeddings": 80, "word_embed_proj_dim": 32, "pad_token_id": 0},
    "llama": _DECODER,
    "qwen3": _DECODER,
    "gemma": _DECODER | {"pad_token_id": 0},
    "bart": _BART,
    "t5": {"vocab_size": 400, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": N_LAYERS, "num_heads": 4}
    | {"pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0},
}


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A decoder's, as GPT-2's: byte pairs, no special token added, none but the one that ends a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(planted.NEUTRAL + planted.JUDGING + planted.WORDS[1], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")


def tiny_model(kind: str, labels: int = 3) -> PreTrainedModel:
    """A classifier of that model type whose parameters are all drawn at random (norms too)."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, num_labels=labels, **SHAPES[kind])
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(config)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        centre = float("norm" in name.lower() and "weight" in name)
        with torch.no_grad():
            parameter.copy_(centre + 0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()
