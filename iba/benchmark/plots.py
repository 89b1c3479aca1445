"""How cost grows: one panel per thing that is varied, doubly logarithmic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from iba.store import atomic

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
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    figure.get_layout_engine().set(wspace=0.06)  # type: ignore[union-attr,call-arg]
    axes = figure.subplots(1, len(_PANELS))
    for axis, (sweep, (label, column, unit)) in zip(axes, _PANELS.items(), strict=True):
        chosen = rows[rows["sweep"] == sweep]
        for operation, line in chosen.groupby("operation"):
            line = line.sort_values("value")
            x, y = line["value"].to_numpy(float), line[column].to_numpy(float)
            name, colour = styles.get(str(operation), (str(operation).capitalize(), None))
            axis.plot(x, y, "o-", ms=3.5, lw=1.2, color=colour or "#333333", label=name)
            if sweep in ("tokens", "instances"):
                axis.plot(x, y[0] * x / x[0], ":", lw=0.8, color="#999999")
        axis.set(xlabel=label, ylabel=unit, yscale="log")
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter("{x:g}")
        if sweep == "layer":
            axis.set_ylim(*_decade(chosen[column]))
            axis.set_xticks(sorted(set(chosen["value"])))
        else:
            axis.set_xscale("log", base=2)
            axis.xaxis.set_major_formatter("{x:g}")
        axis.grid(alpha=0.25)
    handles, _ = axes[0].get_legend_handles_labels()
    handles.append(Line2D([], [], color="#999999", linewidth=0.8, linestyle=":", label="proportional"))
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
    where = [*rows["dataset"].unique(), *_usual(rows), *rows["precision"].unique(), device]
    figure.supxlabel(", ".join(where), x=1, ha="right", fontsize=7, color="0.4")
    # Type 42 keeps the text of the pdf selectable.
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        for suffix in (".png", ".pdf"):
            with atomic(stem.with_name(stem.name + suffix)) as temporary:
                figure.savefig(temporary, dpi=200)


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
