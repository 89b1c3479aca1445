"""What the terminal gets: progress bars there alone, so that pipes and logs hold text; any character."""

from __future__ import annotations

import io
from functools import partial

from tqdm import tqdm

#: Gone when the work ends.
progress = partial(tqdm, leave=False, disable=None)  # None: unless standard error is a terminal


def forgive_encoding(stream: object) -> None:
    """Write out what the stream's encoding lacks (β in a Windows console's cp1252) instead of failing."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
