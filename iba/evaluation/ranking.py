"""The order in which the degradation test removes tokens: by score, never [CLS] or [SEP].

Of tokens with equal scores the earlier counts as the more important. Least first is the same order from its
end, so what one of the two has removed is what the other has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

Order = Literal["most", "least"]
#: Share of all tokens after whose removal Table 1 reads the drop: the first of the paper's steps, "11 %".
FIRST_STEP = 1 / 9


def removal_order(scores: Sequence[float], special: Sequence[bool], order: Order) -> list[int]:
    """Positions of removable tokens, the first to be removed first."""
    removable = [i for i, is_special in enumerate(special) if not is_special]
    ranked = sorted(removable, key=lambda i: (-scores[i], i))
    return ranked if order == "most" else ranked[::-1]
