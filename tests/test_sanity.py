"""Sanity checks and rank agreement, from stored rows whose numbers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_results import configured, falling, write_attributions, write_point, write_run

from iba.report import agreement, sanity
from iba.report.rows import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on IMDB; explaining an untrained classifier takes IBA's drop from 0.30 to 0.05."""
    root = tmp_path_factory.mktemp("sanity")
    run = write_run(root, datasets=("imdb",), protocols=("described",))
    for weights, drop in (("fine-tuned", 0.30), ("random", 0.05)):
        write_point(run, "classifiers", "described", f"iba/weights={weights}", falling(20, drop))
    write_point(run, "classifiers", "described", "random/reference", falling(20, 0.02))
    for method in ("iba", "random"):
        write_attributions(run, "imdb", "described", method, 20)
    return root


def test_an_untrained_classifier_costs_the_method_its_power(folder: Path) -> None:
    stored = load(configured(folder, "dataset=imdb", "protocol=described"))
    rows = sanity.table(stored).set_index("point")
    assert list(rows.index) == ["fine-tuned", "random", "reference"]
    assert rows.drop_11.to_list() == pytest.approx([0.30, 0.05, 0.02])
    assert rows.loc["random", "difference"] == pytest.approx(-0.25)
    assert rows.loc[["fine-tuned", "reference"], "difference"].isna().all()
    texts = [p.read_text() for p in sanity.report(stored).write(stored.folder) if p.suffix == ".md"]
    assert "an untrained classifier is explained" in texts[0]


def test_kendall_by_hand() -> None:
    first, special = np.array([9.0, 1, 2, 3, 4]), np.array([True, False, False, False, False])
    # One of six pairs is turned round: (5 − 1) / 6.
    assert agreement.kendall(first, np.array([0.0, 1, 2, 4, 3]), special) == pytest.approx(4 / 6)
    assert agreement.kendall(first, -first, special) == pytest.approx(-1)
    assert np.isnan(agreement.kendall(first, np.ones(5), special))


def test_agreement_of_methods_is_kept_where_the_scores_are_gone(folder: Path) -> None:
    stored = load(configured(folder, "dataset=imdb", "protocol=described"))
    agreement.report(stored).write(stored.folder)
    path = stored.folder / "agreement.csv"
    (row,) = pd.read_csv(path).itertuples()
    assert (row.kind, row.first, row.second, row.n) == ("methods", "iba", "random", 20)
    # a very good film ##s: 0.1 0.4 0.9 0.3 −0.2 against 0.9 0.1 0.2 0.3 0.4.
    assert row.tau == pytest.approx(-0.6)
    before = path.read_bytes()
    for scores in stored.folder.rglob("attributions.parquet"):
        scores.unlink()
    agreement.report(stored).write(stored.folder)
    assert path.read_bytes() == before
