"""The project's progress bars: on a terminal alone, so that pipes and logs hold text; gone when work ends."""

from __future__ import annotations

from functools import partial

from tqdm import tqdm

progress = partial(tqdm, leave=False, disable=None)  # None: unless standard error is a terminal
