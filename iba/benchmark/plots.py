"""How cost grows: one panel per thing that is varied, doubly logarithmic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from iba.report import drawing

_PANELS = {
    "tokens": ("tokens per text", "ms_per_instance", "ms per instance"),
    "instances": ("instances", "ms", "ms in all"),
    "batch": ("instances per pass", "ms_per_instance", "ms per instance"),
    "layer": ("bottleneck after layer", "ms_per_instance", "ms per instance"),
}
#: Operation → its label and colour.
Styles = Mapping[str, tuple[str, str | None]]


def scaling(rows: pd.DataFrame, styles: Styles, device: str, stem: Path) -> None:
    """Draw `stem`.png and `stem`.pdf; dotted lines have slope 1 (cost proportional to what is varied)."""
    with matplotlib.rc_context(drawing.LOOK):
        figure = Figure(figsize=(1.25 * drawing.PAGE_WIDTH, 2.6), layout="constrained")
        grid = figure.subplots(1, len(_PANELS))
        for axes, (sweep, (label, column, unit)) in zip(grid, _PANELS.items(), strict=True):
            chosen = rows[rows["sweep"] == sweep].sort_values("value")
            for operation, line in chosen.groupby("operation"):
                x, y = line["value"].to_numpy(float), line[column].to_numpy(float)
                name, colour = styles.get(str(operation), (str(operation).capitalize(), None))
                axes.plot(x, y, "o-", color=colour or "#333333", label=name)
                if sweep in ("tokens", "instances"):
                    axes.plot(x, y[0] * x / x[0], ":", lw=0.8, color="#999999", label="proportional")
            axes.set(xlabel=label, ylabel=unit, yscale="log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_minor_locator(NullLocator())
            axes.yaxis.set_major_formatter("{x:g}")
            if sweep == "layer":
                axes.set_ylim(*_decade(chosen[column]))
                axes.set_xticks(sorted(set(chosen["value"])))
            else:
                axes.set_xscale("log", base=2)
                axes.xaxis.set_major_formatter("{x:g}")
            axes.grid(alpha=0.25)
        drawing.legend(figure)
        where = [*rows["dataset"].unique(), *_usual(rows), *rows["precision"].unique(), device]
        drawing.save(figure, stem, ", ".join(where))


def _usual(rows: pd.DataFrame) -> list[str]:
    """What the sweeps hold fixed."""
    tokens = rows.loc[rows["sweep"] != "tokens", "tokens"].mode()
    texts = rows.loc[rows["sweep"].isin(["tokens", "layer"]), "n"].mode()
    usual = [f"where not varied {tokens[0]:g} tokens"] if len(tokens) else []
    return usual + ([f"{texts[0]:g} texts"] if len(texts) else [])


def _decade(values: pd.Series) -> tuple[float, float]:
    """Limits of at least one decade around the values, so that a flat line looks flat."""
    if values.empty:
        return 1.0, 10.0
    low, high = float(values.min()), float(values.max())
    pad = max(1.0 - np.log10(high / low), 0.2) / 2
    return low / 10**pad, high * 10**pad
