"""The tries among which a method's settings were chosen: mean drop at 11 % on held-out training rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from iba.report.stored import Stored
from iba.report.tables import Spec
from iba.report.text import Grid, crossed, number, strong


def tries_rows(stored: Stored) -> pd.DataFrame:
    """One row per cell of Table 1 and try: protocol, dataset, method, settings (those that differ between
    tries), n, drop_11, chosen."""
    records = {cell: record["tuning"] for cell, record in stored.records().items() if "tuning" in record}
    return pd.DataFrame(
        {
            **dict(zip(("protocol", "dataset", "method"), cell, strict=True)),
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


def grids(stored: Stored, rows: pd.DataFrame) -> Iterator[Grid]:
    """Methods and tries against data sets."""
    notes = [
        f"Mean drop at 11 %, Table 1's own measure, on {rows['n'].iloc[0]} training rows that fine-tuning "
        "did not see. **Bold**: the settings taken for the test.",
        "A setting that is not named has its default. Methods that are not here were not tuned.",
    ]
    rows = rows.assign(dataset=pd.Categorical(rows["dataset"], stored.datasets))
    for protocol, found in rows.groupby("protocol"):
        caption, keys = f"Tries, {stored.say('protocol', protocol)} (`{protocol}`)", ["method", "settings"]
        yield crossed(caption, stored.say, found, keys, "dataset", _drop, notes)


def _drop(row: Any) -> str:
    return strong(number(row.drop_11), row.chosen)


TABLE = Spec("tries", 45, tries_rows, grids)
