"""Table 1 on the texts that the classifier gets right: two kinds of text that a mean would mix."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_results import configured, falling, write_cell, write_run

from iba.report import right
from iba.report.rows import Stored, load

N = 20


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """IBA has the larger drop on the odd texts, which the classifier gets right, IG on the even ones."""
    run = write_run(tmp_path, datasets=("imdb",), protocols=("corrected",), n=N)
    for method, on_right, on_wrong in (("iba", 0.5, 0.1), ("ig", 0.4, 0.7)):
        curves = np.where(np.arange(N)[:, None] % 2, falling(N, on_right), falling(N, on_wrong))
        write_cell(run, "imdb", "corrected", method, curves)
    return load(configured(tmp_path, "dataset=imdb", "protocol=corrected"))


def test_only_the_texts_count_that_the_classifier_gets_right(stored: Stored) -> None:
    assert stored.matrix("corrected", "imdb")[["iba", "ig"]].mean().to_list() == pytest.approx(
        [0.3, 0.55], abs=0.02
    )
    found = right.report(stored)
    assert found.rows is not None
    drops = found.rows.set_index("method")
    assert drops.loc["iba", "drop_11"] == pytest.approx(0.5, abs=0.02)
    assert drops.loc["ig", "drop_11"] == pytest.approx(0.4, abs=0.02)
    assert set(drops["n"]) == {N // 2}
    assert set(found.beside["tests_right"]["n"]) == {N // 2}
    assert "IMDB 10 of 20" in found.grids[0].notes[0]
    (line,) = [row for row in found.grids[1].rows if row[1] == "IBA − IG"]
    assert line[2].startswith("0.1"), "IBA is ahead there, and behind over all texts"


def test_there_is_no_such_table_where_the_predicted_class_is_explained(stored: Stored) -> None:
    predicted = pd.read_parquet(stored.folder / "imdb" / "classifier.parquet").set_index("instance_id")
    curves = stored.curves.assign(target=stored.curves["instance_id"].map(predicted["predicted"]))
    assert not right.report(replace(stored, curves=curves)).grids
