"""The order in which the degradation test removes tokens: by score, never [CLS] or [SEP].

Ties are broken by position, the earlier token first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Order = Literal["most", "least"]


def removal_order(scores: Sequence[float], special: Sequence[bool], order: Order) -> list[int]:
    """Positions of removable tokens, the first to be removed first."""
    sign = -1.0 if order == "most" else 1.0
    removable = [i for i, is_special in enumerate(special) if not is_special]
    return sorted(removable, key=lambda i: (sign * scores[i], i))
