"""The small print under tables and figures, taken from the stored records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter

from iba.pipeline.views import View
from iba.report.stored import Record, Stored
from iba.report.text import share, span

#: By protocol, data set and method.
Records = Mapping[tuple[str, str, str], Record]
_SYMBOLS = {"beta": "β"}


def dataset_notes(stored: Stored, records: Records) -> list[str]:
    """The precision, then a line per data set: rows, training rows, accuracy, truncation, its own note."""
    lines = [*_precision(records), *_numerics(stored, records)]
    for dataset in dict.fromkeys(dataset for _, dataset, _ in records):
        record = stored.classifiers[dataset]
        settings, measured = record["settings"], record["provenance"]
        line = (
            f"{stored.say('dataset', dataset)}: {settings['n']} instances attributed; classifier trained on "
            f"{settings['recipe']['n_train']} rows, accuracy {share(measured['accuracy'])} on "
            f"{measured['n_accuracy']} rows; {share(measured['truncated_share'])} of those texts cut at "
            f"{settings['max_length']} tokens."
        )
        lines.append(f"{line} {stored.notes[dataset]}" if dataset in stored.notes else line)
    return lines


def method_notes(stored: Stored, records: Records) -> list[str]:
    """Which class was explained, the settings that tries chose, and which cells share their scores."""
    targets = sorted({str(record["settings"].get("target")) for record in records.values()} - {"None"})
    lines = [f"Explained class: {' and '.join(targets)}."] if targets else []
    return [*lines, *chosen_settings(stored, records), *_shared_cells(stored, records)]


def chosen_settings(stored: Stored, records: Records) -> list[str]:
    """What every method chose among its tries, by data set; a choice at an end of a grid is marked."""
    chosen = _grouped(
        (
            f"{stored.say('method', m)} (`{p}`): {{}}",
            f"{stored.say('dataset', d)} {_winner(record['tuning'])}",
        )
        for (p, d, m), record in records.items()
        if record.get("tuning")
    )
    told = (
        "Settings chosen among tries by the largest mean drop at 11 %, Table 1's own measure, on "
        f"{calibration_rows(records)} (* an end of the grid): {chosen}. Methods not named here have "
        "nothing tuned this way."
    )
    return [told] if chosen else []


def _grouped(found: Iterable[tuple[str, str]]) -> str:
    """What holds where: every sentence once, with all its places."""
    places: dict[str, list[str]] = {}
    for what, where in found:
        places.setdefault(what, []).append(where)
    return "; ".join(what.format(", ".join(where)) for what, where in places.items())


def _winner(tuning: Record) -> str:
    """The settings that differ between tries, as the best has them; * where one number was at an end."""
    settings, best = tuning["settings"], tuning["settings"][tuning["chosen"]]
    varied = [name for name in best if len({str(each.get(name)) for each in settings}) > 1]
    told = {name: f"{best[name]:g}" if isinstance(best[name], float) else f"{best[name]}" for name in varied}
    grid = [each[name] for name in varied for each in settings] if len(varied) == 1 else []
    mark = "*" if grid and best[varied[0]] in (grid[0], grid[-1]) else ""
    return ", ".join(f"{_SYMBOLS.get(name, name)} {value}" for name, value in told.items()) + mark


def untuned(stored: Stored, records: Records) -> str:
    """Which methods chose nothing under the protocols under which others did."""
    protocols = {protocol for (protocol, _, _), record in records.items() if "tuning" in record}
    without = {m for (p, _, m), record in records.items() if p in protocols and "tuning" not in record}
    return " and ".join(stored.say("method", m) for m in stored.methods if m in without - {"random"})


def calibration_rows(records: Records) -> str:
    """On how many held-out training rows the stored settings were chosen."""
    counts = {record["tuning"]["key"]["rows"]["n"] for record in records.values() if "tuning" in record}
    return f"{span(counts)} held-out training rows" if counts else "held-out training rows"


def _precision(records: Records) -> list[str]:
    """In which precision the stored numbers were computed."""
    known = {str(record.get("settings", {}).get("precision")) for record in records.values()} - {"None"}
    return [f"Attributions and probabilities computed in {' and '.join(sorted(known))}."] if known else []


def _numerics(stored: Stored, records: Records) -> list[str]:
    """Which cells another version of the numerics made than the newest one here; scores may differ."""
    versions = {key: record.get("settings", {}).get("numerics") for key, record in records.items()}
    newest = max((version for version in versions.values() if version is not None), default=None)
    older = _grouped(
        (f"{stored.known[method].label} (`{protocol}`): {{}}", stored.say("dataset", dataset))
        for (protocol, dataset, method), version in versions.items()
        if version != newest
    )
    what = "Made by an older version of the numerics than the rest, whose scores may differ"
    return [f"{what}: {older}."] if older else []


def _shared_cells(stored: Stored, records: Records) -> list[str]:
    """The cells that are one and the same under two protocols."""
    first, shared = dict[str, str](), []
    for protocol, dataset, method in records:
        cell = stored.cells[View(stored.seed, None, None, protocol, dataset, method)].cell
        if (other := first.setdefault(cell, protocol)) != protocol:
            what = f"{stored.known[method].label} under `{protocol}` and `{other}` ({{}})"
            shared.append((what, stored.say("dataset", dataset)))
    shared.sort(key=itemgetter(0))
    return [f"Same settings, hence the same scores: {_grouped(shared)}."] if shared else []
