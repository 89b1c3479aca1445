"""Figures 3 and 5: single texts before and after fine-tuning, and maps of layers or β × tokens.

What varies goes upwards, tokens to the right, bits are colours. All rows of a map share its scale, so that
a layer or β which keeps more is brighter; it is logarithmic where the map spans more than `WIDE`. Special
tokens are dimmed and do not stretch it. Texts too long for one line are wrapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from iba.display.highlight import Unit, printable, stretched, units
from iba.display.paragraph import LINE, SIZE, literal, paragraph
from iba.report.drawing import PAGE_WIDTH, Look, Picture
from iba.report.stored import Stored
from iba.report.studies import METHOD
from iba.report.study_figures import power

CLASSIFIERS, LAYERS, BETAS = "token_classifiers", "token_layers", "token_betas"
#: What the rows of a map are.
_LABELS = {LAYERS: "after layer", BETAS: "β"}
#: The classifiers of Figure 3's first part, in the order in which they are drawn.
WEIGHTS = {
    "random": "nothing trained",
    "pretrained": "before fine-tuning (head not trained)",
    "fine-tuned": "after fine-tuning",
}
#: Largest over smallest number of a map from which on colours are logarithmic.
WIDE = 20.0
#: Tokens in one line of a map.
PER_LINE = 34
#: Inches: a row of a map, and what a line has around it: its title and slanted tokens.
_ROW, _AROUND = 0.115, 0.9
_SLANTED: Look = {"rotation": 50, "ha": "right", "rotation_mode": "anchor", "parse_math": False}
#: Of a paragraph: inches; letters to a line of `_TEXT` points.
_LEFT, _TITLE, _LABEL, _TEXT, _LETTERS = 0.12, 0.45, 0.17, 7.5, 105
_LINE = LINE * _TEXT / SIZE


@dataclass(frozen=True)
class ScoredText:
    """One text at all points of a study under one protocol.

    `title`: the text, and what of layer and β is fixed; `pieces`: its tokens; `rows`: by the varied value,
    ascending: scores, bits, and what else the method reported.
    """

    study: str
    title: str
    target: str
    pieces: list[Unit]
    rows: pd.DataFrame


def pictures(stored: Stored) -> Iterator[Picture]:
    """`figure3` and `figure5`, as far as their studies were run."""
    classifiers, layers, betas = (load(stored, study) for study in (CLASSIFIERS, LAYERS, BETAS))
    maps = "information per token with the bottleneck"
    scale = "Each map has its own colour scale; special tokens are dimmed."
    if classifiers or layers:
        parts = ["a text before and after fine-tuning"] * bool(classifiers)
        parts += [f"{maps} after every layer"] * bool(layers)
        caption = f"Figure 3. IBA on single texts: {'; '.join(parts)}. {scale}"
        yield Picture("figure3", draw(layers, classifiers), caption)
    if betas:
        caption = f"Figure 5. IBA on single texts: {maps} under several β. {scale}"
        yield Picture("figure5", draw(betas), caption)


def load(stored: Stored, study: str) -> list[ScoredText]:
    """The texts of a study whose scores are stored, by data set and protocol; empty without any."""
    tables = [
        scores.merge(cell.numbers(), "left", "instance_id").assign(
            value=view.value,
            layer=cell.record["settings"]["method"]["layer"],
            dataset=view.dataset,
            protocol=view.protocol,
        )
        for view, cell in stored.cells.items()
        if (view.seed, view.study, view.method) == (stored.seed, study, METHOD) and view.value is not None
        if (scores := cell.scores()) is not None
    ]
    groups = pd.concat(tables).groupby(["dataset", "protocol", "instance_id"], sort=False) if tables else ()
    return [_text(stored, study, rows.set_index("value").sort_index()) for _, rows in groups]


def _text(stored: Stored, study: str, rows: pd.DataFrame) -> ScoredText:
    first = rows.iloc[0]
    target = str(stored.classifiers[first["dataset"]]["provenance"]["labels"][int(first["target"])])
    data, protocol = (stored.say(key, first[key]) for key in ("dataset", "protocol"))
    kind, _, number = first["instance_id"].partition(":")
    which = f"own text {int(number) + 1} ({data})" if kind == "text" else f"{data} {first['instance_id']}"
    title = literal(f"{which}, target {target} ({protocol})")
    if study != LAYERS:
        title += f", bottleneck after layer {first['layer']}"
    if study != BETAS:
        title += f", β = {', '.join(map(power, sorted(set(rows['beta']))))}"
    pieces = units(list(first["tokens"]), np.asarray(first["special"], np.bool_))
    return ScoredText(study, title, target, pieces, rows)


def draw(maps: Sequence[ScoredText], paragraphs: Sequence[ScoredText] = ()) -> Figure:
    """A page-wide figure: texts once per classifier, and maps below."""
    lines = [(text, line) for text in maps for line in wrapped(len(text.pieces))]
    rows = [len(text.rows) for text, _ in lines]
    above, below = sum(map(_height, paragraphs)), sum(_ROW * n + _AROUND for n in rows)
    figure = Figure(figsize=(PAGE_WIDTH, above + below), layout="constrained")
    if lines:
        room = (0, 0, 1, below / (above + below))
        figure.get_layout_engine().set(rect=room)  # type: ignore[union-attr,call-arg]
        grid = figure.subplots(len(lines), 1, squeeze=False, height_ratios=rows)
        for axes, (text, line) in zip(grid.flat, lines, strict=True):
            _draw_line(figure, axes, text, line)
    top = above + below
    for text in paragraphs:
        _draw_paragraphs(figure, text, top)
        top -= _height(text)
    return figure


def wrapped(n: int) -> list[slice]:
    """The lines of a map of n tokens, as even as they can be."""
    ends = np.linspace(0, n, -(-n // PER_LINE) + 1).round().astype(int).tolist()
    return [slice(*pair) for pair in pairwise(ends)]


def labels(pieces: Sequence[Unit]) -> list[str]:
    """Tokens as a map has them: what continues a word has a hyphen before it."""
    return [printable("-" * (one.joined and one.text[:1].isalnum()) + one.text) for one in pieces]


def scale(bits: Float[np.ndarray, "rows tokens"]) -> Normalize:
    """From the smallest number to the largest one; logarithmic over decades."""
    positive, high = bits[bits > 0], float(bits.max())
    if len(positive) and high > WIDE * positive.min():
        return LogNorm(float(positive.min()), high, clip=True)
    return Normalize(float(bits.min()), high)


def _height(text: ScoredText) -> float:
    """Inches of a text under all classifiers, by its letters."""
    letters = sum(len(token) + 1 for token in text.rows["tokens"].iloc[0])
    return _TITLE + len(text.rows) * (_LABEL + _LINE * (letters // _LETTERS + 1) + 0.06)


def _draw_line(figure: Figure, axes: Axes, text: ScoredText, line: slice) -> None:
    special, bits = _special(text), np.stack([np.asarray(row, float) for row in text.rows["bits"]])
    shown: Look = {"cmap": "viridis", "edgecolors": "white", "linewidth": 0.3}
    mesh = axes.pcolormesh(bits[:, line], norm=scale(bits[:, ~special]), **shown)
    axes.set_xticks(np.arange(len(special[line])) + 0.5, labels(text.pieces[line]), **_SLANTED)
    axes.set_yticks(np.arange(len(bits)) + 0.5, [*map(power, text.rows.index)])
    axes.set_ylabel(_LABELS[text.study])
    axes.set_title("" if line.start else text.title, loc="left")
    axes.tick_params(length=0, pad=2)
    axes.spines[:].set_visible(False)
    for place in map(int, np.flatnonzero(special[line])):
        axes.axvspan(place, place + 1, color="white", alpha=0.6, linewidth=0)
        axes.get_xticklabels()[place].set_color("0.55")
    bar = figure.colorbar(mesh, ax=axes, aspect=14, pad=0.01)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.tick_params(labelsize=6)
    bar.set_label("information\n(bits per token)", fontsize=6)


def _special(text: ScoredText) -> Bool[np.ndarray, " tokens"]:
    return np.array([one.special for one in text.pieces])


def _draw_paragraphs(figure: Figure, text: ScoredText, top: float) -> None:
    """Title, scale, and a paragraph for each classifier: its scores from the smallest to the largest."""
    up = figure.get_figheight()

    def write(inches: float, said: str, size: float = 6.5, color: str = "0.35") -> None:
        figure.text(_LEFT / PAGE_WIDTH, inches / up, said, size=size, color=color)

    write(top - 0.17, text.title, 7.5, "black")
    write(top - 0.32, "orange: from the smallest to the largest score of the text; special tokens in grey")
    base = top - _TITLE
    for weights in (name for name in WEIGHTS if name in text.rows.index):
        row = text.rows.loc[weights]
        told = f"{WEIGHTS[weights]}: p({text.target}) with bottleneck {row['prob_bottleneck']:.2f}"
        write(base - 0.1, literal(f"{told}, {row['bits_per_token']:,.4g} bits per token"))
        strengths = stretched(np.asarray(row["scores"]), _special(text))
        start = _LEFT, base - 0.1 - _LABEL
        base = paragraph(figure, text.pieces, strengths, start, PAGE_WIDTH - _LEFT, _TEXT) - 0.1
