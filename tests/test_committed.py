"""A committed table is what the committed rows give."""

from __future__ import annotations

from io import StringIO

import pandas as pd
from composing import composed

from iba.report.stored import load
from iba.report.tables.table1 import TABLE


def test_the_campaigns_table1_follows_from_its_rows() -> None:
    stored = load(composed("preset=campaign"))
    made = pd.read_csv(StringIO(TABLE.rows(stored).to_csv(index=False, float_format="%.6g")))
    committed = pd.read_csv(stored.folder / "table1.csv")
    pd.testing.assert_frame_equal(made, committed, check_dtype=False, rtol=1e-5)
