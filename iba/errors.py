"""The one exception type that means "the user can mend this": shown as a single line, never as a trace."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in what the user gave (configuration, data, files); its text says what to do."""
