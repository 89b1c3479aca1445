"""Information bottlenecks for attribution in transformers.

The calls that most need are here: `explain` and `explain_many` (scores) and `show`/`save` (to look at them).
They are imported when first used, so that importing a part of the package stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "explain": "iba.own_text.explanation",
    "explain_many": "iba.own_text.explanation",
    "Explanation": "iba.own_text.explanation",
    "save": "iba.own_text.files",
    "show": "iba.own_text.show",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'iba' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
