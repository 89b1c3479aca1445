"""The benchmark's tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from rich.console import Console
from rich.table import Table

_COMPARISON = {
    "operation": "operation",
    "dataset": "data set",
    "precision": "precision",
    "layer": "layer",
    "mean_tokens": "tokens",
    "reference_ms": "reference ms",
    "ours_ms": "ours ms",
    "ratio": "ratio",
    "peak_memory_mb": "peak MB",
    "flops_per_s": "GFLOP/s",
    "peak_share": "of peak",
    "score_correlation": "score rank corr.",
}


def comparison(rows: pd.DataFrame, machine: pd.DataFrame, full_rows: Mapping[str, int]) -> None:
    """Ours beside the reference, the machine's peak, and the projected time of Table 1."""
    console = Console(width=150)
    for peak in machine.itertuples():
        rate = peak.matmul_flops_per_s / 1e9
        what = f"a {peak.precision} product of two {peak.matmul_size}² matrices"
        console.print(f"{peak.device}: {rate:,.0f} GFLOP/s in {what}")
    table = Table(title="milliseconds per instance; the same instances and device on both sides")
    for title in _COMPARISON.values():
        table.add_column(title, justify="right")
    for row in rows.to_dict("records"):
        table.add_row(*(_cell(name, row[name]) for name in _COMPARISON))
    console.print(table)
    seconds = table_1_seconds(rows, full_rows)
    if seconds is not None:
        what = f"Table 1 on all {sum(full_rows.values()):,} instances, one protocol"
        console.print(f"{what}: {seconds / 60:,.0f} min (projected)")
        console.print(
            "There the degradation test is the curve of one order; the stage also walks the other order and "
            "the ERASER shares, so it takes longer."
        )


def host(rows: pd.DataFrame) -> None:
    """The CPU's work per text, ours beside a straightforward version's."""
    table = Table(title="CPU milliseconds per text beside a forward pass that costs nothing")
    for title in rows.columns:
        table.add_column(title.replace("_", " "), justify="right")
    for row in rows.itertuples(index=False):
        table.add_row(*("" if pd.isna(v) else v if isinstance(v, str) else f"{v:.4g}" for v in row))
    Console(width=150).print(table)


def table_1_seconds(rows: pd.DataFrame, full_rows: Mapping[str, int]) -> float | None:
    """Projected seconds of Table 1: every attribution once, the degradation test for each of four methods.

    In the fastest measured precision; None unless every data set of `full_rows` was measured.
    """
    if not set(full_rows) <= set(rows["dataset"]):
        return None
    best = rows.groupby(["dataset", "operation"])["ours_ms"].min()
    times = {"degradation": 4}
    return float(
        sum(ms * times.get(str(o), 1) * full_rows[str(d)] for (d, o), ms in best.items() if d in full_rows)
        / 1e3
    )


def precision(rows: pd.DataFrame) -> None:
    """What bf16 changes, per method."""
    if rows.empty:
        return
    table = Table(title="bf16 against fp32: rank correlation of the scores per instance, mean drop at 11 %")
    for title in (
        "method",
        "data set",
        "n",
        "median",
        "5th percentile",
        "drop fp32",
        "drop bf16",
        "difference",
        "its interval",
    ):
        table.add_column(title, justify="right")
    for r in rows.itertuples():
        numbers = (r.rank_correlation_median, r.rank_correlation_p05, r.mean_drop_fp32, r.mean_drop_bf16)
        ends = f"[{r.difference_low:+.4f}, {r.difference_high:+.4f}]"
        table.add_row(
            r.method,
            r.dataset,
            str(r.n),
            *(f"{v:.4f}" for v in numbers),
            f"{r.mean_drop_difference:+.4f}",
            ends,
        )
    Console(width=150).print(table)


def _cell(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(str(value))
    if pd.isna(number):
        return ""
    forms = {"flops_per_s": f"{number / 1e9:,.1f}", "peak_share": f"{number:.1%}", "ratio": f"{number:,.1f}×"}
    forms |= {"score_correlation": f"{number:.4f}", "layer": f"{number:.0f}"}
    return forms.get(name, f"{number:,.1f}")
