"""Random tiny classifiers of many architectures, and what every method makes of them.

`python tests/architectures.py > docs/architectures.md` writes the table of architectures and methods.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from composing import composed
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from iba.attributor import Attributor, FitData, refuse_lacking
from iba.data import planted
from iba.data.examples import Example
from iba.data.tokens import tokenise
from iba.errors import UserError
from iba.models.classifier import Classifier
from iba.models.postnorm import PostNorm
from iba.models.tiny import tiny_tokenizer
from iba.pipeline.checks import build
from iba.pipeline.experiment import candidates, method_settings

N_LAYERS = 4
#: What the configurations of most tiny models share.
COMMON: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 80,
}
_DECODER = COMMON | {
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
#: By model type: the configuration of a tiny one. Ids as of `iba.models.tiny`: 0 [PAD], 2 [CLS], 3 [SEP].
SHAPES: dict[str, dict[str, Any]] = {
    "bert": COMMON,
    "roberta": COMMON | {"type_vocab_size": 1},
    "xlm-roberta": COMMON | {"type_vocab_size": 1},
    "camembert": COMMON | {"type_vocab_size": 1},
    "distilbert": {"vocab_size": 400, "dim": 32, "n_layers": N_LAYERS, "n_heads": 4, "hidden_dim": 48},
    "mpnet": COMMON,
    "electra": COMMON | {"embedding_size": 16},
    "albert": COMMON | {"embedding_size": 16},
    "deberta": COMMON
    | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "pooler_hidden_size": 32},
    "deberta-v2": COMMON
    | {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "conv_kernel_size": 3,
        "pooler_hidden_size": 32,
    },
    "modernbert": COMMON
    | {"pad_token_id": 0, "eos_token_id": 3, "bos_token_id": 2, "cls_token_id": 2, "sep_token_id": 3},
    "longformer": COMMON | {"attention_window": 4, "pad_token_id": 0},
    "big_bird": COMMON | {"attention_type": "original_full"},
    "roformer": COMMON | {"embedding_size": 32},
    "ernie": COMMON,
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


#: Settings that make a method fast; what its scores are is not the question.
_FEW = {"n_steps": 2, "n_copies": 1, "n_samples": 5, "n_training_steps": 1}
_PAGE = """# Which methods run on which architectures

Every method was run on a random tiny classifier of every architecture below. Other architectures are run by
their own forward too; a model is refused where its logits do not come again from its own hidden states.
Written by `python tests/architectures.py > docs/architectures.md`; a test holds this page to the code.

{table}

Refused, because the method

{reasons}

The decoders of `bart` and `t5` read the same text once more: the bits that pass a bottleneck in the encoder
are not all that the answer rests on.
"""


def all_methods(protocol: str = "corrected", sizes: Mapping[str, Any] = _FEW) -> dict[str, Attributor]:
    """Every method by its label, with few steps and samples, or with the `sizes` that are given."""
    cfg = composed("preset=smoke", "dataset=planted", "method=all")
    found = {}
    for name, method in cfg.method.items():
        settings = candidates(method_settings(cfg, "planted", protocol, method))[0]
        found[method.label] = build(name, settings | {k: v for k, v in sizes.items() if k in settings})
    return found


def refusal(method: Attributor, classifier: Classifier) -> str | None:
    """Why the method does not run on the classifier; None where it gives a text finite scores."""
    rows = tokenise([Example("0", "Anna called the lecture superb.", None, 0)], classifier.tokenizer, 16)
    try:
        refuse_lacking(method, classifier)
        method.restore(method.fit(classifier, FitData(rows)))
        scores = method.attribute(classifier, classifier.batch(rows), torch.tensor([0])).scores
    except UserError as error:
        model, why = classifier.model, str(error).removeprefix(f"{type(method).__name__} ")
        return re.sub(rf"\b({type(model).__name__}|{model.config.model_type})\b", "the model", why)
    assert scores.isfinite().all()
    return None


def page() -> str:
    """Architectures × methods; methods that fare alike share a column."""
    methods, runners, found = all_methods(), {}, {}
    for kind in SHAPES:
        classifier = Classifier(tiny_model(kind), tiny_tokenizer())
        runners[kind] = "own blocks" if isinstance(classifier.runner, PostNorm) else "its own forward"
        found[kind] = {label: refusal(method, classifier) for label, method in methods.items()}
    reasons = [*dict.fromkeys(why for row in found.values() for why in row.values() if why)]
    columns: dict[tuple[str | None, ...], list[str]] = {}
    for label in methods:
        columns.setdefault(tuple(row[label] for row in found.values()), []).append(label)
    cells = [[f"refused ({reasons.index(why) + 1})" if why else "works" for why in each] for each in columns]
    lines = [
        ["architecture", "run by", *map(", ".join, columns.values())],
        ["---"] * (2 + len(columns)),
        *zip((f"`{kind}`" for kind in SHAPES), runners.values(), *cells, strict=True),
    ]
    return _PAGE.format(
        table="\n".join(f"| {' | '.join(line)} |" for line in lines),
        reasons="\n".join(f"{number}. {why}" for number, why in enumerate(reasons, start=1)),
    )


if __name__ == "__main__":
    print(page(), end="")
