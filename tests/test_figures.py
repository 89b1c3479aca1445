"""Figure 1, the curves that it draws, and what all figures share."""

from __future__ import annotations

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from fake_results import DROPS, configured, falling, write_cell, write_run
from matplotlib.figure import Figure

from iba.evaluation.stats import Resampling
from iba.report import drawing, figure1
from iba.report.drawing import Picture
from iba.report.figure1 import mean_curves
from iba.report.stored import Stored, load

SMALL = ("dataset=[imdb,agnews]", "protocol=[released,corrected]")
HOW = Resampling(0.95, 300, 3)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Stored:
    root = tmp_path_factory.mktemp("stored")
    write_run(root, datasets=("imdb", "agnews"), protocols=("released", "corrected"))
    return load(configured(root, *SMALL))


def pictures(stored: Stored) -> dict[str, Picture]:
    with matplotlib.rc_context(drawing.LOOK):
        return {picture.stem: picture for picture in figure1.pictures(stored)}


def test_the_normalised_drop_by_hand() -> None:
    """o = 0.9, m = 0.1 (the lower end), so (0.5 − 0.1)/0.8 = 0.5 and the other end is (0.3 − 0.1)/0.8."""
    probabilities = np.array([[[0.9, 0.5, 0.1], [0.9, 0.9, 0.3]]] * 4)
    found = mean_curves(["a", "b"], probabilities, np.linspace(0, 1, 3), HOW)
    np.testing.assert_allclose(found.shown, [[[1, 0.5, 0], [1, 1, 0.25]]] * 3)
    nothing_lost = mean_curves(["a"], np.full((4, 1, 3), 0.5), np.linspace(0, 1, 3), HOW)
    assert np.isnan(nothing_lost.shown).all()


def test_intervals_of_the_normalised_drop_start_with_no_width() -> None:
    rng = np.random.default_rng(0)
    probabilities = np.concatenate([np.full((30, 2, 1), 0.9), rng.uniform(0.1, 0.5, (30, 2, 4))], axis=2)
    probabilities[:, :, 0] = rng.uniform(0.7, 0.9, (30, 1))
    found = mean_curves(["a", "b"], probabilities, np.linspace(0, 1, 5), HOW)
    np.testing.assert_allclose(found.shown[:, :, 0], 1)
    mean, low, high = found.shown[:, :, 1:-1]
    assert (low < mean).all()
    assert (mean < high).all()
    np.testing.assert_allclose(found.unscaled().shown[0], probabilities.mean(0))


@pytest.mark.parametrize(
    ("ends", "lost"),
    [
        ([0.4, 0.2], None),  # no resample loses less than 0.5
        ([0.6, 0.0], None),  # 0.6 is lost, and hardly a resample loses less than 0.45
        ([1.0, 0.6], "0.10"),  # half the texts gain by being emptied
        ([0.9, 0.9], "0.00"),
        ([1.0, 1.0], "−0.10"),
    ],
)
def test_when_too_little_is_lost_for_the_normalised_drop(ends: list[float], lost: str | None) -> None:
    """o = 0.9, m = the mean of the ends of 16 texts."""
    probabilities = np.array([[[0.9, end]] for end in ends * 8])
    found = mean_curves(["a"], probabilities, np.array([0.0, 1.0]), HOW)
    assert found.too_small == (f":\no − m = {lost} is\ntoo small for $\\bar{{d}}$" if lost else "")


def test_where_too_little_is_lost_all_protocols_show_the_probability(tmp_path: Path) -> None:
    """On AG News half the texts gain by being emptied (0.9 to 0.1, 0.1 to 0.8)."""
    run = write_run(tmp_path, datasets=("imdb", "agnews"), protocols=("released", "corrected"))
    gains = np.vstack([falling(10, 0.3), np.linspace(0.1, 0.8, 10)[None].repeat(10, 0)])
    for method in DROPS:
        write_cell(run, "agnews", "corrected", method, gains)
    found = pictures(load(configured(tmp_path, *SMALL)))
    for stem, start in (("figure1", [1, 0.9, 1, 0.5]), ("figure1_probability", [0.9, 0.9, 0.9, 0.5])):
        panels = found[stem].figure.axes
        assert [axes.lines[0].get_ydata()[0] for axes in panels] == pytest.approx(start)
        said = [axes.texts[0].get_text() for axes in panels]
        assert [text != "" for text in said] == ([False, True] * 2 if stem == "figure1" else [False] * 4)
    assert "o − m = 0.05" in found["figure1"].figure.axes[3].texts[0].get_text()


def test_figure_1_has_an_unscaled_companion(stored: Stored) -> None:
    found = pictures(stored)
    assert list(found) == ["figure1", "figure1_probability"]
    for picture in found.values():
        titles = [axes.get_title() for axes in picture.figure.axes]
        assert titles == ["IMDB\nn = 20", "AG News\nn = 20", "", ""]


def test_figures_show_the_most_first_curves(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb",), protocols=("described",), drops={"iba": 0.3}, n=8)
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=described"))
    (found,) = figure1.panels(stored).values()
    assert found.unscaled().shown[0, 0, 1] == pytest.approx(0.6)


def test_the_legend_has_the_configured_order_whatever_a_panel_lacks(tmp_path: Path) -> None:
    write_run(tmp_path, datasets=("imdb",), protocols=("released",), drops={"random": 0.02})
    write_run(tmp_path, datasets=("imdb",), protocols=("corrected",))
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=[released,corrected]"))
    (legend,) = pictures(stored)["figure1"].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["IBA", "IG", "LIME", "Random"]


def test_the_legend_fits_a_figure_of_one_panel(tmp_path: Path) -> None:
    """Nothing is drawn outside the figure."""
    write_run(tmp_path, datasets=("imdb",), protocols=("described",), n=8)
    stored = load(configured(tmp_path, "dataset=imdb", "protocol=described"))
    with matplotlib.rc_context(drawing.LOOK):
        figure = pictures(stored)["figure1"].figure
        figure.draw_without_rendering()
        box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_every_figure_names_encoder_and_preset(stored: Stored, tmp_path: Path) -> None:
    assert stored.made_with == "bge-small-en-v1.5, preset bge_small"
    write_run(tmp_path, "bge_small/mine", ("rte",), ("described",))
    other = load(configured(tmp_path, "dataset=rte", "protocol=described", "run=bge_small/mine"))
    assert other.made_with.endswith("preset bge_small, run bge_small/mine")
    with matplotlib.rc_context(drawing.LOOK):
        figure = Figure(figsize=(4, 2), layout="constrained")
        figure.subplots()
        png = drawing.save(figure, tmp_path / "one", stored.made_with)
    across, up = 4 * 220, round((2 + drawing._FOOT) * 220)
    pixels = matplotlib.image.imread(png)
    assert pixels.shape[:2] == pytest.approx((up, across), abs=1)
    foot = pixels[-round(drawing._FOOT * 220) :, :, :3]
    assert foot.min() < 0.6, "something is printed there"
    assert (foot[-2:] == 1).all(), "and not cut off"
    assert png.with_suffix(".pdf").is_file()
