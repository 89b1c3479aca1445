"""Figure 5: β × tokens of single texts, a map per text and protocol."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from iba.explain.paragraph import literal
from iba.report import token_maps
from iba.report.drawing import look, save
from iba.report.figure2 import power
from iba.report.rows import Stored
from iba.report.sheet import Block, sheet
from iba.report.study_examples import StudyExample, heading, load, texts
from iba.report.study_rows import Value
from iba.report.token_maps import TokenMap, token_map

STUDY = "token_betas"


def draw(stored: Stored) -> Figure:
    """The maps below one another."""
    blocks = []
    for example in load(stored, STUDY):
        found = token_map(example.rows)
        blocks.append(Block(token_maps.height(found), partial(_draw_map, stored, example, found)))
    return sheet(blocks)


def _draw_map(stored: Stored, example: StudyExample, found: TokenMap, figure: Figure, top: float) -> None:
    where = f", bottleneck after layer {example.layer}" if example.layer else ""
    token_maps.draw(figure, found, top, literal(heading(stored, example)) + where, "β", _name)


def _name(beta: Value) -> str:
    return power(float(beta))


def caption(stored: Stored) -> str:
    """What the figure shows, and of how many texts."""
    return (
        f"Figure 5. Information per token of {texts(load(stored, STUDY))} under several β, one map per "
        "protocol (each with its own colour scale; special tokens dimmed)."
    )


def write(stored: Stored) -> list[Path]:
    """Store `figures/figure5`; nothing where the study was not run."""
    if not load(stored, STUDY):
        return []
    with look():
        return save(draw(stored), stored.folder / "figures" / "figure5", stored.made_with)
