"""The degradation test of a lookup model, every number worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from toys import ToyClassifier

from iba.evaluation.degradation import Ranked, curve, n_removed
from iba.evaluation.ranking import Order, removal_order
from iba.evaluation.variants import Variant, class_probabilities
from iba.pipeline.degrade import removed_count

CLS, SEP, MASK = 2, 3, 4
TENTHS = [float(f) for f in np.linspace(0, 1, 10)]

#: [CLS] 10 11 12 [SEP]: what is left → the probability of class 1.
SHORT = {
    (CLS, 10, 11, 12, SEP): 0.9,
    (CLS, 10, 12, SEP): 0.6,
    (CLS, 10, SEP): 0.3,
    (CLS, SEP): 0.2,
    # least important first
    (CLS, 11, 12, SEP): 0.85,
    (CLS, 11, SEP): 0.8,
    # [MASK] in their place
    (CLS, 10, MASK, 12, SEP): 0.5,
    (CLS, 10, MASK, MASK, SEP): 0.4,
    (CLS, MASK, MASK, MASK, SEP): 0.1,
}


def lookup(table: dict[tuple[int, ...], float]) -> ToyClassifier:
    return ToyClassifier(lambda ids, segments: table[ids])


def ranked(scores: list[float], ids: list[int], order: Order = "most", target: int = 1) -> Ranked:
    special = [i in (CLS, SEP) for i in ids]
    return Ranked(ids, [0] * len(ids), removal_order(scores, special, order), target)


IDS = [CLS, 10, 11, 12, SEP]
SCORES = [9.0, 1.0, 3.0, 2.0, 9.0]


def test_short_text_every_column_is_its_own_fraction_and_counts_repeat() -> None:
    # 5 tokens at k/9: 0, 0.56, 1.1, 1.7, 2.2, 2.8, 3.3, 3.9, 4.4, 5 → 0 1 1 2 2 3 3 4 4 5, at most 3.
    classifier = lookup(SHORT)
    (points,) = curve(classifier, [ranked(SCORES, IDS)], TENTHS, "delete")
    assert [k for k, _ in points] == [0, 1, 1, 2, 2, 3, 3, 3, 3, 3]
    expected = [0.9, 0.6, 0.6, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2]
    assert [p for _, p in points] == pytest.approx(expected)
    assert len(classifier.seen) == 4, "a count that repeats is asked once"


def test_least_important_first() -> None:
    (points,) = curve(lookup(SHORT), [ranked(SCORES, IDS, "least")], TENTHS, "delete")
    assert [p for _, p in points] == pytest.approx([0.9, 0.85, 0.85, 0.8, 0.8, 0.2, 0.2, 0.2, 0.2, 0.2])


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.5])
def test_what_sufficiency_keeps_is_what_comprehensiveness_removes(share: float) -> None:
    """ERASER asks both about the same tokens; special tokens aside, ties included."""
    ids = [CLS, *range(10, 29), SEP]
    scores = [0.0, *[float(i % 3) for i in range(19)], 0.0]
    most, least = (ranked(scores, ids, order) for order in ("most", "least"))
    counts = {order: removed_count("eraser", order, share, 21, 19) for order in ("most", "least")}
    removed = set(most.removal[: counts["most"]])
    kept = set(least.removal) - set(least.removal[: counts["least"]])
    assert kept == removed
    assert len(kept) == round(share * 21)


def test_masking_keeps_every_position() -> None:
    (points,) = curve(lookup(SHORT), [ranked(SCORES, IDS)], TENTHS, "mask")
    assert [p for _, p in points] == pytest.approx([0.9, 0.5, 0.5, 0.4, 0.4, 0.1, 0.1, 0.1, 0.1, 0.1])


def test_attention_hides_tokens_and_leaves_the_ids() -> None:
    # The lookup model sees what may be attended to: the same as after deletion.
    (points,) = curve(lookup(SHORT), [ranked(SCORES, IDS)], TENTHS, "attention")
    assert [p for _, p in points] == pytest.approx([0.9, 0.6, 0.6, 0.3, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2])


def test_the_targets_probability_is_read() -> None:
    instances = [ranked(SCORES, IDS, target=0), ranked(SCORES, IDS, target=1)]
    zero, one = curve(lookup(SHORT), instances, [0.0, 1.0], "delete")
    assert [p for _, p in zero] == pytest.approx([0.1, 0.8])
    assert [p for _, p in one] == pytest.approx([0.9, 0.2])


def test_pairs_segments_follow_their_tokens_and_separators_stay() -> None:
    ids = [CLS, 10, 11, SEP, 12, 13, SEP]
    segments = [0, 0, 0, 0, 1, 1, 1]
    special = [True, False, False, True, False, False, True]
    removal = removal_order([9.0, 4.0, 1.0, 9.0, 2.0, 3.0, 9.0], special, "most")
    assert removal == [1, 5, 4, 2]
    table = {
        ((CLS, 10, 11, SEP, 12, 13, SEP), (0, 0, 0, 0, 1, 1, 1)): 0.9,
        ((CLS, 11, SEP, 12, 13, SEP), (0, 0, 0, 1, 1, 1)): 0.7,
        ((CLS, 11, SEP, 12, SEP), (0, 0, 0, 1, 1)): 0.5,
        ((CLS, 11, SEP, SEP), (0, 0, 0, 1)): 0.4,
        ((CLS, SEP, SEP), (0, 0, 1)): 0.3,
    }
    classifier = ToyClassifier(lambda *asked: table[asked])
    (points,) = curve(classifier, [Ranked(ids, segments, removal, 1)], TENTHS, "delete")
    # 7 tokens at k/9: 0, 0.78, 1.6, 2.3, 3.1, 3.9, 4.7, … → 0 1 2 2 3 4 4 4 4 4
    assert [k for k, _ in points] == [0, 1, 2, 2, 3, 4, 4, 4, 4, 4]
    assert [p for _, p in points] == pytest.approx([0.9, 0.7, 0.5, 0.5, 0.4, 0.3, 0.3, 0.3, 0.3, 0.3])


def test_ties_are_broken_by_position_and_least_first_is_the_same_order_from_its_end() -> None:
    special = [True, False, False, False, False, True]
    assert removal_order([0.0] * 6, special, "most") == [1, 2, 3, 4]
    scores = [7.0, 1.0, 2.0, 1.0, 2.0, 7.0]
    assert removal_order(scores, special, "most") == [2, 4, 1, 3]
    assert removal_order(scores, special, "least") == [3, 1, 4, 2]


def test_negative_scores_are_the_least_important() -> None:
    assert removal_order([-0.5, 0.1, -2.0], [False] * 3, "most") == [1, 0, 2]


@pytest.mark.parametrize(
    ("fraction", "n_tokens", "n_removable", "expected"),
    [
        (0.0, 100, 98, 0),
        (1 / 9, 100, 98, 11),
        (1 / 9, 512, 510, 57),
        (1 / 9, 4, 2, 0),  # 0.44
        (1 / 9, 5, 3, 1),  # 0.56
        (1 / 9, 14, 12, 2),  # 1.56
        (8 / 9, 10, 8, 8),  # 8.89 → 9, but two tokens are special
        (1.0, 10, 8, 8),
        (1.0, 2, 0, 0),
    ],
)
def test_counts_are_rounded_shares_of_all_tokens(
    fraction: float, n_tokens: int, n_removable: int, expected: int
) -> None:
    assert n_removed(fraction, n_tokens, n_removable) == expected


@given(st.integers(2, 600), st.integers(1, 3))
def test_counts_grow_with_the_fraction_and_end_with_special_tokens_alone(n: int, n_special: int) -> None:
    counts = [n_removed(f, n, max(n - n_special, 0)) for f in TENTHS]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, max(n - n_special, 0))


def test_many_instances_keep_their_own_answers_in_any_grouping() -> None:
    rng = np.random.default_rng(0)
    texts = [[CLS, *rng.integers(10, 300, n).tolist(), SEP] for n in (1, 7, 30, 3, 12, 2)]
    instances = [ranked(rng.random(len(t)).tolist(), t) for t in texts]

    def answer(ids: tuple[int, ...], segments: tuple[int, ...]) -> float:
        return 0.1 + 0.8 * (hash(ids) % 1000) / 1000

    roomy, tight = ToyClassifier(answer, token_budget=10_000), ToyClassifier(answer, token_budget=40)
    together = curve(roomy, instances, TENTHS, "delete")
    assert curve(tight, instances, TENTHS, "delete") == together
    assert [curve(roomy, [one], TENTHS, "delete")[0] for one in instances] == together
    assert len(tight.passes) > len([p for p in roomy.passes if p > 1])


def test_a_mask_is_passed_only_where_something_is_hidden_or_padded() -> None:
    toy, masks = ToyClassifier(lambda ids, segments: len(ids) / 100), []
    logits = toy.logits

    def watched(inputs: Any) -> Any:
        masks.append(inputs.attention_mask is not None)
        return logits(inputs)

    toy.logits = watched  # type: ignore[method-assign]
    whole = Variant.whole([10] * 6, [0] * 6)
    hidden = Variant(whole.input_ids, whole.token_type_ids, np.arange(6) < 4)
    for asked, seen in (([whole, whole], [6, 6]), ([whole, hidden], [6, 4])):
        np.testing.assert_allclose(class_probabilities(toy, asked)[:, 1], np.array(seen) / 100, atol=1e-6)
    class_probabilities(toy, [whole, Variant.whole([10] * 5, [0] * 5)])
    assert masks == [False, True, True]


def test_probabilities_are_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched group by group, each would be waited for before the next one is made."""
    fetched, cpu = [], torch.Tensor.cpu

    def watched(tensor: torch.Tensor) -> torch.Tensor:
        fetched.append(len(tensor))
        return cpu(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", watched)
    toy = ToyClassifier(lambda ids, segments: len(ids) / 100, token_budget=20)
    class_probabilities(toy, [Variant.whole([10] * n, [0] * n) for n in (3, 17, 1, 9, 9, 2)])
    assert len(toy.passes) > 1
    assert fetched == [6]


def test_no_variants_have_no_probabilities() -> None:
    assert class_probabilities(ToyClassifier(lambda ids, segments: 0.5), []).shape == (0, 2)


def test_probabilities_come_in_the_order_asked() -> None:
    classifier = ToyClassifier(lambda ids, segments: len(ids) / 100, token_budget=20)
    lengths = [3, 17, 1, 9, 9, 2]
    asked = [Variant.whole([10] * n, [0] * n) for n in lengths]
    found = class_probabilities(classifier, asked)
    np.testing.assert_allclose(found[:, 1], [n / 100 for n in lengths], atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
