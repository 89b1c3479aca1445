"""Figures 3 and 5: single texts before and after fine-tuning, and layers × tokens; β × tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from iba.display.highlight import stretched, units
from iba.display.paragraph import LINE, SIZE, literal, paragraph
from iba.report.drawing import PAGE_WIDTH, Picture
from iba.report.figure2 import power
from iba.report.stored import Stored
from iba.report.token_maps import Block, ScoredText, heading, how_many, load, sheet, token_map

CLASSIFIERS, LAYERS, BETAS = "token_classifiers", "token_layers", "token_betas"
#: The classifiers of Figure 3's first part, in the order in which they are drawn.
WEIGHTS = {
    "random": "nothing trained",
    "pretrained": "before fine-tuning (head not trained)",
    "fine-tuned": "after fine-tuning",
}
# Inches; letters to a line of `_TEXT` points.
_LEFT, _TITLE, _LABEL, _TEXT, _LETTERS = 0.12, 0.4, 0.17, 7.5, 105
_LINE = LINE * _TEXT / SIZE


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure3` and, where there are several protocols, one file for each; `figure5`."""
    classifiers, layers, betas = (load(stored, study) for study in (CLASSIFIERS, LAYERS, BETAS))
    found = {
        protocol: [
            *(_before_after(stored, text) for text in classifiers if text.protocol == protocol),
            *(_layer_map(stored, text) for text in layers if text.protocol == protocol),
        ]
        for protocol in stored.names.protocols
    }
    found = {protocol: blocks for protocol, blocks in found.items() if blocks}
    if found:
        every = [block for blocks in found.values() for block in blocks]
        yield Picture("figure3", sheet(every), _caption(classifiers, layers))
        for protocol, blocks in found.items() if len(found) > 1 else ():
            yield Picture(f"figure3_{protocol}", sheet(blocks))
    if betas:
        yield Picture(
            "figure5",
            sheet([_beta_map(stored, text) for text in betas]),
            f"Figure 5. Information per token of {how_many(betas)} under several β, one map per protocol "
            "(each with its own colour scale; special tokens dimmed).",
        )


def _layer_map(stored: Stored, text: ScoredText) -> Block:
    title = f"{literal(heading(stored, text))}, {_beta(text)}"
    return token_map(text.rows, title, "after layer", list(map(str, text.rows.index)))


def _beta_map(stored: Stored, text: ScoredText) -> Block:
    where = f", bottleneck after layer {text.layer}" if text.layer else ""
    names = [power(float(beta)) for beta in text.rows.index]
    return token_map(text.rows, literal(heading(stored, text)) + where, "β", names)


def _beta(text: ScoredText) -> str:
    betas = sorted(set(text.rows["beta"])) if "beta" in text.rows else []
    return f"β = {', '.join(power(beta) for beta in betas)}" if betas else "IBA"


@dataclass(frozen=True)
class BeforeAfter(Block):
    """One text once per classifier, each with its scores from the smallest to the largest."""

    title: str
    target: str
    rows: pd.DataFrame

    @property
    def height(self) -> float:
        """By the letters of the text."""
        letters = sum(len(token) + 1 for token in self.rows["tokens"].iloc[0])
        each = _LABEL + _LINE * (letters // _LETTERS + 1) + 0.06
        return _TITLE + len(self.rows) * each + 0.06

    def draw(self, figure: Figure, top: float) -> None:
        """Title, scale, and a paragraph for each classifier."""
        _write(figure, top - 0.12, self.title, size=7.5)
        scale = "orange: from the smallest to the largest score of the text; special tokens in grey"
        _write(figure, top - 0.27, scale, color="0.35")
        base = top - _TITLE
        for weights in (w for w in WEIGHTS if w in self.rows.index):
            row = self.rows.loc[weights]
            _write(figure, base - 0.1, literal(self._label(weights, row)), color="0.35")
            special = np.asarray(row["special"], np.bool_)
            shown = units(list(row["tokens"]), special)
            strengths = stretched(np.asarray(row["scores"], float), special)
            start = (_LEFT, base - 0.1 - _LABEL)
            base = paragraph(figure, shown, strengths, start, PAGE_WIDTH - _LEFT, _TEXT) - 0.1

    def _label(self, weights: str, row: pd.Series) -> str:
        label = WEIGHTS[weights]
        if "prob_bottleneck" in row:
            label += f": p({self.target}) with bottleneck {row['prob_bottleneck']:.2f}"
        if "bits_per_token" in row:
            label += f", {row['bits_per_token']:,.4g} bits per token"
        return label


def _before_after(stored: Stored, text: ScoredText) -> Block:
    where = f"after layer {text.layer}, " if text.layer else ""
    title = f"{literal(heading(stored, text))}, bottleneck {where}{_beta(text)}"
    return BeforeAfter(title, text.target, text.rows)


def _write(figure: Figure, y: float, text: str, size: float = 6.5, color: str = "black") -> None:
    across, up = figure.get_size_inches()
    figure.text(_LEFT / across, y / up, text, size=size, color=color)


def _caption(classifiers: Sequence[ScoredText], layers: Sequence[ScoredText]) -> str:
    before_after = (
        f"{how_many(classifiers)} before and after fine-tuning (orange: from the smallest to the largest "
        "score of each)"
    )
    by_layer = (
        f"information per token with the bottleneck after every layer, {how_many(layers)} (one colour scale "
        "per map; special tokens dimmed)"
    )
    parts = [before_after] * bool(classifiers) + [by_layer] * bool(layers)
    return f"Figure 3. IBA on single texts: {'; '.join(parts)}."
