"""Figure 3: one text's tokens before and after fine-tuning, and layers × tokens of single texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from iba.explain.highlight import units
from iba.explain.paragraph import LINE, SIZE, literal, paragraph
from iba.report import token_maps
from iba.report.drawing import PAGE_WIDTH, look, save
from iba.report.examples import display_strength
from iba.report.figure2 import power
from iba.report.rows import Stored
from iba.report.sheet import Block, sheet
from iba.report.study_examples import StudyExample, heading, load, texts
from iba.report.study_rows import value_of
from iba.report.token_maps import TokenMap, token_map

CLASSIFIERS, LAYERS = "token_classifiers", "token_layers"
#: The classifiers of the left part, in the order in which they are drawn.
WEIGHTS = {
    "random": "nothing trained",
    "pretrained": "before fine-tuning (head not trained)",
    "fine-tuned": "after fine-tuning",
}
# Inches; letters to a line of `_TEXT` points.
_LEFT, _TITLE, _LABEL, _TEXT, _LETTERS = 0.12, 0.4, 0.17, 7.5, 105


def blocks(stored: Stored, protocols: Sequence[str]) -> Iterator[Block]:
    """The parts of the figure under some protocols, those of one protocol together."""
    before_after, layers = load(stored, CLASSIFIERS), load(stored, LAYERS)
    for protocol in protocols:
        for example in before_after:
            if example.protocol == protocol:
                yield Block(_text_height(example), partial(_draw_texts, stored, example))
        for example in layers:
            if example.protocol == protocol:
                found = token_map(example.rows)
                yield Block(token_maps.height(found), partial(_draw_map, stored, example, found))


def _draw_map(stored: Stored, example: StudyExample, found: TokenMap, figure: Figure, top: float) -> None:
    title = f"{literal(heading(stored, example))}, {_beta(example)}"
    token_maps.draw(figure, found, top, title, "after layer", str)


def _beta(example: StudyExample) -> str:
    betas = sorted(set(example.rows["beta"])) if "beta" in example.rows else []
    return f"β = {', '.join(power(beta) for beta in betas)}" if betas else "IBA"


def _text_height(example: StudyExample) -> float:
    letters = sum(len(token) + 1 for token in example.rows["tokens"].iloc[0])
    return _TITLE + len(example.rows) * (_LABEL + _line() * (letters // _LETTERS + 1) + 0.06) + 0.06


def _line() -> float:
    return LINE * _TEXT / SIZE


def _draw_texts(stored: Stored, example: StudyExample, figure: Figure, top: float) -> None:
    """The text once per classifier, each with the strengths of its own smallest to its own largest score."""
    across, up = figure.get_size_inches()
    where = f"after layer {example.layer}, " if example.layer else ""
    title = f"{literal(heading(stored, example))}, bottleneck {where}{_beta(example)}"
    figure.text(_LEFT / across, (top - 0.12) / up, title, size=7.5)
    scale = "orange: from the smallest to the largest score of the text; special tokens in grey"
    figure.text(_LEFT / across, (top - 0.27) / up, scale, size=6.5, color="0.35")
    base = top - _TITLE
    by_weights = {value_of(row.point): row for row in example.rows.itertuples()}
    for weights, label in WEIGHTS.items():
        row = by_weights.get(weights)
        if row is None:
            continue
        base -= 0.1
        if hasattr(row, "prob_bottleneck"):
            label += f": p({example.target}) with bottleneck {row.prob_bottleneck:.2f}"
        if (bits := getattr(row, "bits_per_token", None)) is not None:
            label += f", {bits:,.4g} bits per token"
        figure.text(_LEFT / across, base / up, literal(label), size=6.5, color="0.35")
        tokens, special = list(row.tokens), np.asarray(row.special, np.bool_)
        scores = np.asarray(row.scores, float)
        shown = units(tokens, special.tolist())
        start = (_LEFT, base - _LABEL)
        strengths = display_strength(scores, special).tolist()
        base = paragraph(figure, shown, strengths, start, PAGE_WIDTH - _LEFT, _TEXT) - 0.1


def caption(stored: Stored) -> str:
    """What the figure shows, and of how many texts."""
    classifiers, layers = load(stored, CLASSIFIERS), load(stored, LAYERS)
    parts = []
    if classifiers:
        parts.append(
            f"{texts(classifiers)} before and after fine-tuning (orange: from the smallest to the largest "
            "score of each)"
        )
    if layers:
        parts.append(
            f"information per token with the bottleneck after every layer, {texts(layers)} (one colour scale "
            "per map; special tokens dimmed)"
        )
    return f"Figure 3. IBA on single texts: {'; '.join(parts)}."


def write(stored: Stored) -> list[Path]:
    """Store `figures/figure3` and, where there are several protocols, one file for each."""
    paths, folder = [], stored.folder / "figures"
    kept = {example.protocol for study in (CLASSIFIERS, LAYERS) for example in load(stored, study)}
    protocols = [protocol for protocol in stored.names.protocols if protocol in kept]
    files = {"figure3": protocols} if protocols else {}
    if len(protocols) > 1:
        files |= {f"figure3_{protocol}": [protocol] for protocol in protocols}
    with look():
        for name, chosen in files.items():
            paths += save(sheet(list(blocks(stored, chosen))), folder / name, stored.made_with)
    return paths
