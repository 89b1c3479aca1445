"""Figures 2 to 5 and the claims on studies, from small stored rows whose numbers are known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from fake_results import (
    cell_place,
    configured,
    falling,
    write_numbers,
    write_run,
    write_study,
    write_study_scores,
)
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize

from iba.display.highlight import units
from iba.errors import UserError
from iba.evaluation.stats import Resampling
from iba.report import drawing, single_texts, studies, study_figures
from iba.report.claims.checks import small_beta
from iba.report.drawing import Picture
from iba.report.figure1 import mean_curves
from iba.report.stored import Stored, load

PROTOCOLS = ("described", "released")
CONFIG = ("dataset=imdb", "protocol=[described,released]", "stats.n_resamples=100")
TITLES = ("as described", "as released")
BETAS = (1e-7, 0.001, 1.0)
N = 8
#: 29 comparisons need p-values below 0.05/29, and permutations resolve 2/(n_resamples + 1).
FINE = Resampling(0.95, 1500, 3)


@pytest.fixture(autouse=True)
def _no_warnings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A figure that warns has a fault, such as a glyph without a font. Coarse pixels are drawn faster."""
    monkeypatch.setitem(drawing.LOOK, "savefig.dpi", 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def write_betas(
    run: Path, protocol: str, points: dict[Any, np.ndarray], references: dict[str, np.ndarray] | None = None
) -> None:
    """The study of β, with what IBA reports of every instance."""
    write_study(run, "betas", protocol, points, references)
    for beta, bits in zip(points, (900.0, 90.0, 9.0), strict=False):
        folder, _, _ = cell_place(run, "imdb", protocol, "iba", "betas", beta)
        numbers = {"beta": beta, "prob_bottleneck": 0.8, "bits_per_token_start": 1000.0}
        write_numbers(folder, N, bits_per_token=bits, **numbers)


def write_studies(run: Path, protocols: tuple[str, ...] = PROTOCOLS) -> None:
    """Every study that a figure is drawn from: 12 layers, three βs, one long text."""
    for protocol in protocols:
        layers = {layer: falling(N, 0.05 * layer, layer) for layer in range(1, 13)}
        write_study(run, "layers", protocol, layers, {"random": falling(N, 0.02)})
        betas = {beta: falling(N, 0.2, place) for place, beta in enumerate(BETAS)}
        write_betas(run, protocol, betas, {"hidden_norm": falling(N, 0.1), "random": falling(N, 0.02)})
        bits = [900.0, *np.linspace(1, 100, 40), 0.1]
        texts: dict[str, dict[Any, list[float]]] = {"token_betas": dict.fromkeys(BETAS, bits)}
        if protocol == "described":
            texts["token_layers"] = dict.fromkeys((1, 2), bits)
            texts["token_classifiers"] = {"pretrained": bits, "fine-tuned": bits[::-1]}
        for study, points in texts.items():
            write_study(run, study, protocol, {point: falling(1, 0.2) for point in points})
            write_study_scores(run, study, protocol, points, 1, beta=1e-5, prob_bottleneck=0.8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    write_studies(write_run(root, datasets=("imdb",), protocols=PROTOCOLS, n=N))
    return root


@pytest.fixture(scope="module")
def stored(folder: Path) -> Stored:
    return load(configured(folder, *CONFIG))


def draw_all(stored: Stored) -> dict[str, Picture]:
    """All pictures but Figure 1's."""
    with matplotlib.rc_context(drawing.LOOK):
        parts = [part.pictures(stored) for part in (study_figures, single_texts)]
        return {picture.stem: picture for part in parts for picture in part}


@pytest.fixture(scope="module")
def drawn(stored: Stored) -> dict[str, Picture]:
    return draw_all(stored)


# --- what is read -------------------------------------------------------------------------------------


def test_points_come_in_the_order_of_their_values(stored: Stored) -> None:
    described, released = studies.load(stored, "layers")
    assert (described.protocol, released.protocol) == PROTOCOLS
    assert described.values == list(range(1, 13))
    assert described.references.present("method") == ["random"]
    assert (described.title, described.cut) == ("IMDB, as described", 64)
    assert described.matrix("drop_11").mean().tolist() == pytest.approx([0.05 * i for i in range(1, 13)])


def test_points_on_different_instances_are_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",), n=N)
    write_study(run, "layers", "described", {1: falling(N, 0.1), 2: falling(N - 1, 0.1)})
    with pytest.raises(UserError, match="different instances"):
        load(configured(tmp_path, *CONFIG))


# --- numbers that are drawn ---------------------------------------------------------------------------


def straight(start: float, end: float) -> np.ndarray:
    return np.linspace(start, end, 10)[None].repeat(4, 0)


@pytest.fixture
def two_lines(tmp_path: Path) -> studies.StudyRows:
    """β = 0.1 falls to its end at once, β = 1 and random fall on straight lines; n = 4."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",), n=4)
    at_once = np.hstack([np.full((4, 1), 0.9), np.full((4, 9), 0.1)])
    at_once[:, 1] = [0.1, 0.2, 0.3, 0.4]
    points = {0.1: at_once, 1.0: straight(0.9, 0.1)}
    write_study(run, "betas", "described", points, {"random": straight(0.9, 0.3)})
    write_study_scores(run, "betas", "described", {1.0: [1.0, 3.0, 5.0]}, 4, beta=1.0)
    (rows,) = studies.load(load(configured(tmp_path, *CONFIG)), "betas")
    return rows


def test_normalised_curves_by_hand(two_lines: studies.StudyRows) -> None:
    """o = 0.9, and m = 0.1 is shared with random, which ends at (0.3 − 0.1)/0.8 = 0.25."""
    found = mean_curves(*two_lines.curves, two_lines.points.fractions, Resampling(0.95, 500, 3))
    assert found.names == [0.1, 1, "random"]
    np.testing.assert_allclose(found.shown[0, 0], [1, (0.25 - 0.1) / 0.8, *[0] * 8], atol=1e-12)
    np.testing.assert_allclose(found.shown[0, 1], np.linspace(1, 0, 10), atol=1e-12)
    np.testing.assert_allclose(found.shown[0, 2], np.linspace(1, 0.25, 10))
    np.testing.assert_allclose(found.fractions, np.linspace(0, 1, 10))
    assert (found.n, found.too_small) == (4, "")


def test_means_against_the_value_by_hand(two_lines: studies.StudyRows) -> None:
    drops = study_figures.means(two_lines.points, "value", "drop_11", Resampling(0.95, 500, 3))
    assert drops.index.tolist() == [0.1, 1]
    np.testing.assert_allclose(drops["estimate"], [0.9 - 0.25, 0.8 / 9])
    assert drops["ci_low"].iloc[0] < drops["estimate"].iloc[0] < drops["ci_high"].iloc[0]
    np.testing.assert_allclose(drops["ci_low"].iloc[1], drops["ci_high"].iloc[1])  # four equal instances
    assert two_lines.level("random", "drop_11").mean() == pytest.approx(0.6 / 9)


def test_a_number_that_only_some_points_have(two_lines: studies.StudyRows) -> None:
    bits = study_figures.means(two_lines.points, "value", "bits_per_token", FINE)
    assert (bits.index.tolist(), bits["estimate"].tolist()) == ([1], [3.0])


@pytest.mark.parametrize(("depth", "layers"), [(12, [1, 4, 8, 9, 12]), (6, [1, 2, 4, 6])])
def test_selected_layers_scale_with_the_depth(depth: int, layers: list[int]) -> None:
    assert study_figures.selected_layers(depth) == layers


def test_the_selected_beta_is_marked_where_the_noise_is_the_same(tmp_path: Path) -> None:
    protocols = (*PROTOCOLS, "corrected")
    run = write_run(tmp_path, datasets=("imdb",), protocols=protocols, drops={"iba": 0.3}, n=N)
    for protocol in PROTOCOLS:
        write_study(run, "betas", protocol, {0.1: falling(N, 0.2)})
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=[described,released,corrected]"))
    described, released = studies.load(stored, "betas")
    assert list(study_figures.marked_betas(stored, described).values()) == [1e-5, 1.0]
    assert list(study_figures.marked_betas(stored, released).values()) == [1e-5]
    assert study_figures.marked_betas(replace(stored, cells={}), described) == {}
    untried = {v: replace(c, record={"settings": c.record["settings"]}) for v, c in stored.cells.items()}
    assert list(study_figures.marked_betas(replace(stored, cells=untried), described)) == ["described"]


@pytest.mark.parametrize(
    ("beta", "name"),
    [(1e-7, "$10^{-7}$"), (float(np.float32(1e-5)), "$10^{-5}$"), (1.0, "1"), (10.0, "10"), (0.02, "0.02")],
)
def test_the_name_of_a_beta(beta: float, name: str) -> None:
    assert study_figures.power(beta) == name


def test_a_map_marks_what_continues_a_word() -> None:
    pieces = units(["[CLS]", "play", "##ing", ".", "##."], np.array([True, *[False] * 4]))
    assert single_texts.labels(pieces) == ["[CLS]", "play", "-ing", ".", "."]


def test_the_colours_of_a_map() -> None:
    near, decades = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.5, 2e3], [0.0, 5.0]])
    for bits, kind, ends in ((near, Normalize, (1, 4)), (decades, LogNorm, (0.5, 2e3))):
        found = single_texts.scale(bits)
        assert type(found) is kind
        assert (found.vmin, found.vmax) == ends


@pytest.mark.parametrize(("n", "sizes"), [(5, [5]), (34, [34]), (35, [18, 17]), (80, [27, 26, 27])])
def test_long_texts_are_wrapped_evenly(n: int, sizes: list[int]) -> None:
    found = single_texts.wrapped(n)
    assert [line.stop - line.start for line in found] == pytest.approx(sizes, abs=1)
    assert [place for line in found for place in range(line.start, line.stop)] == [*range(n)]


def test_texts_of_a_study(stored: Stored) -> None:
    found = single_texts.load(stored, "token_betas")
    titles = [f"IMDB i0000, target pos ({p}), bottleneck after layer 9" for p in TITLES]
    assert [text.title for text in found] == titles
    assert [list(text.rows.index) for text in found] == [list(BETAS)] * 2
    assert [text.title for text in single_texts.load(stored, "token_layers")] == [
        "IMDB i0000, target pos (as described), β = $10^{-5}$"
    ]
    own = single_texts._text(stored, "token_betas", found[0].rows.assign(instance_id="text:0"))
    assert own.title.startswith("own text 1 (IMDB), target pos (as described)")


def test_a_map_dims_special_tokens_and_does_not_stretch_to_them(drawn: dict[str, Picture]) -> None:
    """They have 900 and 0.1 bits, the others 1 to 100; a text has two lines."""
    axes = drawn["figure5"].figure.axes
    meshes = [mesh for one in axes for mesh in one.collections if isinstance(mesh, QuadMesh)]
    assert {(mesh.norm.vmin, mesh.norm.vmax) for mesh in meshes} == {(1, 100)}
    grey = [
        label.get_text() for one in axes for label in one.get_xticklabels() if label.get_color() == "0.55"
    ]
    assert grey == ["[CLS]", "[SEP]"] * 2


# --- figures ------------------------------------------------------------------------------------------


def test_every_study_has_its_pictures_with_captions(drawn: dict[str, Picture]) -> None:
    named = {"figure2a": "Figure 2a.", "figure2b": "Figure 2b.", "figure3": "Figure 3."}
    named |= {"figure4": "Figure 4.", "figure5": "Figure 5."}
    assert drawn.keys() == named.keys()
    for stem, picture in drawn.items():
        assert picture.caption.startswith(named[stem])
        assert picture.caption.endswith(".")
    for stem in ("figure2a", "figure2b", "figure4"):
        titles = [axes.get_title() for axes in drawn[stem].figure.axes]
        assert "IMDB, as described\nn = 8, texts cut at 64 tokens" in titles
        assert any("(means, without intervals)" in a.get_xlabel() for a in drawn[stem].figure.axes)


def test_studies_that_were_not_run_give_no_pictures(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb",), protocols=("described",), n=N)
    assert draw_all(load(configured(tmp_path, *CONFIG))) == {}


def test_where_too_little_is_lost_a_study_shows_the_probability(tmp_path: Path) -> None:
    """As in Figure 1: under one protocol half the texts gain by being emptied; both show what can be read."""
    gains = np.vstack([falling(N // 2, 0.3), np.linspace(0.1, 0.8, 10)[None].repeat(N // 2, 0)])
    run = write_run(tmp_path, datasets=("imdb",), protocols=PROTOCOLS, n=N)
    for protocol, curves in zip(PROTOCOLS, (falling(N, 0.3), gains), strict=True):
        write_study(run, "layers", protocol, dict.fromkeys((1, 2), curves))
        write_betas(run, protocol, dict.fromkeys(BETAS, curves))
    found = draw_all(load(configured(tmp_path, *CONFIG)))
    for stem in ("figure2a", "figure2b", "figure4"):
        said = [text.get_text() for axes in found[stem].figure.axes for text in axes.texts]
        assert [text.startswith("probability") for text in said].count(True) == len(PROTOCOLS)
        assert sum("too small for" in text for text in said) == 1
    first = found["figure4"].figure.axes[0]
    assert first.get_ylabel() == "probability $\\bar{p}$"
    assert first.lines[0].get_ydata()[0] == pytest.approx(0.9)


def test_a_caption_names_the_beta_chosen_for_every_layer(stored: Stored) -> None:
    rows = studies.load(stored, "layers")[0]
    assert study_figures.chosen_betas(rows) == ""
    learned = {
        layer: {"settings": {"method": {"beta": 0.1 * layer}}, "tuning": {"key": {"rows": {"n": 16}}}}
        for layer in rows.values
    }
    found = study_figures.chosen_betas(replace(rows, records=learned))
    assert (
        "IMDB, as described: each layer's β was chosen on 16 held-out training rows: 0.1, 0.2, 0.3" in found
    )


def test_the_layers_of_an_axis_do_not_run_together(drawn: dict[str, Picture]) -> None:
    figure = drawn["figure4"].figure
    with matplotlib.rc_context(drawing.LOOK):
        figure.draw_without_rendering()
    bottom = [axes for axes in figure.axes if axes.get_xlabel() == "bottleneck after layer"]
    assert len(bottom) == 2
    for axes in bottom:
        low, high = axes.get_xlim()
        marks = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
        boxes = [label.get_window_extent() for label in marks]
        gaps = [right.x0 - left.x1 for left, right in pairwise(boxes)]
        letter = boxes[-1].width / 2
        assert [label.get_text() for label in marks] == ["2", "4", "6", "8", "10", "12"]
        assert min(gaps) > letter / 2


def test_x_alone_is_named_by_the_stored_settings(tmp_path: Path) -> None:
    """Not by the protocol: its own is the norm of the standardised X or of the update."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=PROTOCOLS, n=N)
    for protocol in PROTOCOLS:
        write_betas(run, protocol, {1e-7: falling(N, 0.2)}, {"hidden_norm": falling(N, 0.1)})
    stored = load(configured(tmp_path, *CONFIG))
    names = ("norm of the standardised X", "norm of the layer's update")
    with matplotlib.rc_context(drawing.LOOK):
        (picture,) = study_figures.pictures(stored)
    labels = {label for axes in picture.figure.axes for label in axes.get_legend_handles_labels()[1]}
    assert not any("alone" in label for label in labels)
    for protocol, name in zip(PROTOCOLS, names, strict=True):
        assert any(name in check.text for check in small_beta(stored, protocol))
        assert name in labels
