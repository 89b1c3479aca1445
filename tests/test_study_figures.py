"""Figures 2 to 5 and the claims on studies, from small stored rows whose numbers are known."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_results import (
    configured,
    degradation,
    falling,
    write_point,
    write_run,
    write_study,
    write_study_scores,
)
from matplotlib.colors import LogNorm

from iba.errors import UserError
from iba.evaluation.stats import Resampling
from iba.pipeline.store import read_parquet, write_parquet
from iba.report import (
    captions,
    drawing,
    figure1,
    figure2,
    figure3,
    figure4,
    figure5,
    html,
    study_collect,
    study_examples,
    study_panels,
    study_rows,
    token_maps,
)
from iba.report.claims.studies import best_layers, conclude_study, small_beta
from iba.report.claims.verdict import Verdict
from iba.report.rows import Stored, load

PROTOCOLS = ("described", "released")
CONFIG = ("dataset=imdb", "protocol=[described,released]", "stats.n_resamples=100")
BETAS = ("1e-07", "0.001", "1")
N = 8
#: 29 comparisons need p-values below 0.05/29, and permutations resolve 2/(n_resamples + 1).
FINE = Resampling(0.95, 1500, 3)


@pytest.fixture(autouse=True)
def _no_warnings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A figure that warns has a fault, such as a glyph without a font. Coarse pixels are drawn faster."""
    monkeypatch.setitem(drawing._LOOK, "savefig.dpi", 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def write_studies(run: Path, protocols: tuple[str, ...] = PROTOCOLS) -> None:
    """Every study that a figure is drawn from: 12 layers, three βs, single texts, the second one long."""
    for protocol in protocols:
        layers = {f"layer={layer}": falling(N, 0.05 * layer, layer) for layer in range(1, 13)}
        write_study(run, "layers", protocol, layers, {"random": falling(N, 0.02)})
        betas = {f"beta={beta}": falling(N, 0.2, place) for place, beta in enumerate(BETAS)}
        references = {"hidden_norm": falling(N, 0.1), "random": falling(N, 0.02)}
        noise = "features" if protocol == "described" else "layer_input"
        write_study(run, "betas", protocol, betas, references, noise)
        for beta, bits in zip(BETAS, (900.0, 90.0, 9.0), strict=True):
            numbers = {"beta": float(beta), "prob_bottleneck": 0.8, "bits_per_token_start": 1000.0}
            write_study_scores(run, "betas", protocol, {f"beta={beta}": [bits] * 4}, N, **numbers)
        short, long = [9.0, 1.0, 2.0, 3.0, 9.0], [5.0, *np.linspace(1, 100, 40), 5.0]
        texts = {
            "token_layers": {f"layer={layer}": short for layer in (1, 2)},
            "token_betas": {f"beta={beta}": long for beta in BETAS},
            "token_classifiers": {"weights=pretrained": short, "weights=fine-tuned": short[::-1]},
        }
        for study, bits in texts.items():
            write_study(run, study, protocol, {point: falling(1, 0.2) for point in bits})
            write_study_scores(run, study, protocol, bits, 1, beta=1e-5, prob_bottleneck=0.8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("studies")
    run = write_run(root, datasets=("imdb",), protocols=PROTOCOLS, n=N)
    write_studies(run)
    study_collect.collect(load(configured(root, *CONFIG)), 6)
    return root


@pytest.fixture(scope="module")
def stored(folder: Path) -> Stored:
    return load(configured(folder, *CONFIG))


# --- what is read and kept ----------------------------------------------------------------------------


def test_points_come_in_the_order_of_their_values(stored: Stored) -> None:
    described, released = study_rows.load(stored, "layers")
    assert (described.protocol, released.protocol) == PROTOCOLS
    assert list(described.points) == list(range(1, 13))
    assert list(described.references) == ["random"]
    assert (described.n, described.cut) == (N, 64)
    assert described.matrix("drop_11").mean().tolist() == pytest.approx([0.05 * i for i in range(1, 13)])


@pytest.mark.parametrize(
    ("point", "value"),
    [("layer=9", 9), ("beta=1e-05", 1e-5), ("beta=0.1", 0.1), ("weights=fine-tuned", "fine-tuned")],
)
def test_the_value_of_a_point(point: str, value: object) -> None:
    assert study_rows.value_of(point) == value


def test_points_on_different_instances_are_refused(folder: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",), n=N)
    write_study(run, "layers", "described", {"layer=1": falling(N, 0.1)})
    write_study(run, "layers", "described", {"layer=2": falling(N - 1, 0.1)})
    with pytest.raises(UserError, match="different instances"):
        study_rows.load(load(configured(tmp_path, *CONFIG)), "layers")


def test_small_files_outlive_the_attributions(folder: Path, stored: Stored, tmp_path: Path) -> None:
    """Points whose attributions are gone keep their rows; those that are there replace theirs."""
    copy = replace(stored, folder=tmp_path / "run")
    shutil.copytree(stored.folder / "studies" / "token_betas", copy.folder / "studies" / "token_betas")
    before = study_rows.small_file(copy, "token_betas", "examples")
    gone = copy.folder / "studies/token_betas/imdb/described/iba/beta=1/attributions.parquet"
    gone.unlink()
    write_study_scores(copy.folder, "token_betas", "described", {"beta=0.001": [7.0, 8.0, 7.0]}, 1, beta=1e-3)
    study_collect.collect(copy, 6)
    after = study_rows.small_file(copy, "token_betas", "examples")
    assert before is not None
    assert after is not None
    assert len(after) == len(before) == 6
    bits = after[after["protocol"] == "described"].set_index("point")["bits"]
    assert len(bits["beta=0.001"]) == 3
    assert len(bits["beta=1"]) == 42


def test_a_point_made_again_without_numbers_keeps_none_of_its_old_ones(
    folder: Path, stored: Stored, tmp_path: Path
) -> None:
    """As IG without its completeness gap; and with many instances in place of few, none are shown."""
    copy = replace(stored, folder=tmp_path / "run")
    shutil.copytree(stored.folder / "studies" / "token_betas", copy.folder / "studies" / "token_betas")
    points = sorted(copy.folder.glob("studies/token_betas/imdb/*/iba/*/attributions.parquet"))
    for again, path in enumerate(points):
        rows = read_parquet(path)
        plain = rows[["instance_id", "label", "target", "tokens", "special", "scores"]]
        write_parquet(path, pd.concat([plain] * 7 if again else [plain], ignore_index=True))
        study_collect.collect(copy, 6)
        left = study_rows.small_file(copy, "token_betas", "diagnostics")
        assert len(points) - 1 - again == (0 if left is None else left.groupby(["protocol", "point"]).ngroups)
    examples = study_rows.small_file(copy, "token_betas", "examples")
    assert examples is not None
    assert examples.groupby(["protocol", "point"]).ngroups == 1


def test_many_instances_are_no_examples(stored: Stored) -> None:
    assert study_rows.small_file(stored, "betas", "examples") is None
    diagnostics = study_rows.small_file(stored, "betas", "diagnostics")
    assert diagnostics is not None
    assert len(diagnostics) == len(PROTOCOLS) * len(BETAS) * N


def test_a_redraw_without_attributions_is_the_same(folder: Path, tmp_path: Path) -> None:
    """A fresh clone has the small files but no attributions."""
    shutil.copytree(folder, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("attributions.parquet"):
        path.unlink()
    paths = []
    for root in (folder, tmp_path / "copy"):
        again = load(configured(root, *CONFIG))
        study_collect.collect(again, 6)
        paths.append(figure5.write(again))
    for left, right in zip(*paths, strict=True):
        assert left.read_bytes() == right.read_bytes()


# --- numbers that are drawn ---------------------------------------------------------------------------


def straight(start: float, end: float) -> np.ndarray:
    return np.linspace(start, end, 10)[None].repeat(4, 0)


@pytest.fixture
def two_lines(tmp_path: Path) -> study_rows.StudyRows:
    """β = 0.1 falls to its end at once, β = 1 and random fall on straight lines; n = 4."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",), n=4)
    at_once = np.hstack([np.full((4, 1), 0.9), np.full((4, 9), 0.1)])
    at_once[:, 1] = [0.1, 0.2, 0.3, 0.4]
    points = {"beta=0.1": at_once, "beta=1": straight(0.9, 0.1)}
    write_study(run, "betas", "described", points, {"random": straight(0.9, 0.3)})
    write_study_scores(run, "betas", "described", {"beta=1": [1.0, 3.0, 5.0]}, 4, beta=1.0)
    stored = load(configured(tmp_path, *CONFIG))
    study_collect.collect(stored, 1)
    (rows,) = study_rows.load(stored, "betas")
    return rows


def test_normalised_curves_by_hand(two_lines: study_rows.StudyRows) -> None:
    """o = 0.9, and m = 0.1 is shared with random, which ends at (0.3 − 0.1)/0.8 = 0.25."""
    found = study_panels.curves(two_lines)
    np.testing.assert_allclose(found.points[1], np.linspace(1, 0, 10), atol=1e-12)
    np.testing.assert_allclose(found.points[0.1], [1, (0.25 - 0.1) / 0.8, *[0] * 8], atol=1e-12)
    np.testing.assert_allclose(found.references["random"], np.linspace(1, 0.25, 10))
    np.testing.assert_allclose(found.fractions, np.linspace(0, 1, 10))


def test_means_against_the_value_by_hand(two_lines: study_rows.StudyRows) -> None:
    how = Resampling(0.95, 500, 3)
    drops = study_panels.track(two_lines, "drop_11", how)
    assert drops is not None
    assert drops.values == [0.1, 1]
    np.testing.assert_allclose(drops.estimate, [0.9 - 0.25, 0.8 / 9])
    assert drops.low[0] < drops.estimate[0] < drops.high[0]
    np.testing.assert_allclose(drops.low[1], drops.high[1])  # four equal instances
    level = study_panels.levels(two_lines, "drop_11", how)["random"]
    assert level.estimate == pytest.approx(0.6 / 9)
    assert study_panels.level_of_points(two_lines, "prob_start") == pytest.approx(0.9)


def test_a_number_that_only_some_points_have(two_lines: study_rows.StudyRows) -> None:
    bits = study_panels.track(two_lines, "bits_per_token", FINE)
    assert bits is not None
    assert (bits.values, bits.estimate.tolist()) == ([1], [3.0])
    assert study_panels.track(two_lines, "prob_bottleneck", FINE) is None
    assert np.isnan(study_panels.level_of_points(two_lines, "bits_per_token_start"))


def test_selected_layers_scale_with_the_depth(two_lines: study_rows.StudyRows) -> None:
    def of_depth(depth: int) -> study_rows.StudyRows:
        return replace(two_lines, points=dict.fromkeys(range(1, depth + 1), two_lines.points[1]))

    assert figure2.selected_layers([of_depth(12)]) == [1, 4, 8, 9, 12]
    assert figure2.selected_layers([of_depth(6)]) == [1, 2, 4, 6]


def test_the_selected_beta_is_marked_where_the_noise_is_the_same(stored: Stored) -> None:
    cells = {
        ("described", "imdb", "iba"): {"settings": {"method": {"beta": 1e-5}}},
        ("corrected", "imdb", "iba"): {
            "settings": {"method": {"noise": "features", "beta": "calibrated"}},
            "provenance": {"learned": {"beta": 0.01}},
        },
    }
    described, released = study_rows.load(stored, "betas")
    marked = replace(stored, cells=cells)
    assert list(figure2.marked_betas(marked, described).values()) == [1e-5, 0.01]
    assert list(figure2.marked_betas(marked, released).values()) == [1e-5]
    unfinished = replace(stored, cells={("corrected", "imdb", "iba"): {}})
    assert figure2.marked_betas(unfinished, described) == {}


@pytest.mark.parametrize(
    ("beta", "name"),
    [(1e-7, "$10^{-7}$"), (float(np.float32(1e-5)), "$10^{-5}$"), (1.0, "1"), (10.0, "10"), (0.02, "0.02")],
)
def test_the_name_of_a_beta(beta: float, name: str) -> None:
    assert figure2.power(beta) == name


def example(bits: dict[str, list[float]], tokens: list[str], special: list[bool]) -> pd.DataFrame:
    rows = {"point": list(bits), "tokens": [tokens] * len(bits), "special": [special] * len(bits)}
    return pd.DataFrame(rows | {"scores": [[0.0] * len(tokens)] * len(bits), "bits": list(bits.values())})


def test_a_token_map_has_rows_by_value_and_ignores_special_tokens_in_its_scale() -> None:
    bits = {"layer=10": [99.0, 3.0, 4.0], "layer=2": [0.0, 1.0, 2.0]}
    found = token_maps.token_map(example(bits, ["[CLS]", "play", "##ing"], [True, False, False]))
    assert found.rows == [2, 10]
    assert found.tokens == ["[CLS]", "play", "##ing"]
    assert found.values.tolist() == [[0, 1, 2], [99, 3, 4]]
    assert (found.norm.vmin, found.norm.vmax) == (1, 4)
    assert "bits" in found.unit


def test_a_token_map_over_decades_has_a_logarithmic_scale() -> None:
    found = token_maps.token_map(
        example({"beta=1": [0.0, 5.0], "beta=1e-07": [0.5, 2e3]}, ["a", "b"], [False] * 2)
    )
    assert isinstance(found.norm, LogNorm)
    assert (found.norm.vmin, found.norm.vmax) == (0.5, 2e3)


def test_a_token_map_without_bits_shows_scores() -> None:
    rows = example({"beta=1": [1.0, 2.0]}, ["a", "b"], [False] * 2).drop(columns="bits")
    assert token_maps.token_map(rows).unit == "score"


@pytest.mark.parametrize(("n", "sizes"), [(5, [5]), (34, [34]), (35, [18, 17]), (80, [27, 26, 27])])
def test_long_texts_are_wrapped_evenly(n: int, sizes: list[int]) -> None:
    found = token_maps.token_map(example({"layer=1": [1.0] * n}, ["w"] * n, [False] * n))
    assert [line.stop - line.start for line in found.lines] == pytest.approx(sizes, abs=1)
    assert sum(line.stop - line.start for line in found.lines) == n


def test_texts_of_a_study(stored: Stored) -> None:
    found = study_examples.load(stored, "token_classifiers")
    assert [(e.protocol, e.instance_id, e.target) for e in found] == [(p, "i0000", "yes") for p in PROTOCOLS]
    assert study_examples.texts(found) == "one text"
    assert study_examples.heading(stored, found[0]) == "IMDB i0000, target yes (as described)"
    own = replace(found[0], instance_id="text:0")
    assert study_examples.heading(stored, own) == "own text 1 (IMDB), target yes (as described)"


# --- figures ------------------------------------------------------------------------------------------


def drawn(stored: Stored) -> set[str]:
    paths = [path for figure in (figure2, figure3, figure4, figure5) for path in figure.write(stored)]
    return {path.name for path in paths}


def test_figures_are_written_with_real_text(stored: Stored) -> None:
    stems = ("figure2a", "figure2b", "figure3", "figure3_described", "figure3_released", "figure4", "figure5")
    assert drawn(stored) == {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".pdf")}
    for path in (stored.folder / "figures").glob("*.pdf"):
        assert b"/FontFile2" in path.read_bytes()
        assert b"/Type3" not in path.read_bytes()


def test_one_protocol_alone(folder: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",), n=N)
    write_studies(run, ("described",))
    stored = load(configured(tmp_path, *CONFIG))
    study_collect.collect(stored, 6)
    stems = ("figure2a", "figure2b", "figure3", "figure4", "figure5")
    assert drawn(stored) == {f"{stem}{suffix}" for stem in stems for suffix in (".png", ".pdf")}


def test_studies_that_were_not_run_give_no_files(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",), n=N)
    stored = load(configured(tmp_path, *CONFIG))
    study_collect.collect(stored, 6)
    assert drawn(stored) == set()
    assert not (run / "studies").exists()
    assert not (run / "figures").exists()


def test_curves_of_a_study_are_drawn_without_its_diagnostics(tmp_path: Path) -> None:
    """The rows of a run whose attributions never came here."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",), n=N)
    write_study(run, "betas", "described", {f"beta={beta}": falling(N, 0.2) for beta in BETAS})
    assert drawn(load(configured(tmp_path, *CONFIG))) == {"figure2b.png", "figure2b.pdf"}


def test_a_caption_names_the_beta_chosen_for_every_layer(stored: Stored) -> None:
    rows = study_rows.load(stored, "layers")[0]
    assert figure4.chosen_betas(stored, rows) == ""
    learned = {layer: {"beta": 0.1 * layer, "n_calibration": 16} for layer in rows.points}
    found = figure4.chosen_betas(stored, replace(rows, learned=learned))
    assert "IMDB, as described: β chosen for every layer by the largest mean drop" in found
    assert "on 16 held-out training rows: 0.1, 0.2, 0.3" in found
    verdict = conclude_study("C4", "corrected", replace(rows, learned=learned), [])
    assert verdict.statement.endswith("; β chosen for each point on 16 held-out training rows")
    assert "training rows" not in conclude_study("C4", "described", rows, []).statement


def test_every_figure_has_a_caption(stored: Stored, tmp_path: Path) -> None:
    numbers = ("1", "1_probability", "2a", "2b", "3", "4", "5")
    stems = [*(f"figure{n}" for n in numbers), "methods"]
    drawn = [tmp_path / f"{stem}.png" for stem in (*stems, "figure3_described")]
    for path in drawn:
        path.touch()
    found = [figure["caption"] for figure in html.figures(stored, drawn)]
    names = [f"Figure {n}" for n in ("1", "1, unscaled", "2a", "2b", "3", "4", "5")] + ["All methods"]
    for caption, name in zip(found, names, strict=True):
        assert caption.startswith(name)
        assert caption.endswith(".")
    assert "n = 8, texts cut at 64 tokens" in found[2]
    assert "IMDB 8" in found[0]
    assert captions.caption(stored, "new_figure") == "New, figure; with intervals."


def test_curves_without_intervals_are_said_to_be_so(stored: Stored) -> None:
    for caption in (figure4.caption(stored), figure2.caption(stored, "a"), figure2.caption(stored, "b")):
        assert "the curves are means without intervals" in caption
    with drawing.look():
        figures = (
            figure4.draw(stored, study_rows.load(stored, "layers")),
            figure2.draw_betas(stored, study_rows.load(stored, "betas")),
        )
    for figure in figures:
        assert any("(means, without intervals)" in axes.get_xlabel() for axes in figure.axes)


def test_the_layers_of_an_axis_do_not_run_together(stored: Stored) -> None:
    with drawing.look():
        figure = figure4.draw(stored, study_rows.load(stored, "layers"))
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


def test_the_legend_fits_a_figure_of_one_panel(tmp_path: Path) -> None:
    """Nothing is drawn outside the figure."""
    write_run(tmp_path, datasets=("imdb",), protocols=("described",), n=N)
    stored = load(configured(tmp_path, *CONFIG))
    panels = {("described", "imdb"): figure1.panel(stored, "described", "imdb", figure1.normalised)}
    with drawing.look():
        figure = figure1.draw(stored, ["described"], panels, "d")
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


# --- claims -------------------------------------------------------------------------------------------


def verdict(
    tmp_path: Path,
    stored: Stored,
    study: str,
    points: dict[str, np.ndarray],
    references: dict[str, np.ndarray] | None = None,
) -> Verdict:
    write_study(tmp_path, study, "corrected", points, references)
    titles = {"corrected": "corrected"}
    names = replace(stored.names, protocols=titles)
    judge = best_layers if study == "layers" else small_beta
    return judge(replace(stored, folder=tmp_path, names=names, how=FINE), pd.DataFrame(), "corrected")


@pytest.mark.parametrize(
    ("changed", "n", "outcome"),
    [
        ({}, 200, "reproduced"),
        ({12: 0.7}, 200, "not reproduced"),
        ({8: 0.3, 10: 0.35, 9: 0.7}, 200, "not reproduced"),  # the mean of 8 and 9 would beat all others
        ({}, 199, "not enough data"),
    ],
)
def test_c4_in_all_outcomes(
    stored: Stored, tmp_path: Path, changed: dict[int, float], n: int, outcome: str
) -> None:
    drops = dict.fromkeys(range(1, 13), 0.2) | {8: 0.5, 9: 0.5, 1: 0.35} | changed
    points = {f"layer={layer}": falling(n, drop, layer, 0.05) for layer, drop in drops.items()}
    found = verdict(tmp_path, stored, "layers", points, {"random": falling(n, 0.02)})
    assert found.outcome == outcome
    assert len(found.checks) == 29
    assert found.statement.endswith("texts cut at 64 tokens")


def test_c4_needs_all_twelve_layers(stored: Stored, tmp_path: Path) -> None:
    points = {f"layer={layer}": falling(200, 0.2) for layer in (8, 9)}
    found = verdict(tmp_path, stored, "layers", points)
    assert found.outcome == "not enough data"
    assert "[8, 9] of 1–12" in found.checks[0].text


@pytest.mark.parametrize(
    ("drop", "n", "outcome"),
    [(0.2, 200, "reproduced"), (0.5, 200, "not reproduced"), (0.2, 199, "not enough data")],
)
def test_c5_asks_for_equivalence_with_x_alone(
    stored: Stored, tmp_path: Path, drop: float, n: int, outcome: str
) -> None:
    """The two βs up to 1e-6 are judged, the larger one is not."""
    points = {f"beta={beta}": falling(n, drop) for beta in ("1e-07", "1e-06")}
    points["beta=0.1"] = falling(n, 0.8)
    found = verdict(tmp_path, stored, "betas", points, {"hidden_norm": falling(n, 0.2)})
    assert found.outcome == outcome
    assert len(found.checks) == 2
    assert f"n = {n}" in found.checks[0].text
    assert found.statement.endswith("texts cut at 64 tokens")


def test_c5_needs_x_alone(stored: Stored, tmp_path: Path) -> None:
    points = {"beta=1e-07": falling(200, 0.2)}
    found = verdict(tmp_path, stored, "betas", points, {"random": falling(200, 0.2)})
    assert found.outcome == "not enough data"
    assert "nothing for “X alone”" in found.checks[0].text


def test_x_alone_is_named_by_the_stored_settings(stored: Stored, tmp_path: Path) -> None:
    """Not by the protocol: the same protocol may have been run with either."""
    names = {"features": "norm of the standardised X", "layer_input": "norm of the layer's update"}
    for noise, name in names.items():
        folder = tmp_path / noise
        points, references = {"beta=1e-07": falling(4, 0.2)}, {"hidden_norm": falling(4, 0.1)}
        write_study(folder, "betas", "released", points, references, noise)
        there = replace(stored, folder=folder)
        assert name in small_beta(there, pd.DataFrame(), "released").checks[0].text
        assert f"for “X alone” stands the {name} (as released)" in figure2.caption(there, "b")
        with drawing.look():
            figure = figure2.draw_betas(there, study_rows.load(there, "betas"))
        labels = {label for axes in figure.axes for label in axes.get_legend_handles_labels()[1]}
        assert name in labels
        assert not any("alone" in label for label in labels)
    path = folder / "studies/betas/imdb/released/hidden_norm/reference/attributions.json"
    path.unlink()
    (rows,) = study_rows.load(replace(stored, folder=folder), "betas")
    assert rows.x_alone() == "norm of X (not recorded)"


def test_claims_on_studies_without_any(stored: Stored, tmp_path: Path) -> None:
    empty = replace(stored, folder=tmp_path)
    for judge in (best_layers, small_beta):
        assert judge(empty, pd.DataFrame(), "described").outcome == "not enough data"


def test_figures_show_the_most_first_curves(tmp_path: Path) -> None:
    run = write_run(tmp_path, datasets=("imdb",), protocols=("described",), drops={"iba": 0.3}, n=N)
    write_point(run, "layers", "described", "iba/layer=1", falling(N, 0.3))
    both = pd.concat(
        [
            degradation("described", "imdb", "iba", falling(N, drop), orders=(order,))
            for order, drop in (("most", 0.3), ("least", 0.05))
        ]
    )
    for cell in ("imdb/described/iba", "studies/layers/imdb/described/iba/layer=1"):
        write_parquet(run / cell / "degradation.parquet", both)
    stored = load(configured(tmp_path, *CONFIG))
    panel = figure1.panel(stored, "described", "imdb", figure1.unscaled)
    assert panel is not None
    assert panel.curve[0, 1] == pytest.approx(0.6)
    (rows,) = study_rows.load(stored, "layers")
    assert rows.points[1].curve.iloc[:, 1].mean() == pytest.approx(0.6)
