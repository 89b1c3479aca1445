"""The benchmark's tables in the terminal."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

#: Column → its heading and how a number is written.
Columns = Mapping[str, tuple[str, str]]
_COMPARISON: Columns = {
    "operation": ("operation", "{}"),
    "dataset": ("data set", "{}"),
    "precision": ("precision", "{}"),
    "layer": ("layer", "{:.0f}"),
    "mean_tokens": ("tokens", "{:,.1f}"),
    "reference_ms": ("reference ms", "{:,.1f}"),
    "ours_ms": ("ours ms", "{:,.1f}"),
    "ratio": ("ratio", "{:,.1f}×"),
    "peak_memory_mb": ("peak MB", "{:,.1f}"),
    "flops_per_s": ("FLOP/s", "{:.2e}"),
    "peak_share": ("of peak", "{:.1%}"),
    "score_correlation": ("score rank corr.", "{:.4f}"),
}
_PRECISION: Columns = {
    "method": ("method", "{}"),
    "dataset": ("data set", "{}"),
    "n": ("n", "{}"),
    "rank_correlation_median": ("median", "{:.4f}"),
    "rank_correlation_p05": ("5th percentile", "{:.4f}"),
    "mean_drop_fp32": ("drop fp32", "{:.4f}"),
    "mean_drop_bf16": ("drop bf16", "{:.4f}"),
    "mean_drop_difference": ("difference", "{:+.4f}"),
    "difference_low": ("its interval: from", "{:+.4f}"),
    "difference_high": ("to", "{:+.4f}"),
}


def table(title: str, rows: pd.DataFrame, columns: Columns) -> None:
    """Print some columns of `rows`; what is not known is left empty."""
    named = rows[[*columns]].set_axis([heading for heading, _ in columns.values()], axis=1)
    forms = {heading: form.format for heading, form in columns.values()}
    print(title, named.to_string(index=False, formatters=forms, na_rep=""), sep="\n")


def comparison(rows: pd.DataFrame, machine: pd.DataFrame, full_rows: Mapping[str, int]) -> None:
    """Ours beside the reference, the machine's peak, and the projected time of Table 1."""
    for peak in machine.itertuples():
        rate = peak.matmul_flops_per_s / 1e9
        what = f"a {peak.precision} product of two {peak.matmul_size}² matrices"
        print(f"{peak.device}: {rate:,.0f} GFLOP/s in {what}")
    table("milliseconds per instance; the same instances and device on both sides", rows, _COMPARISON)
    projected(table_1_seconds(rows, full_rows), full_rows)


def precision(rows: pd.DataFrame) -> None:
    """What bf16 changes, per method."""
    if len(rows):
        title = "bf16 against fp32: rank correlation of the scores per instance, mean drop at 11 %"
        table(title, rows, _PRECISION)


def projected(seconds: float | None, full_rows: Mapping[str, int]) -> None:
    """The time of Table 1, where it is known."""
    if seconds is not None:
        what = f"Table 1 on all {sum(full_rows.values()):,} instances, one protocol"
        print(f"{what}: {seconds / 60:,.1f} min (projected)")
        print("That counts one order of removal; the stage also walks the other and the ERASER shares.")


def table_1_seconds(rows: pd.DataFrame, full_rows: Mapping[str, int]) -> float | None:
    """Projected seconds of Table 1: every attribution once, the degradation test for each of four methods.

    In the fastest measured precision; None unless every data set of `full_rows` was measured.
    """
    if not set(full_rows) <= set(rows["dataset"]):
        return None
    best = rows.groupby(["operation", "dataset"])["ours_ms"].min().unstack()[list(full_rows)]
    each = (best * pd.Series(full_rows)).sum(axis=1)
    return float((each * (1 + 3 * (each.index == "degradation"))).sum() / 1e3)
