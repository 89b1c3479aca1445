"""What methods are said to hold beside what they do hold, and the batches that follow from it."""

from __future__ import annotations

import gc
from functools import cache
from typing import Any

import pytest
import torch
from architectures import all_methods
from memory_page import table
from pretended import GPU, pretended_gpu

from iba.attribution import InformationBottleneck
from iba.attributor import Attributor, attribute_grouped
from iba.data.examples import Example
from iba.data.tokens import Instance, tokenise
from iba.errors import UserError
from iba.models.classifier import Classifier
from iba.models.memory import FLOAT, LONG, PLANNED, Shapes, planned
from iba.models.tiny import tiny_bert, tiny_tokenizer

_SIZES = {"n_steps": 4, "n_copies": 2, "n_samples": 4}
N_TOKENS = 24
_methods = cache(lambda: all_methods(sizes=_SIZES))
#: As much above the peak as this, and below it by no more than the ids and masks that are not counted.
_ABOVE, _BELOW = 1.5, 0.97
#: 12 layers of bert-base, at 512 tokens.
BERT_BASE = Shapes(whole=11, hidden=768, inner=3072, heads=12, tokens=512)


def learned(method: Attributor, classifier: Classifier) -> None:
    """Give the method what it would learn, of the right shapes."""
    width, n_layers = classifier.hidden_size, classifier.n_layers
    state = {
        "noise_mean": torch.zeros(width),
        "noise_std": torch.ones(width),
        "message_mean": torch.zeros(n_layers, width),
        "message_std": torch.ones(n_layers, width),
        "beta": torch.tensor(0.1),
    }
    if hasattr(method, "_new_network"):
        network = method._new_network(classifier)
        state |= {f"readout.{name}": value for name, value in network.state_dict().items()}
    method.restore(state)


@pytest.mark.parametrize("label", [label for label in _methods() if label != "Random"])  # which holds nothing
@pytest.mark.skipif(torch.cuda.is_available(), reason="only a pretended GPU counts all bytes")
def test_a_method_holds_what_it_says(label: str) -> None:
    torch.manual_seed(0)
    method, tokenizer = _methods()[label], tiny_tokenizer()
    model = tiny_bert(len(tokenizer), ["no", "yes"], 64, 3, 4, 256)
    long = "Anna walked from the station to the harbour. " * 8
    n_texts = 1 if label in ("Attention-write IB", "Kernel SHAP") else 2  # these take one at a time
    rows = tokenise([Example(str(i), long, None, i) for i in range(n_texts)], tokenizer, N_TOKENS)
    learned(method, Classifier(model, tokenizer))
    with pretended_gpu() as gpu:
        there = Classifier(model, tokenizer, GPU, token_budget=N_TOKENS * n_texts)
        batch, target = there.batch(rows), torch.tensor([0, 1][:n_texts], device=GPU)
        method.attribute(there, batch, target)  # noise that is drawn once
        gc.collect()
        before = gpu.peak = gpu.held
        method.attribute(there, batch, target)
        measured = (gpu.peak - before) / FLOAT / batch.input_ids.numel()
        said = method.held(there, N_TOKENS)
    assert _BELOW * measured < said < _ABOVE * measured


def gpu_with(monkeypatch: pytest.MonkeyPatch, free: float, ours: float = 0, spare: float = 0) -> torch.device:
    """A GPU of which so many bytes are free, `ours` and, of what torch keeps, `spare`."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 140 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: ours)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: ours + spare)
    return torch.device("cuda")


def test_the_budget_is_what_free_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    token = FLOAT * BERT_BASE.backward()
    assert token == 4 * (11 * (6 * 768 + 3072) + 4 * 768 + 2 * 3072), "bytes, by hand"
    device = gpu_with(monkeypatch, 6 * 2**30, ours=2**30, spare=2**30)
    assert planned("auto", device, BERT_BASE) == (int(PLANNED * 7 * 2**30 / token), PLANNED * 7 * 2**30)
    device = gpu_with(monkeypatch, 130 * 2**30, ours=2**30)
    assert planned("auto", device, BERT_BASE) == (65536, PLANNED * 130 * 2**30), "more make nothing faster"
    assert planned("auto", device, BERT_BASE, 11.0) == (
        int(PLANNED * 10 * 2**30 / token),
        PLANNED * 10 * 2**30,
    )
    assert planned(300, device, BERT_BASE, 11.0) == (300, None), "a number is a number"
    with pytest.raises(UserError, match=r"memory_gb=0.5: the model alone holds 1.0 GiB"):
        planned("auto", device, BERT_BASE, 0.5)


@pytest.mark.parametrize(("free", "budget"), [(64 * 2**30, 8192), (2**30, 1331)])
def test_on_a_cpu_memory_is_but_a_ceiling(free: int, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    class Available:
        available = free

    monkeypatch.setattr("psutil.virtual_memory", Available)
    assert planned("auto", torch.device("cpu"), BERT_BASE) == (budget, None)


def test_batches_are_as_large_as_has_room_and_change_no_score(
    classifier: Classifier, instances: list[Instance], monkeypatch: Any
) -> None:
    method = InformationBottleneck(2, beta=0.1, noise="layer_input", n_steps=2, n_copies=2)
    rows, longest = instances * 2, max(map(len, instances))
    targets = [r.example.label for r in rows]

    def attributed() -> dict[int, list[float]]:
        groups.clear()
        found = {}
        for group, said in attribute_grouped(method, classifier, rows, targets):
            groups.append(group)
            found |= {i: said.scores[row, : len(rows[i])].tolist() for row, i in enumerate(group)}
        return found

    groups: list[list[int]] = []
    whole = attributed()
    assert len(groups) == 1
    classifier.memory = FLOAT * method.held(classifier, longest) * 2 * longest  # two of the longest
    parts = attributed()
    assert [len(group) for group in groups[:1]] == [2]
    assert max(len(group) * max(len(rows[i]) for i in group) for group in groups) <= 2 * longest
    for i, scores in whole.items():
        assert parts[i] == pytest.approx(scores, rel=1e-3, abs=1e-5 * max(scores))


def test_the_page_has_the_code_s_figures(repository: Any) -> None:
    assert table() in (repository / "docs" / "speed.md").read_text(encoding="utf-8")
    assert LONG == 512
