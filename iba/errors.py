"""The one exception type that means "the user can mend this": shown as a single line, never as a trace."""

from __future__ import annotations

import math
from typing import Any


class UserError(Exception):
    """A mistake in what the user gave (configuration, data, files); its text says what to do."""


def refuse_unless_whole(setting: str, value: Any, least: int, of_rows: bool = False) -> None:
    """Raise `UserError` unless `value` is a whole number from `least` on; a number of rows may be None."""
    if value is None and of_rows:
        return
    if not isinstance(value, int) or value < least:
        otherwise = ", or null for all rows" if of_rows else ""
        raise UserError(f"{setting}={value}: give a whole number from {least} on{otherwise}.")


def refuse_unless_number(
    setting: str, value: Any, least: int | float, most: int | float = math.inf, ends: bool = True
) -> None:
    """Raise `UserError` unless `value` is a number from `least` to `most`, the two included if `ends`."""
    given = isinstance(value, int | float) and not isinstance(value, bool)
    if not (given and least <= value <= most and (ends or least < value < most)):
        limits = f"{'from' if ends else 'above'} {least:g}"
        if most < math.inf:
            limits += f" {'to' if ends else 'and below'} {most:g}"
        raise UserError(f"{setting}={value}: give a number {limits}.")
