"""Text with KNOWN evidence, generated from seeded templates: a ground truth that no removal test can give.

`sentences`: a report of neutral clauses around one or two judging words; only those decide the class.
`pairs`: a premise that gives one object a colour, among neutral clauses, and a hypothesis that repeats
or changes that colour; only the two colour words decide between entailment and contradiction.
Evidence is returned as character spans, so it survives any tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from datasets import Dataset

PEOPLE = ("Anna", "Ben", "Clara", "David", "Emma", "Frank", "Grace", "Henry", "Irene", "Jack")
PLACES = ("station", "harbour", "library", "market", "office", "museum", "school", "bridge")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
THINGS = ("meeting", "concert", "lecture", "dinner", "exhibition", "journey", "rehearsal", "workshop")
OBJECTS = ("bicycle", "coat", "lamp", "boat", "chair", "car", "umbrella", "notebook")
NEUTRAL = (
    "{person} walked from the {place} to the {place2} on {day}",
    "the {thing} near the {place} began on {day}",
    "{person} and {person2} met at the {place}",
    "on {day} {person} wrote a letter about the {thing}",
    "the {place} opens at nine and {person} arrived at ten",
    "{person} read about the {thing} at the {place}",
)
JUDGING = ("the {thing} was {word}", "{person} called the {thing} {word}", "it felt {word} to {person}")
WORDS = (
    ("awful", "terrible", "dreadful", "boring", "horrible", "poor", "disappointing", "tedious"),
    ("wonderful", "brilliant", "delightful", "superb", "excellent", "lovely", "splendid", "fascinating"),
)
COLOURS = ("red", "blue", "green", "yellow", "black", "white")


def sentences(split: str, n: Mapping[str, int], generator_seed: int) -> Dataset:
    """`n[split]` rows of `text`, `label` (0 negative, 1 positive) and `evidence`."""
    return _generated(_sentence, n[split], generator_seed, int(split == "test"))


def pairs(split: str, n: Mapping[str, int], generator_seed: int) -> Dataset:
    """`n[split]` rows of `premise`, `hypothesis`, `label` (0 entailment, 1 contradiction), `evidence`."""
    return _generated(_pair, n[split], generator_seed, 2 + (split == "test"))


@cache
def _generated(
    row: Callable[[np.random.Generator], dict[str, Any]], n: int, seed: int, stream: int
) -> Dataset:
    rng = np.random.default_rng([seed, stream])
    return Dataset.from_list([row(rng) for _ in range(n)])


def _fillers(rng: np.random.Generator, low: int, high: int) -> list[str]:
    count = int(rng.integers(low, high + 1))
    return [_fill(NEUTRAL[i], rng) for i in rng.choice(len(NEUTRAL), count, replace=False)]


def _fill(template: str, rng: np.random.Generator, **fixed: str) -> str:
    people, places = rng.choice(PEOPLE, 2, replace=False), rng.choice(PLACES, 2, replace=False)
    words = {
        "person": str(people[0]),
        "person2": str(people[1]),
        "place": str(places[0]),
        "place2": str(places[1]),
        "day": str(rng.choice(DAYS)),
        "thing": str(rng.choice(THINGS)),
    }
    return template.format(**(words | fixed))


def _sentence(rng: np.random.Generator) -> dict[str, Any]:
    label = int(rng.integers(2))
    words = [str(w) for w in rng.choice(WORDS[label], int(rng.integers(1, 3)), replace=False)]
    judged = [_fill(str(rng.choice(JUDGING)), rng, word=f"<{word}>") for word in words]
    clauses = _fillers(rng, 2, 5) + judged
    text, spans = _unmark(_join([clauses[i] for i in rng.permutation(len(clauses))]))
    return {"text": text, "label": label, "evidence": [spans, []]}


def _pair(rng: np.random.Generator) -> dict[str, Any]:
    label = int(rng.integers(2))
    person, thing = str(rng.choice(PEOPLE)), str(rng.choice(OBJECTS))
    colours = [str(c) for c in rng.choice(COLOURS, 2, replace=False)]
    told = f"{person} has a <{colours[0]}> {thing}"
    clauses = [*_fillers(rng, 1, 3), told]
    premise, first = _unmark(_join([clauses[i] for i in rng.permutation(len(clauses))]))
    hypothesis, second = _unmark(_join([f"the {thing} of {person} is <{colours[label]}>"]))
    return {"premise": premise, "hypothesis": hypothesis, "label": label, "evidence": [first, second]}


def _join(clauses: list[str]) -> str:
    return " ".join(f"{c[0].upper()}{c[1:]}." for c in clauses)


def _unmark(text: str) -> tuple[str, list[list[int]]]:
    """Remove the <marks> around evidence and return where the words between them now stand."""
    plain, spans = "", []
    for part in text.split("<"):
        word, marked, rest = part.partition(">")
        if marked:
            spans.append([len(plain), len(plain) + len(word)])
        plain += word + rest
    return plain, spans
