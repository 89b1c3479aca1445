"""The tries among which a method's settings were chosen: mean drop at 11 % on held-out training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from iba.report.stored import CELL, Stored
from iba.report.tables import Grids, Spec, ordered
from iba.report.text import crossed, number, span, strong


def tries_rows(stored: Stored) -> pd.DataFrame:
    """One row per cell and try: protocol, dataset, method, settings (those that differ between tries), n,
    drop_11, chosen."""
    frame = stored.of_methods(stored.known, stored.names.datasets | stored.evident)
    records = {cell: r["tuning"] for cell, r in stored.records(frame).items() if "tuning" in r}
    return pd.DataFrame(
        {
            **dict(zip(CELL, cell, strict=True)),
            "settings": words,
            "n": tuning["key"]["rows"]["n"],
            "drop_11": drop,
            "chosen": place == tuning["chosen"],
        }
        for cell, tuning in records.items()
        for place, (words, drop) in enumerate(zip(varied(tuning["settings"]), tuning["drop_11"], strict=True))
    )


def varied(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """What differs between settings, in words: β 0.1, kernel_width 25."""
    every = dict.fromkeys(name for each in settings for name in each)
    names = [name for name in every if len({str(each.get(name)) for each in settings}) > 1]
    return [", ".join(_told(name, each[name]) for name in names if name in each) for each in settings]


def _told(name: str, value: Any) -> str:
    value = f"{value:g}" if isinstance(value, float) else value
    return f"{'β' if name == 'beta' else name} {value}"


def grids(stored: Stored, rows: pd.DataFrame) -> Grids:
    """Methods and tries against data sets."""
    notes = [
        f"Mean drop at 11 %, Table 1's own measure, on {span(rows['n'])} training rows that fine-tuning "
        "did not see. **Bold**: the settings taken for the test.",
        "A setting that is not named has its default. Methods that are not here were not tuned.",
    ]
    rows = ordered(rows, {"dataset": stored.names.datasets | stored.evident})
    for protocol, found in rows.groupby("protocol"):
        caption, keys = f"Tries, {stored.say('protocol', protocol)} (`{protocol}`)", ["method", "settings"]
        yield crossed(caption, stored.say, found, keys, "dataset", _drop, notes)


def _drop(row: Any) -> str:
    return strong(number(row.drop_11), row.chosen)


TABLE = Spec("tries", 45, tries_rows, grids)
