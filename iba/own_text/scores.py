"""What a method says about one text, and what must be said beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from iba.attribution import last_layer_note
from iba.data.tokens import Instance
from iba.models.classifier import Classifier

#: Scores miss the probability they should add up to by much: by so much of it, or by so much in all.
_MISSED_SHARE, _MISSED = 0.2, 0.1
#: What no eye would see is no fault, however small the probability gained is.
_UNSEEN = 0.01


@dataclass(frozen=True)
class MethodScores:
    """What one method says: `scores` per token, in `unit`; `details` holds β, layer and the like.

    `seconds`: of texts explained together, each has an equal share.
    """

    name: str
    label: str
    unit: str
    scores: tuple[float, ...]
    details: Mapping[str, float]
    seconds: float


def remarks(
    classifier: Classifier, row: Instance, given: bool, methods: Sequence[MethodScores]
) -> Iterator[str]:
    """What must be said beside the scores; `given`: the reference texts are the user's own."""
    if classifier.head.note:
        yield classifier.head.note
    if row.truncated:
        yield f"The text was cut at {len(row)} tokens; what follows was not seen."
    for method in methods:
        if "layer" in method.details and (note := last_layer_note(classifier, int(method.details["layer"]))):
            yield f"{method.label}: {note}"
        if "beta" in method.details:
            yield from _on_bits(method, given)
        if method.unit == "bits" and any(row.special):
            yield _on_special(classifier, row, method)
        if "completeness_gap" in method.details:
            yield _on_gap(method)


def _on_bits(method: MethodScores, given: bool) -> Iterator[str]:
    details = method.details
    origin = "given reference texts" if given else "sentences from templates; give your own by reference=FILE"
    where = f"after layer {details['layer']:.0f}, " if "layer" in details else ""
    n = details.get("n_statistics_instances")
    beyond = "" if n is None else f"; bits beyond {n:.0f} {origin}"
    yield f"{method.label}: {where}β = {details['beta']:.3g}{beyond}."
    start = details.get("bits_per_token_start")
    kept = f"{details['bits_per_token']:.0f}" + ("" if start is None else f" of {start:.0f}")
    yield (
        f"{method.label}: with {kept} bits a token let through, the class still has "
        f"probability {details['prob_bottleneck']:.2f}."
    )


def _on_special(classifier: Classifier, row: Instance, method: MethodScores) -> str:
    """How much of all bits the special tokens hold, which nothing in the text shows."""
    special = [i for i, is_special in enumerate(row.special) if is_special]
    names = dict.fromkeys(classifier.tokenizer.convert_ids_to_tokens([row.input_ids[i] for i in special]))
    share = sum(method.scores[i] for i in special) / max(sum(method.scores), 1e-12)
    return f"{method.label}: {' and '.join(names)} hold {100 * share:.0f} % of the bits."


def _on_gap(method: MethodScores) -> str:
    """How far the scores are from adding up to the probability that they share out; a warning where that is
    over a tenth of probability or a fifth of what was gained."""
    gap, gained = method.details["completeness_gap"], method.details.get("probability_gained")
    if gained is None:  # of several integrals the worst
        said, limit = f"an integral misses the probability that it shares out by {abs(gap):.3f}", _MISSED
    else:
        said = f"the scores add up to {gained + gap:+.3f}, the text gains {gained:+.3f} over its baseline"
        limit = max(_UNSEEN, min(_MISSED, _MISSED_SHARE * abs(gained)))
    if abs(gap) <= limit:
        return f"{method.label}: {said}."
    return f"Warning: {method.label}: {said}; take more steps, method.{method.name}.settings.n_steps=50."
