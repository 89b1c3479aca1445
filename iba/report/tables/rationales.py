"""Agreement with people: how well the scores find the words that people marked. Apart from faithfulness."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from iba.evaluation.measures import measured_in
from iba.report.frame import Frame, summarise
from iba.report.notes import chosen_settings, dataset_notes
from iba.report.stored import CELL, Stored
from iba.report.tables import Spec
from iba.report.text import Grid, crossed, estimate

_MEASURES = list(measured_in("rationales"))


def _marked(stored: Stored) -> Frame:
    frame = stored.of_methods(stored.known, stored.marked)
    return frame.where(~frame.rows.duplicated([*CELL, "instance_id"]).to_numpy())  # one row for all operators


def rationale_rows(stored: Stored) -> pd.DataFrame:
    """One row per cell and measure: n, mean, interval, and `chance`, the mean that a random order expects."""
    frame = _marked(stored)
    rows = summarise(frame, CELL, _MEASURES, stored.how).astype({"measure": str})
    means = frame.rows.groupby(CELL, observed=True)[[f"{name}_chance" for name in _MEASURES]].mean()
    chance = means.set_axis(_MEASURES, axis=1).rename_axis("measure", axis=1).stack()
    return rows.join(chance.rename("chance"), [*CELL, "measure"])


def grids(stored: Stored, rows: pd.DataFrame) -> Iterator[Grid]:
    """Per data set methods against measures, the largest AUPRC first, then a random order."""
    records = stored.records(_marked(stored))
    notes = [
        "Agreement with people is plausibility, not faithfulness: people mark what convinces them, whatever "
        "the classifier read.",
        "AUPRC: average precision of the tokens ranked by score. Top k: the k tokens with the largest scores "
        "beside the k marked ones; F1 is precision and recall as well. Counted are the tokens that may be "
        "removed, of the sentences that people annotated for the class; texts without a mark are left out. "
        "Means over texts with intervals.",
        *chosen_settings(stored, records),
        *dataset_notes(stored, records),
    ]
    for (protocol, dataset), cells in rows.groupby(["protocol", "dataset"], observed=True):
        cells = cells.astype({"method": str}).assign(measure=pd.Categorical(cells["measure"], _MEASURES))
        ranked = cells.sort_values(["measure", "estimate"], ascending=[True, False], kind="stable")
        expected = ranked.drop_duplicates("measure").assign(
            method="a random order, on average",
            estimate=lambda of: of["chance"],
            ci_low=float("nan"),
            ci_high=float("nan"),
        )
        where = f"{stored.say('dataset', dataset)}, {stored.say('protocol', protocol)}"
        caption = f"Words marked by people ({where})"
        shown = pd.concat([ranked, expected])
        yield crossed(caption, stored.say, shown, ["method", "n"], "measure", estimate, notes)
        notes = []


TABLE = Spec("rationales", 100, rationale_rows, grids)
