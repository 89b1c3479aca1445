"""Integrated gradients, LIME and random scores: against Captum, against linear truth, and by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from captum.attr import LayerIntegratedGradients
from lime.lime_text import LimeTextExplainer
from torch import Tensor
from toys import ToyClassifier, instance

from baselines.integrated_gradients import IntegratedGradients
from baselines.integrated_gradients_released import IntegratedGradientsReleased
from baselines.lime_released import LimeReleased, word_scores
from baselines.lime_tokens import LimeTokens, local_weights, samples
from baselines.random_scores import RandomScores
from iba.attributor import Attributor, instance_seed
from iba.data.examples import Example
from iba.data.tokens import Inputs, Instance, collate, tokenise
from iba.models.classifier import Classifier
from iba.models.postnorm import PostNorm

CLS, SEP = 2, 3
TARGET = torch.tensor([2, 0, 1, 0, 2])
METHODS: dict[str, Attributor] = {
    "ig": IntegratedGradients(n_steps=8),
    "ig released": IntegratedGradientsReleased(explained_class="contradiction", normalise=True),
    "lime": LimeTokens(n_samples=60),
    "lime released": LimeReleased("neutral", pad_to=48, n_samples=60),
    "random": RandomScores(),
}


@pytest.mark.parametrize("name", METHODS)
def test_batched_is_one_by_one_in_any_order(
    name: str, classifier: Classifier, instances: list[Instance]
) -> None:
    method = METHODS[name]
    assert isinstance(method, Attributor)
    together = method.attribute(classifier, classifier.batch(instances), TARGET).scores
    backwards = method.attribute(classifier, classifier.batch(instances[::-1]), TARGET.flip(0)).scores
    for row, one in enumerate(instances):
        alone = method.attribute(classifier, classifier.batch([one]), TARGET[row : row + 1]).scores[0]
        n = len(one)
        torch.testing.assert_close(together[row, :n], alone, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(backwards[len(instances) - 1 - row, :n], alone, rtol=1e-3, atol=1e-5)
        assert (together[row, n:] == 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_scores_depend_on_nothing_that_was_explained_before(
    name: str, classifier: Classifier, instances: list[Instance]
) -> None:
    method, batch = METHODS[name], classifier.batch(instances[:1])
    first = method.attribute(classifier, batch, TARGET[:1]).scores
    method.attribute(classifier, classifier.batch(instances[1:]), TARGET[1:])
    assert torch.equal(method.attribute(classifier, batch, TARGET[:1]).scores, first)


# --- integrated gradients ---------------------------------------------------------------------------------


def captum_on_the_plain_model(classifier: Classifier, one: Instance, target: int, n_steps: int) -> Tensor:
    """Captum on the Hugging Face forward with `inputs_embeds`, none of this project's code in between."""
    model = classifier.model
    ids, segments = torch.tensor([one.input_ids]), torch.tensor([one.token_type_ids])
    table = model.get_input_embeddings()
    pad = classifier.tokenizer.pad_token_id
    blank = [i if special else pad for i, special in zip(one.input_ids, one.special, strict=True)]

    def probability(embedded: Tensor) -> Tensor:
        out = model(inputs_embeds=embedded, token_type_ids=segments.expand(len(embedded), -1))
        return out.logits.softmax(-1)[:, target]

    found: Tensor = CaptumIntegratedGradients(probability).attribute(
        table(ids), baselines=table(torch.tensor([blank])), n_steps=n_steps
    )
    return found.sum(-1)[0]


def test_ig_is_captum_on_the_plain_model(classifier: Classifier, instances: list[Instance]) -> None:
    ours = IntegratedGradients(n_steps=10).attribute(classifier, classifier.batch(instances), TARGET).scores
    for row, one in enumerate(instances):
        theirs = captum_on_the_plain_model(classifier, one, int(TARGET[row]), 10)
        torch.testing.assert_close(ours[row, : len(one)], theirs.float(), rtol=1e-3, atol=1e-5)


def test_released_ig_is_captum_on_the_output_of_the_embedding_layer(
    classifier: Classifier, instances: list[Instance]
) -> None:
    """Captum's own layer method on the Hugging Face model; the first [SEP] of a pair is in segment 1."""
    method = IntegratedGradientsReleased(n_steps=10)
    ours = method.attribute(classifier, classifier.batch(instances), TARGET).scores
    plain = IntegratedGradients(n_steps=10).attribute(classifier, classifier.batch(instances), TARGET).scores
    model, pairs = classifier.model, 0
    for row, one in enumerate(instances):
        ids, special = torch.tensor([one.input_ids]), torch.tensor([one.special])
        segments = torch.tensor([one.token_type_ids])
        if segments.any():
            pairs += 1
            segments[0, one.input_ids.index(SEP)] = 1

        def probability(ids: Tensor, segments: Tensor, target: int = int(TARGET[row])) -> Tensor:
            return model(input_ids=ids, token_type_ids=segments).logits.softmax(-1)[:, target]

        theirs = LayerIntegratedGradients(probability, model.base_model.embeddings).attribute(
            ids,
            baselines=torch.where(special, ids, classifier.tokenizer.pad_token_id),
            additional_forward_args=segments,
            n_steps=10,
        )
        torch.testing.assert_close(ours[row, : len(one)], theirs.sum(-1)[0].float(), rtol=1e-3, atol=1e-5)
    assert pairs
    assert pairs < len(instances)
    assert not torch.allclose(ours, plain, rtol=0.1)


def test_ig_is_complete(classifier: Classifier, instances: list[Instance]) -> None:
    batch = classifier.batch(instances)
    blank = torch.where(batch.removable, classifier.tokenizer.pad_token_id, batch.input_ids)
    p = classifier.probabilities(batch)
    p_blank = classifier.logits(Inputs(blank, batch.attention_mask, batch.token_type_ids)).softmax(-1)
    gained = (p - p_blank).gather(1, TARGET[:, None])[:, 0]
    gaps = []
    for n_steps in (4, 200):
        found = IntegratedGradients(n_steps, completeness=True).attribute(classifier, batch, TARGET)
        gap = found.per_instance["completeness_gap"]
        torch.testing.assert_close(found.scores.sum(1) - gained, gap, rtol=1e-3, atol=1e-5)
        gaps.append(gap.abs().max().item())
    assert gained.abs().max() > 0.05, "the test is blind if nothing is gained over the baseline"
    assert gaps[1] < 1e-3
    assert gaps[1] < gaps[0]


def test_special_tokens_lie_on_the_baseline(classifier: Classifier, instances: list[Instance]) -> None:
    batch = classifier.batch(instances)
    scores = IntegratedGradients().attribute(classifier, batch, TARGET).scores
    assert (scores[~batch.removable] == 0).all()


@pytest.mark.parametrize("baseline", ["pad", "mask", "zero", "mean"])
def test_the_path_starts_at_the_baseline_and_its_scores_add_up(
    baseline: Any, classifier: Classifier, instances: list[Instance]
) -> None:
    batch = classifier.batch(instances)
    words = classifier.model.get_input_embeddings().weight
    vectors = {
        "pad": words[classifier.tokenizer.pad_token_id],
        "mask": words[classifier.tokenizer.mask_token_id],
        "zero": torch.zeros_like(words[0]),
        "mean": words[: len(classifier.tokenizer)].mean(0),
    }
    start = torch.where(batch.removable[..., None], vectors[baseline], words[batch.input_ids])
    with torch.no_grad():
        from_start = classifier.logits_of_words(start, batch.inputs).softmax(-1)[range(5), TARGET]
        whole = classifier.probabilities(batch)[range(5), TARGET]
    scores = IntegratedGradients(n_steps=100, baseline=baseline).attribute(classifier, batch, TARGET).scores
    torch.testing.assert_close(scores.sum(1), whole - from_start, rtol=0, atol=2e-3)


def test_explained_class_is_explained_whatever_the_target(
    classifier: Classifier, instances: list[Instance]
) -> None:
    batch = classifier.batch(instances)
    fixed = IntegratedGradients(explained_class="neutral")
    as_target = IntegratedGradients().attribute(classifier, batch, torch.ones_like(TARGET)).scores
    for target in (TARGET, torch.zeros_like(TARGET)):
        assert torch.equal(fixed.attribute(classifier, batch, target).scores, as_target)
    assert not torch.allclose(IntegratedGradients().attribute(classifier, batch, TARGET).scores, as_target)


def test_normalising_divides_by_the_instances_own_norm(
    classifier: Classifier, instances: list[Instance]
) -> None:
    batch = classifier.batch(instances)
    raw = IntegratedGradients().attribute(classifier, batch, TARGET).scores
    unit = IntegratedGradients(normalise=True).attribute(classifier, batch, TARGET).scores
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(5))
    torch.testing.assert_close(unit * raw.norm(dim=1, keepdim=True), raw)


@pytest.mark.parametrize(
    ("internal", "rows_of_budget", "passes"), [(1, 5, 10), (14, 0, 5), (1, 14, 5), (1000, 0, 1), (7, 50, 1)]
)
def test_internal_batches_change_nothing(
    classifier: Classifier,
    instances: list[Instance],
    internal: int,
    rows_of_budget: int,
    passes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten steps of five texts are 50 rows: as many in a pass as either limit allows, whole steps."""
    batch = classifier.batch(instances)
    expected = IntegratedGradients().attribute(classifier, batch, TARGET).scores
    rows, logits_from = [], PostNorm.logits_from

    def watched(self: PostNorm, hidden: Tensor, *others: Any) -> Tensor:
        rows.append(len(hidden))
        return logits_from(self, hidden, *others)

    monkeypatch.setattr(PostNorm, "logits_from", watched)
    classifier.token_budget = rows_of_budget * batch.input_ids.shape[1]
    found = IntegratedGradients(internal_batch_size=internal).attribute(classifier, batch, TARGET).scores
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    assert (len(rows), sum(rows)) == (passes, 50)


def test_on_a_gpu_a_pass_shrinks_with_the_batch(classifier: Classifier, instances: list[Instance]) -> None:
    """So that halving a batch that does not fit in memory halves what it needs."""
    method = IntegratedGradients(n_steps=10)
    classifier.token_budget = 1
    assert method.rows_of_a_pass(classifier, classifier.batch(instances[:4])) == 256, "on a CPU it need not"
    classifier.device = torch.device("cuda")
    rows = [method.rows_of_a_pass(classifier, collate(instances[:n], 0, "cpu")) for n in (4, 2, 1)]
    assert rows == [8, 4, 2]
    assert IntegratedGradients(n_steps=3).rows_of_a_pass(classifier, collate(instances[:4], 0, "cpu")) == 4


# --- LIME -------------------------------------------------------------------------------------------------

#: Probability of class 1 as a sum over the tokens present; "20" occurs twice, with a weight each time.
WEIGHTS = {20: 0.2, 21: -0.1, 22: 0.0, 23: 0.05, 24: -0.02, 25: 0.08, 26: 0.01}


def linear(ids: tuple[int, ...], segments: tuple[int, ...]) -> float:
    return 0.4 + sum(WEIGHTS.get(i, 0.0) for i in ids)


def linear_instance(name: str = "test:0") -> Instance:
    ids = [CLS, 22, 20, 21, SEP, 24, 23, 25, 26, SEP]
    return instance(ids, [i in (CLS, SEP) for i in ids], [0] * 5 + [1] * 5, name)


def explained(method: LimeTokens, one: Instance, target: int = 1) -> list[float]:
    toy = ToyClassifier(linear)
    scores: list[float] = method.attribute(toy, toy.batch([one]), torch.tensor([target])).scores[0].tolist()
    return scores


def test_lime_recovers_a_linear_model() -> None:
    one = linear_instance()
    scores = explained(LimeTokens(n_samples=1000), one)
    truth = [WEIGHTS.get(i, 0.0) for i in one.input_ids]
    # lime's ridge penalty (1.0) and its kernel weights shrink every weight a little.
    assert scores == pytest.approx(truth, abs=0.01)
    against = explained(LimeTokens(n_samples=1000), one, target=0)
    assert against == pytest.approx([-w for w in truth], abs=0.01)


@pytest.mark.parametrize(("n", "width"), [(1, 25.0), (2, 25.0), (9, 25.0), (60, 25.0), (9, 10.0)])
def test_samples_and_weights_are_those_of_limes_own_explainer(n: int, width: float) -> None:
    asked: list[np.ndarray] = []

    def predict(texts: list[str]) -> np.ndarray:
        present = np.zeros((len(texts), n), dtype=bool)
        for row, text in zip(present, texts, strict=True):
            row[list(map(int, text.split()))] = True
        asked.append(present)
        p = 1 / (1 + np.exp(-(present @ np.linspace(-2, 1, n) + 0.5 * present[:, 0] * present[:, -1])))
        return np.stack([1 - p, p], 1).astype(np.float32)

    theirs = LimeTextExplainer(
        width, split_expression=r"\s+", bow=False, mask_string="", feature_selection="none", random_state=7
    ).explain_instance(" ".join(map(str, range(n))), predict, labels=(1,), num_features=n, num_samples=80)
    presence = samples(n, 80, 7)
    assert np.array_equal(presence, asked[0])
    text = " ".join(map(str, range(n)))
    answers = predict([" ".join(word for word in text.split() if row[int(word)]) for row in presence])
    expected = [dict(theirs.as_map()[1])[i] for i in range(n)]
    found = local_weights(presence, answers[:, 1], width)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_lime_asks_about_many_texts_at_a_time_within_bounds() -> None:
    many = [linear_instance(f"test:{i}") for i in range(6)]
    target = torch.tensor([1, 0, 1, 1, 0, 1])
    alone = [explained(LimeTokens(n_samples=10), one, int(of)) for one, of in zip(many, target, strict=True)]
    for budget, together in ((1000, True), (20, False)):
        toy = ToyClassifier(linear, budget)
        found = LimeTokens(n_samples=10).attribute(toy, toy.batch(many), target).scores
        np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-6)
        assert (max(toy.passes) > 10) == together, "a pass holds more than one text's ten samples"
        assert sum(toy.passes) == 60


def test_lime_ranks_a_linear_model_with_the_papers_hundred_samples() -> None:
    one = linear_instance()
    scores = explained(LimeTokens(n_samples=100), one)
    by_lime = sorted(range(len(one)), key=lambda i: -abs(scores[i]))
    assert [one.input_ids[i] for i in by_lime[:3]] == [20, 21, 25]


def test_lime_perturbs_ids_and_never_separators_or_segments() -> None:
    toy, one = ToyClassifier(linear), linear_instance()
    LimeTokens(n_samples=50).attribute(toy, toy.batch([one]), torch.tensor([1]))
    assert len(toy.seen) == 50
    assert (one.input_ids, one.token_type_ids) in toy.seen, "the whole text is among the samples"
    own = dict(zip(one.input_ids[:4], one.token_type_ids[:4], strict=True))
    own |= dict(zip(one.input_ids[5:9], one.token_type_ids[5:9], strict=True))
    for ids, segments in toy.seen:
        assert [i for i in ids if i in (CLS, SEP)] == [CLS, SEP, SEP]
        first = ids.index(SEP)
        assert all(segment == 0 for segment in segments[: first + 1])
        assert all(segment == 1 for segment in segments[first + 1 :])
        assert all(own[i] == s for i, s in zip(ids, segments, strict=True) if i >= 20)


def test_lime_gives_a_repeated_token_a_weight_at_each_place() -> None:
    # The same token stands in both texts of a pair; only the one in the second counts.
    def answer(ids: tuple[int, ...], segments: tuple[int, ...]) -> float:
        return 0.2 + 0.6 * ((20, 1) in zip(ids, segments, strict=True))

    ids = [CLS, 20, 21, SEP, 20, SEP]
    toy, one = ToyClassifier(answer), instance(ids, [i in (CLS, SEP) for i in ids], [0, 0, 0, 0, 1, 1])
    scores = LimeTokens(n_samples=1000).attribute(toy, toy.batch([one]), torch.tensor([1])).scores[0]
    assert scores.tolist() == pytest.approx([0, 0, 0, 0, 0.6, 0], abs=0.03)


def test_lime_is_seeded_by_the_instance() -> None:
    one, renamed = linear_instance(), linear_instance("test:1")
    assert explained(LimeTokens(), one) == explained(LimeTokens(), one)
    assert explained(LimeTokens(), one) != explained(LimeTokens(), renamed)
    assert explained(LimeTokens(), one) != explained(LimeTokens(seed=1), one)


@pytest.mark.parametrize("removable", [0, 1])
def test_lime_bears_texts_of_hardly_any_token(removable: int) -> None:
    one = instance([CLS, *[20] * removable, SEP], [True, *[False] * removable, True])
    scores = explained(LimeTokens(n_samples=50), one)
    assert scores[0] == scores[-1] == 0.0
    # A text whose only token is gone lies so far away for lime's kernel that the weight is small, but not 0.
    assert all(0 < s <= 0.2 for s in scores[1:-1])


# --- LIME as released -------------------------------------------------------------------------------------


def test_released_word_scores_by_hand() -> None:
    words = [("good", 0.3), ("unhappy", 0.2), ("film", -0.1), ("splendidly", 0.05)]
    pieces = ["[CLS]", "good", "film", "un", "##happy", ",", "splend", "##id", "##ly", "[SEP]"]
    found = word_scores(pieces, words)
    # un+##happy is found from both sides; a comma, a word in three pieces and special tokens get the maximum.
    assert found == [0.3, 0.3, -0.1, 0.2, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3]


def test_released_pieces_are_joined_only_if_the_first_is_no_word() -> None:
    words = [("good", 0.3), ("playful", 0.2), ("play", -0.1)]
    assert word_scores(["play", "##ful"], words) == [-0.1, 0.3], "the rest of a word already found is not"
    assert word_scores(["play", "##ful"], words[:2]) == [0.2, 0.2]


def test_released_words_of_one_spelling_share_the_last_score_but_not_the_maximum() -> None:
    words = [("Good", 0.3), ("film", -0.2), ("good", 0.1)]
    assert word_scores(["good", "film", "!"], words) == [0.1, -0.2, 0.3]


def test_released_word_scores_without_words() -> None:
    assert word_scores(["[CLS]", ",", "[SEP]"], []) == [0.0, 0.0, 0.0]


def recorded(text: str, pair: str | None, method: LimeReleased) -> tuple[ToyClassifier, Instance, Tensor]:
    toy = ToyClassifier(lambda ids, segments: 0.5, token_budget=10_000)
    known = {word: toy.tokenizer.convert_tokens_to_ids(word) for word in ("wonderful", "awful")}
    toy.answer = lambda ids, segments: 0.5 + 0.3 * (known["wonderful"] in ids) - 0.2 * (known["awful"] in ids)
    (one,) = tokenise([Example("test:0", text, pair, 0)], toy.tokenizer, 64)
    found = method.attribute(toy, toy.batch([one]), torch.tensor([0]))
    return toy, one, found.scores[0]


def test_released_lime_explains_its_class_whatever_the_target() -> None:
    toy, one, scores = recorded(
        "The lecture was wonderful and awful", None, LimeReleased("one", pad_to=32, n_samples=2000)
    )
    pieces = toy.tokenizer.convert_ids_to_tokens(list(one.input_ids))
    by_piece = dict(zip(pieces, scores.tolist(), strict=True))
    assert by_piece["wonderful"] == pytest.approx(0.3, abs=0.02)
    assert by_piece["awful"] == pytest.approx(-0.2, abs=0.02)
    assert by_piece["lecture"] == pytest.approx(0.0, abs=0.02)
    assert by_piece["[CLS]"] == by_piece["[SEP]"] == by_piece["wonderful"], "special tokens get the maximum"


def test_released_lime_attends_to_padding_and_loses_the_pair() -> None:
    method = LimeReleased("one", pad_to=32, n_samples=100, n_samples_pair=75)
    toy, one, _ = recorded("The lecture was wonderful", "It felt awful", method)
    assert sum(one.token_type_ids) > 0
    assert len(toy.seen) == 75
    star = toy.tokenizer.convert_tokens_to_ids("*")
    for ids, segments in toy.seen:
        assert len(ids) == 32, "padding is read"
        assert set(segments) == {0}
        assert ids.count(SEP) == 1
        assert ids.count(star) == 6
    single, *_ = recorded("The lecture was wonderful", None, method)
    assert len(single.seen) == 100


def test_released_lime_reads_all_of_a_text_longer_than_its_padding() -> None:
    method = LimeReleased("one", pad_to=4, n_samples=20)
    toy, one, _ = recorded("The lecture was wonderful and awful", None, method)
    assert one.input_ids in {ids for ids, _ in toy.seen}
    assert {len(ids) for ids, _ in toy.seen} == {len(one)}, "the others are padded to the longest"


def test_released_lime_weighs_no_more_words_than_the_text_has_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    weighed: list[list[tuple[str, float]]] = []

    def spy(pieces: list[str], weights: list[tuple[str, float]]) -> list[float]:
        weighed.append(weights)
        return word_scores(pieces, weights)

    monkeypatch.setattr("baselines.lime_released.word_scores", spy)
    text = "wonderful and awful " + " ".join(f"w{i}" for i in range(100))  # cut at 64 tokens
    _, one, _ = recorded(text, None, LimeReleased("one", pad_to=32, n_samples=300))
    (weights,) = weighed
    assert len(weights) == len(one) == 64
    assert {"wonderful", "awful"} <= {word for word, _ in weights}, "those of the largest weights"


def test_released_lime_bears_a_text_without_words() -> None:
    _, one, scores = recorded("!!", None, LimeReleased("one", pad_to=8, n_samples=20))
    assert scores.tolist() == [0.0] * len(one)


# --- random -----------------------------------------------------------------------------------------------


def test_random_scores_are_uniform_and_of_the_instance_alone(
    classifier: Classifier, instances: list[Instance]
) -> None:
    batch = classifier.batch(instances)
    found = RandomScores(seed=3).attribute(classifier, batch, TARGET).scores
    assert torch.equal(RandomScores(seed=3).attribute(classifier, batch, 0 * TARGET).scores, found)
    assert not torch.equal(RandomScores(seed=4).attribute(classifier, batch, TARGET).scores, found)
    renamed = replace(instances[0], example=replace(instances[0].example, id="other"))
    other = RandomScores(seed=3).attribute(classifier, classifier.batch([renamed]), TARGET[:1]).scores
    assert not torch.equal(other[0], found[0, : len(renamed)])
    values = found[batch.attention_mask]
    assert 0 <= values.min() < values.max() < 1


def test_instance_seeds_differ_and_fit_numpy() -> None:
    seeds = {instance_seed(s, f"test:{i}") for s in range(3) for i in range(500)}
    assert len(seeds) == 1500
    assert all(0 <= s < 2**32 for s in seeds)
    assert math.isfinite(float(np.random.default_rng(max(seeds)).random()))
