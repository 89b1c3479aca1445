"""Agreement with people: how well the scores find the words that people marked. Apart from faithfulness."""

from __future__ import annotations

import pandas as pd

from iba.evaluation.measures import measured_in
from iba.report.frame import Frame, summarise
from iba.report.notes import chosen_settings, dataset_notes
from iba.report.stored import CELL, Stored
from iba.report.tables import Grids, Spec, ordered
from iba.report.text import crossed, estimate

_MEASURES = list(measured_in("rationales"))


def _marked(stored: Stored) -> Frame:
    """Under the protocol of all methods: of another one there may be shared cells, of some methods alone."""
    frame = stored.of_methods(stored.known, stored.marked).of(protocol=stored.methods_protocol)
    return frame.where(~frame.rows.duplicated([*CELL, "instance_id"]).to_numpy())  # one row for all operators


def rationale_rows(stored: Stored) -> pd.DataFrame:
    """One row per cell and measure: n, mean, interval, and `chance`, the mean that a random order expects."""
    frame = _marked(stored)
    rows = summarise(frame, CELL, _MEASURES, stored.how).astype({"measure": str})
    means = frame.rows.groupby(CELL, observed=True)[[f"{name}_chance" for name in _MEASURES]].mean()
    chance = means.set_axis(_MEASURES, axis=1).rename_axis("measure", axis=1).stack()
    return rows.join(chance.rename("chance"), [*CELL, "measure"])


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """Per data set methods against measures, the largest AUPRC first, then a random order."""
    records = stored.records(_marked(stored))
    notes = [
        "Agreement with people is plausibility, not faithfulness: people mark what convinces them, whatever "
        "the classifier read.",
        "AUPRC: average precision of the tokens ranked by score. Top k: the k tokens with the largest scores "
        "beside the k marked ones; F1 is precision and recall as well. Counted are the tokens that may be "
        "removed, of the sentences that people annotated for the class; texts without a mark are left out. "
        "Means over texts with intervals.",
        *chosen_settings(records),
        *dataset_notes(stored, records),
    ]
    ranked = rows.astype({"method": str}).sort_values("estimate", ascending=False, kind="stable")
    ranked = ordered(ranked, {"measure": _MEASURES})
    for (protocol, dataset), cells in ranked.groupby(["protocol", "dataset"], observed=True):
        chance = cells.drop_duplicates("measure")[["measure", "n", "chance"]]
        chance = chance.rename(columns={"chance": "estimate"}).assign(method="a random order, on average")
        where = f"{stored.say('dataset', dataset)}, {stored.say('protocol', protocol)}"
        shown, caption = pd.concat([cells, chance]), f"Words marked by people ({where})"
        yield crossed(caption, stored.say, shown, ["method", "n"], "measure", estimate, notes)
        notes = []


TABLE = Spec("rationales", 100, rationale_rows, grids)
