"""The tables of the paper and beyond it: each a choice of rows, columns and notes over the frame.

The paper prints |p̄(11 %) − o| in Table 1. Here `drop_11` = o − p̄(11 %) keeps its sign: it is the paper's
number wherever the probability falls, and where it rises a reader must see that it rises.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from iba.evaluation.measures import MEASURES, measured_in
from iba.report.frame import summarise
from iba.report.notes import dataset_notes, method_notes
from iba.report.stored import CELL, TESTED, Stored
from iba.report.text import Grid, Table, crossed, estimate, interval, listed, number, p_value, share, strong

#: By protocol and data set.
Winners = dict[tuple[str, str], str | None]


# --- tests --------------------------------------------------------------------------------------------


def by_drop(tests: pd.DataFrame) -> pd.DataFrame:
    """The tests of the drop at 11 %, Table 1's own measure."""
    return tests[tests["measure"] == TESTED[0]]


def signed(tests: pd.DataFrame, first: str, second: str) -> pd.Series | None:
    """The comparison of `first` with `second`, turned round if it was stored the other way."""
    direct = tests[(tests["first"] == first) & (tests["second"] == second)]
    if len(direct):
        return direct.iloc[0]
    reverse = tests[(tests["first"] == second) & (tests["second"] == first)]
    if not len(reverse):
        return None
    row = reverse.iloc[0].copy()
    row["first"], row["second"] = first, second
    row["difference"], row["effect_size"] = -row["difference"], -row["effect_size"]
    row["ci_low"], row["ci_high"] = -row["ci_high"], -row["ci_low"]
    return row


def significantly_best(tests: pd.DataFrame, alpha: float) -> str | None:
    """The method that beats every other one in a family of tests, if there is one."""
    methods = set(tests["first"]) | set(tests["second"])
    for method in methods:
        against = [signed(tests, method, other) for other in methods - {method}]
        if all(row is not None and row["difference"] > 0 and row["p_holm"] < alpha for row in against):
            return str(method)
    return None


def winners(stored: Stored) -> Winners:
    """The significantly best method of every protocol and data set, where there is one."""
    return {
        (protocol, dataset): significantly_best(family, 1 - stored.how.confidence)
        for (protocol, dataset), family in by_drop(stored.tests).groupby(["protocol", "dataset"])
        if {*family["first"], *family["second"]}  # no winner while one is missing
        == {name for name in stored.methods if stored.known[name].belongs(str(protocol))}
    }


# --- Table 1 ------------------------------------------------------------------------------------------


def table1_rows(stored: Stored) -> pd.DataFrame:
    """One row per cell: protocol, dataset, method, n, drop_11 with its interval, the paper's, accuracy."""
    rows = summarise(stored.deletion, CELL, ["drop_11"], stored.how).drop(columns="measure")
    theirs = [stored.paper.drops.get((row.dataset, row.method), float("nan")) for row in rows.itertuples()]
    accuracy = [stored.classifiers[dataset]["provenance"]["accuracy"] for dataset in rows["dataset"]]
    rows = rows.assign(paper_drop_11=theirs, difference=rows["estimate"] - theirs, accuracy=accuracy)
    return rows.rename(columns={"estimate": "drop_11"})


def table1(stored: Stored) -> Table:
    """`table1.*` and `tests.csv`: all protocols side by side, then each with its distance from the paper."""
    rows, best = table1_rows(stored), winners(stored)
    caption = f"Table 1. Drop of the target's probability after the top 11 % of tokens ({stored.title})"
    grids = [_side_by_side(stored, rows, best, caption, _table1_notes(stored))]
    columns = {
        "n": lambda row: str(row.n),
        f"ours [{stored.how.percent} interval]": lambda row: _drop(row, best),
        "paper": lambda row: number(row.paper_drop_11),
        "ours − paper": lambda row: number(row.difference),
        "accuracy": lambda row: share(row.accuracy),
    }
    for protocol, cells in rows.groupby("protocol", observed=True):
        caption = f"Table 1, {stored.say('protocol', protocol)} (`{protocol}`)"
        grids.append(listed(caption, stored.say, cells, ["dataset", "method"], columns))
    return Table("table1", rows, grids, "drop", {"tests": stored.tests})


def _side_by_side(
    stored: Stored, rows: pd.DataFrame, best: Winners, caption: str, notes: Sequence[str]
) -> Grid:
    """Data set and method against the protocols, with the paper's number; winners in bold."""
    ordered = rows.assign(paper=rows["paper_drop_11"].map(number)).sort_values(
        ["dataset", "method"], kind="stable"
    )
    across = "protocol", stored.protocols
    keys = ["dataset", "method", "paper"]
    return crossed(caption, stored.say, ordered, keys, across, lambda row: _drop(row, best), notes)


def _drop(row: Any, best: Winners) -> str:
    text = f"{number(row.drop_11)} {interval(row.ci_low, row.ci_high)}".strip()
    return strong(text, best.get((row.protocol, row.dataset)) == row.method)


def _table1_notes(stored: Stored) -> list[str]:
    return [
        f"Drop o − p̄(11 %) with its {stored.how.percent} interval (percentile bootstrap over instances, "
        f"{stored.how.n_resamples} resamples). The paper prints the absolute value; a minus sign here means "
        f"that the probability rose.",
        "**Bold**: larger than every other method of the same data set and protocol by a paired sign-flip "
        f"permutation test, Holm-corrected, p < {1 - stored.how.confidence:.2g}. All pairs, "
        "and those of the area over the curve (`measure`, a family of its own): `tests.csv`.",
        *dataset_notes(stored, stored.records()),
        *method_notes(stored, stored.records()),
    ]


# --- Table 1 where the classifier is right ------------------------------------------------------------


def table1_right(stored: Stored) -> Table:
    """`table1_right.*` and `tests_right.csv`: the texts whose explained class the classifier predicts.

    Where it predicts another class, the explained one has little left to lose and may gain by a removal. A
    mean over all texts thus mixes two kinds of text. Empty where all texts are such, or none.
    """
    right = stored.frame.rows["right"].to_numpy(bool)
    found = replace(stored, frame=stored.frame.where(right))
    if len(found.table1.rows) in (0, len(stored.table1.rows)):
        return Table("table1_right", pd.DataFrame(), [], "right")
    tests, rows = found.tests, table1_rows(found)
    shares = [f"{found.names.datasets[d]} {_count(found, d)} of {_count(stored, d)}" for d in found.datasets]
    caption = f"Table 1 on the texts that the classifier gets right ({stored.title})"
    notes = [
        f"Texts whose explained class is the predicted one: {', '.join(shares)}. Otherwise as Table 1.",
        "Below: differences between methods on these texts with their intervals and Holm-corrected p; all "
        "pairs: `tests_right.csv`.",
    ]
    whole = _side_by_side(found, rows, winners(found), caption, notes)
    grids = [whole, *(_differences(found, tests[tests["measure"] == m], m) for m in TESTED)]
    return Table("table1_right", rows, grids, "right", {"tests_right": tests})


def _count(stored: Stored, dataset: str) -> int:
    return int(stored.table1.of(dataset=dataset).rows["instance_id"].nunique())


def _differences(stored: Stored, tests: pd.DataFrame, measure: str) -> Grid:
    """The methods but random against each other, by one measure."""
    tests = tests[(tests["first"] != "random") & (tests["second"] != "random")]
    first, second = (tests[side].map(stored.names.methods) for side in ("first", "second"))
    return crossed(
        f"Differences on these texts, {MEASURES[measure].label}",
        stored.say,
        tests.assign(contrast=first + " − " + second),
        ["dataset", "contrast"],
        ("protocol", stored.protocols),
        lambda row: f"{number(row.difference)} {interval(row.ci_low, row.ci_high)}, {p_value(row.p_holm)}",
    )


def family(tests: pd.DataFrame, protocol: str, dataset: str) -> pd.DataFrame:
    """The tests of one data set and protocol."""
    return tests[(tests["protocol"] == protocol) & (tests["dataset"] == dataset)]


# --- planted evidence ---------------------------------------------------------------------------------


def planted_rows(stored: Stored) -> pd.DataFrame:
    """The recall of known evidence by every method that was run, and what a random ranking would reach."""
    frame = stored.of_methods(stored.known, stored.names.datasets | stored.evident)
    wide = summarise(frame, CELL, ["planted_recall", "planted_chance"], stored.how)
    chance = wide[wide["measure"] == "planted_chance"].set_index(CELL)["estimate"].rename("chance")
    rows = wide[wide["measure"] == "planted_recall"].join(chance, CELL).drop(columns="measure")
    found = kept(stored.folder / "planted.csv", rows.rename(columns={"estimate": "recall"}), CELL)
    return found.astype(dict.fromkeys(CELL, str)).sort_values(CELL, kind="stable", ignore_index=True)


def kept(path: Path, rows: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """`rows` and, of the table that is stored in `path`, those whose token scores are not stored; in the
    order of before."""
    if not path.is_file():
        return rows
    old, new = pd.read_csv(path), rows.astype(dict.fromkeys(keys, str))
    places = pd.concat([old, new])[list(keys)].drop_duplicates()
    return places.merge(pd.concat([new, old]).drop_duplicates(keys), on=list(keys))


def planted(stored: Stored) -> Table:
    """`planted.*`; the text only where a planted set was selected."""
    rows = planted_rows(stored)
    order = {"dataset": stored.datasets, "method": stored.methods}
    shown = rows[rows["dataset"].isin(stored.datasets) & rows["method"].isin(stored.methods)]
    shown = shown.sort_values([*order], kind="stable", key=lambda names: names.map(order[names.name].index))
    shown = shown.rename(columns={"recall": "estimate"}).assign(chance=shown["chance"].map(number))
    note = (
        "Share of an instance's k evidence tokens among its k tokens with the largest scores, mean over "
        "instances with its interval. Chance: what a random ranking reaches on average."
    )
    keys, across = ["dataset", "method", "n", "chance"], ("protocol", stored.protocols)
    grid = crossed("Planted evidence found", stored.say, shown, keys, across, estimate, [note])
    return Table("planted", rows, [grid] if len(shown) else [], "planted")


# --- Table 2 ------------------------------------------------------------------------------------------


def table2(stored: Stored) -> Table:
    """`table2.*`: rows attributed, scored and trained on, accuracy, length, label shares."""
    rows = pd.DataFrame([_table2_row(stored, dataset) for dataset in stored.datasets])
    columns = {
        "n": lambda row: str(row.n),
        "paper's n": lambda row: number(row.paper_n, 0),
        "training rows": lambda row: str(row.n_train),
        "accuracy": lambda row: share(row.accuracy),
        "accuracy on": lambda row: f"{row.n_accuracy} rows",
        "cut at": lambda row: f"{row.max_length} tokens",
        "cut": lambda row: share(row.truncated_share),
        "labels": lambda row: row.labels,
    }
    notes = [f"{stored.say('dataset', d)}: {stored.notes[d]}" for d in stored.datasets if d in stored.notes]
    caption = f"Table 2. Data sets ({stored.title})"
    return Table("table2", rows, [listed(caption, stored.say, rows, ["dataset"], columns, notes)], "data")


def _table2_row(stored: Stored, dataset: str) -> dict[str, object]:
    record = stored.classifiers[dataset]
    settings, measured = record["settings"], record["provenance"]
    return {
        "dataset": dataset,
        "n": settings["n"],
        "paper_n": float(stored.paper.test_rows.get(dataset, "nan")),
        "n_accuracy": measured["n_accuracy"],
        "n_train": settings["recipe"]["n_train"],
        "accuracy": measured["accuracy"],
        "max_length": settings["max_length"],
        "truncated_share": measured["truncated_share"],
        "labels": "; ".join(f"{name} {value:.3f}" for name, value in measured["label_distribution"].items()),
    }


# --- faithfulness -------------------------------------------------------------------------------------


def faithfulness(stored: Stored) -> Table:
    """`faithfulness.*`: every measure per cell and removal operator, a text table per protocol."""
    by, measures = ["dataset", "operator", "method"], list(measured_in("faithfulness"))
    rows = summarise(stored.table1, ["protocol", *by], measures, stored.how)
    grids = []
    for protocol, cells in rows.groupby("protocol", observed=True):
        caption = f"Faithfulness, {stored.say('protocol', protocol)} (`{protocol}`)"
        across = "measure", [m for m in measures if m in set(cells["measure"])]
        grids.append(crossed(caption, stored.say, cells, by, across, estimate, _area_notes(stored)))
    return Table("faithfulness", rows, grids, "faithfulness")


def _area_notes(stored: Stored) -> list[str]:
    notes = [
        "Mean over instances with its interval. ↑ larger is better, ↓ smaller is better.",
        "Areas by the trapezoid rule over the share of removed tokens, 0 % included: the mean drop on the "
        "curve. Pairs of methods by the area, tested: rows `area_over` of `tests.csv`.",
    ]
    shares = [f"{100 * fraction:g}" for fraction in stored.frame.shares]
    if shares:
        listed = " and ".join(part for part in (", ".join(shares[:-1]), shares[-1]) if part)
        notes.append(
            f"Comprehensiveness and sufficiency: mean over the top {listed} % of p(0) − p(without them) and "
            "p(0) − p(with them alone)."
        )
    return notes
