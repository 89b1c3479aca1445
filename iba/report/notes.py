"""The small print under tables and figures, taken from the stored records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter

from iba.pipeline.views import View
from iba.report.stored import Record, Stored
from iba.report.text import share, span

#: By protocol, data set and method.
Records = Mapping[tuple[str, str, str], Record]


def dataset_notes(stored: Stored, records: Records) -> list[str]:
    """The precision, which cells are older, then a line per data set, with its own note."""
    precisions = sorted({str(record["settings"]["precision"]) for record in records.values()})
    lines = [f"Attributions and probabilities computed in {' and '.join(precisions)}."]
    versions = {key: record["settings"]["numerics"] for key, record in records.items()}
    older = _grouped(
        (f"{stored.say('method', method)} (`{protocol}`): {{}}", stored.say("dataset", dataset))
        for (protocol, dataset, method), version in versions.items()
        if version != max(versions.values())
    )
    if older:
        what = "Made by an older version of the numerics than the rest, whose scores may differ"
        lines.append(f"{what}: {older}.")
    for dataset in dict.fromkeys(dataset for _, dataset, _ in records):
        settings, measured = (stored.classifiers[dataset][part] for part in ("settings", "provenance"))
        attributed = span(record["n"] for (_, of, _), record in records.items() if of == dataset)
        line = (
            f"{stored.say('dataset', dataset)}: {attributed} instances attributed; classifier trained on "
            f"{settings['recipe']['n_train']} rows, accuracy {share(measured['accuracy'])} on "
            f"{measured['n_accuracy']} rows; {share(measured['truncated_share'])} of those texts cut at "
            f"{settings['max_length']} tokens."
        )
        lines.append(f"{line} {stored.notes.get(dataset, '')}".strip())
    return lines


def method_notes(stored: Stored, records: Records) -> list[str]:
    """Which class was explained, where its settings come from, and which cells two protocols share."""
    targets = sorted({str(record["settings"]["target"]) for record in records.values()})
    cells = {key: stored.cells[View(stored.seed, None, None, *key)].cell for key in records}
    first = {cell: protocol for (protocol, *_), cell in reversed(cells.items())}
    shared = [
        (f"{stored.say('method', m)} under `{p}` and `{first[cell]}` ({{}})", stored.say("dataset", d))
        for (p, d, m), cell in cells.items()
        if p != first[cell]
    ]
    same = f"Same settings, hence the same scores: {_grouped(sorted(shared, key=itemgetter(0)))}."
    explained = f"Explained class: {' and '.join(targets)}."
    return [explained, *chosen_settings(records), *([same] if shared else [])]


def chosen_settings(records: Records) -> list[str]:
    """Where the settings that tries chose are listed, if there are any."""
    told = f"Settings chosen by the mean drop at 11 % on {calibration_rows(records)}: `tries.md`."
    return [told] if any("tuning" in record for record in records.values()) else []


def _grouped(found: Iterable[tuple[str, str]]) -> str:
    """What holds where: every sentence once, with all its places."""
    places: dict[str, list[str]] = {}
    for what, where in found:
        places.setdefault(what, []).append(where)
    return "; ".join(what.format(", ".join(where)) for what, where in places.items())


def untuned(stored: Stored, records: Records) -> str:
    """Which methods chose nothing under the protocols under which others did."""
    protocols = {protocol for (protocol, _, _), record in records.items() if "tuning" in record}
    without = {m for (p, _, m), record in records.items() if p in protocols and "tuning" not in record}
    return " and ".join(stored.say("method", m) for m in stored.methods if m in without - {"random"})


def calibration_rows(records: Records) -> str:
    """On how many held-out training rows the stored settings were chosen."""
    counts = {record["tuning"]["key"]["rows"]["n"] for record in records.values() if "tuning" in record}
    return f"{span(counts)} held-out training rows" if counts else "held-out training rows"
