"""Figures 3 and 5: single texts before and after fine-tuning, and layers × tokens; β × tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from iba.display.highlight import stretched, units
from iba.display.paragraph import LINE, SIZE, literal, paragraph
from iba.pipeline.views import Value
from iba.report.drawing import PAGE_WIDTH, Picture
from iba.report.figure2 import power
from iba.report.stored import Stored
from iba.report.token_maps import ScoredText, TokenMap, heading, load, sheet, token_map

CLASSIFIERS, LAYERS, BETAS = "token_classifiers", "token_layers", "token_betas"
#: The classifiers of Figure 3's first part, in the order in which they are drawn.
WEIGHTS = {
    "random": "nothing trained",
    "pretrained": "before fine-tuning (head not trained)",
    "fine-tuned": "after fine-tuning",
}
# Inches; letters to a line of `_TEXT` points.
_LEFT, _TITLE, _LABEL, _TEXT, _LETTERS = 0.12, 0.45, 0.17, 7.5, 105
_LINE = LINE * _TEXT / SIZE


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure3` and `figure5`, as far as their studies were run."""
    classifiers, layers, betas = (load(stored, study) for study in (CLASSIFIERS, LAYERS, BETAS))
    maps = "information per token with the bottleneck"
    scale = "Each map has its own colour scale; special tokens are dimmed."
    if classifiers or layers:
        parts = ["a text before and after fine-tuning"] * bool(classifiers)
        parts += [f"{maps} after every layer"] * bool(layers)
        drawn = draw(stored, classifiers, [_map(stored, text, "after layer", str) for text in layers])
        yield Picture("figure3", drawn, f"Figure 3. IBA on single texts: {'; '.join(parts)}. {scale}")
    if betas:
        drawn = sheet([_map(stored, text, "β", power) for text in betas])
        yield Picture("figure5", drawn, f"Figure 5. IBA on single texts: {maps} under several β. {scale}")


def _map(stored: Stored, text: ScoredText, label: str, name: Callable[[Value], str]) -> TokenMap:
    return token_map(text.rows, _title(stored, text, label), label, [*map(name, text.rows.index)])


def _title(stored: Stored, text: ScoredText, varied: str = "") -> str:
    """The text, and what of layer and β does not vary."""
    known = [f"bottleneck after layer {text.layer}"] * (text.layer is not None and varied != "after layer")
    betas = sorted(set(text.rows["beta"])) if "beta" in text.rows and varied != "β" else []
    known += [f"β = {', '.join(map(power, betas))}"] * bool(betas)
    return ", ".join([literal(heading(stored, text)), *known])


def draw(stored: Stored, classifiers: Sequence[ScoredText], maps: Sequence[TokenMap]) -> Figure:
    """Every text once per classifier, and the maps below."""
    figure = sheet(maps, sum(_height(text.rows) for text in classifiers))
    top = figure.get_figheight()
    for text in classifiers:
        _draw(figure, text, _title(stored, text), top)
        top -= _height(text.rows)
    return figure


def _height(rows: pd.DataFrame) -> float:
    """Inches of a text under all classifiers, by its letters."""
    letters = sum(len(token) + 1 for token in rows["tokens"].iloc[0])
    return _TITLE + len(rows) * (_LABEL + _LINE * (letters // _LETTERS + 1) + 0.06)


def _draw(figure: Figure, text: ScoredText, title: str, top: float) -> None:
    """Title, scale, and a paragraph for each classifier: its scores from the smallest to the largest."""

    def write(inches: float, said: str, size: float = 6.5, color: str = "0.35") -> None:
        across, up = figure.get_size_inches()
        figure.text(_LEFT / across, inches / up, said, size=size, color=color)

    write(top - 0.17, title, 7.5, "black")
    write(top - 0.32, "orange: from the smallest to the largest score of the text; special tokens in grey")
    base = top - _TITLE
    for weights in (w for w in WEIGHTS if w in text.rows.index):
        row = text.rows.loc[weights]
        write(base - 0.1, literal(_label(weights, text.target, row)))
        special = np.asarray(row["special"], np.bool_)
        shown, strengths = units(list(row["tokens"]), special), stretched(np.asarray(row["scores"]), special)
        start = _LEFT, base - 0.1 - _LABEL
        base = paragraph(figure, shown, strengths, start, PAGE_WIDTH - _LEFT, _TEXT) - 0.1


def _label(weights: str, target: str, row: pd.Series) -> str:
    label = WEIGHTS[weights]
    if "prob_bottleneck" in row:
        label += f": p({target}) with bottleneck {row['prob_bottleneck']:.2f}"
    if "bits_per_token" in row:
        label += f", {row['bits_per_token']:,.4g} bits per token"
    return label
