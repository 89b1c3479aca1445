"""The end of the chain: in text whose evidence is known, IBA and IG find it and random scores do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.integrated_gradients import IntegratedGradients
from baselines.lime_tokens import LimeTokens
from baselines.random_scores import RandomScores
from iba.attribution import InformationBottleneck
from iba.attributor import Attribution, Attributor, FitData
from iba.data import planted
from iba.data.examples import Example
from iba.data.tokens import Instance, TokenBatch, tokenise
from iba.evaluation.degradation import Ranked, curve
from iba.evaluation.ranking import removal_order
from iba.models.classifier import Classifier
from iba.models.tiny import tiny_bert, tiny_tokenizer

LABELS = ["negative", "positive"]


@dataclass(frozen=True)
class Trained:
    """A small classifier that has learnt the planted set, and rows of both splits."""

    classifier: Classifier
    train: list[Instance]
    test: list[Instance]
    batch: TokenBatch
    target: Tensor


def planted_instances(classifier: Classifier, split: str, n: int) -> list[Instance]:
    examples = []
    for i, row in enumerate(planted.sentences(split, {split: n}, 3)):
        first, second = (tuple((a, b) for a, b in part) for part in row["evidence"])
        examples.append(Example(f"{split}:{i}", row["text"], None, row["label"], (first, second)))
    return tokenise(examples, classifier.tokenizer, 128)


def evidence(batch: TokenBatch) -> Tensor:
    marked = torch.zeros_like(batch.attention_mask)
    for row, one in enumerate(batch.instances):
        marked[row, : len(one)] = torch.tensor(one.evidence())
    return marked


@pytest.fixture(scope="module")
def trained() -> Trained:
    """A two-layer BERT after 110 steps on planted sentences.

    It also sees every sentence with the evidence hidden, and learns that either class is then as likely.
    Without that a classifier may call everything negative unless it reads a positive word, and there is
    no evidence to be found in the negative sentences.
    """
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    model = tiny_bert(len(tokenizer), LABELS, num_hidden_layers=2, intermediate_size=32)
    classifier = Classifier(model, tokenizer)
    train, test = (planted_instances(classifier, split, n) for split, n in (("train", 400), ("test", 32)))
    model.requires_grad_(True).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(110):
        batch = classifier.batch([train[(16 * step + i) % len(train)] for i in range(16)])
        labels = torch.tensor([i.example.label for i in batch.instances])
        visible = torch.cat([batch.attention_mask, batch.attention_mask & ~evidence(batch)])
        wanted = F.one_hot(labels, 2).float()
        logits = model(batch.input_ids.repeat(2, 1), visible.long()).logits
        loss = F.cross_entropy(logits, torch.cat([wanted, torch.full_like(wanted, 0.5)]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    classifier = Classifier(model, tokenizer)
    target = torch.tensor([i.example.label for i in test])
    return Trained(classifier, train, test, classifier.batch(test), target)


def attributed(trained: Trained, method: Attributor) -> Attribution:
    method.restore(method.fit(trained.classifier, FitData(trained.train[:100])))
    return method.attribute(trained.classifier, trained.batch, trained.target)


def recall(test: Sequence[Instance], scores: Tensor) -> float:
    """Share of the k evidence tokens of each instance among its k first removed."""
    found = total = 0
    for row, one in enumerate(test):
        known = one.evidence()
        assert known is not None
        k = sum(known)
        found += sum(known[i] for i in removal_order(scores[row].tolist(), one.special, "most")[:k])
        total += k
    return found / total


def test_the_classifier_has_learnt_the_task(trained: Trained) -> None:
    p = trained.classifier.probabilities(trained.batch)
    assert (p.argmax(1) == trained.target).float().mean() > 0.95


def test_iba_finds_planted_evidence(trained: Trained) -> None:
    found = attributed(trained, InformationBottleneck(0.5, beta=1.0))
    assert recall(trained.test, found.scores) > 0.9
    # C7: the prediction passes while nearly all information is held back.
    assert found.per_instance["prob_bottleneck"].mean() > 0.9
    kept, start = (found.per_instance[f"bits_per_token{at}"].mean() for at in ("", "_start"))
    assert kept < 0.1 * start
    per_token = found.per_token["bits"]
    marked = evidence(trained.batch)
    others = trained.batch.removable & ~marked
    assert per_token[marked].mean() > 3 * per_token[others].mean()


def test_ig_and_lime_find_planted_evidence(trained: Trained) -> None:
    assert recall(trained.test, attributed(trained, IntegratedGradients()).scores) > 0.7
    assert recall(trained.test, attributed(trained, LimeTokens()).scores) > 0.7


def test_random_scores_do_not(trained: Trained) -> None:
    assert recall(trained.test, attributed(trained, RandomScores()).scores) < 0.2


def test_perfect_scores_have_recall_one(trained: Trained) -> None:
    assert recall(trained.test, evidence(trained.batch).float()) == 1.0
    assert recall(trained.test, -evidence(trained.batch).float()) == 0.0


def test_removing_what_iba_found_destroys_the_prediction(trained: Trained) -> None:
    drops = []
    for method in (InformationBottleneck(0.5, beta=1.0), RandomScores()):
        scores = attributed(trained, method).scores
        ranked = [
            Ranked(
                i.input_ids, i.token_type_ids, removal_order(s.tolist(), i.special, "most"), i.example.label
            )
            for i, s in zip(trained.test, scores, strict=True)
        ]
        curves = curve(trained.classifier, ranked, [0.0, 1 / 9], "delete")
        drops.append(sum(before - after for (_, before), (_, after) in curves) / len(curves))
    assert drops[0] > 0.3
    assert drops[1] < 0.15


# --- the generators ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [planted.sentences, planted.pairs])
def test_planted_rows_are_seeded_and_splits_differ(make: object) -> None:
    assert callable(make)
    one, again = (make("test", {"test": 20, "train": 20}, 3).to_list() for _ in range(2))
    assert one == again
    assert make("test", {"test": 20}, 4).to_list() != one
    assert make("train", {"train": 20}, 3).to_list() != one
    assert make("test", {"test": 10}, 3).to_list() == one[:10]


def test_planted_classes_are_balanced_and_neutral_words_do_not_tell() -> None:
    rows = planted.sentences("train", {"train": 1000}, 3).to_list()
    assert abs(sum(r["label"] for r in rows) / 1000 - 0.5) < 0.05
    judging = {w for group in planted.WORDS for w in group}
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for row in rows:
        counts[row["label"]].update(set(row["text"].lower().replace(".", "").split()) - judging)
    for word in counts[0] | counts[1]:
        one, other = counts[0][word], counts[1][word]
        # Within five standard deviations of a fair coin.
        assert abs(one - other) < 5 * (one + other) ** 0.5, word


def test_in_a_planted_pair_only_both_colours_together_tell() -> None:
    rows = planted.pairs("train", {"train": 2000}, 3).to_list()
    told: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for row in rows:
        ((a, b),), ((c, d),) = row["evidence"]
        premise, hypothesis = row["premise"][a:b], row["hypothesis"][c:d]
        assert (premise != hypothesis) == bool(row["label"])
        told[row["label"]].update([premise, f"?{hypothesis}"])
    for word in told[0]:
        assert 0.7 < told[0][word] / told[1][word] < 1.4, word
