"""The one exception type that means "the user can mend this": shown as a single line, never as a trace."""

from __future__ import annotations

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
