"""IBA with one gate μ per token in place of one per token and feature, as in DiffMask (De Cao et al. 2020).

DiffMask gates whole token vectors with stochastic binary gates that a network predicts; here the gate is
IBA's own, σ(α) mixing the state with noise, optimised per instance. What differs is whether features of a
token may be kept apart and, with that, how Adam steps: a token's gradient sums over its features, so Adam's ε
hardly ever holds it back (see `bottleneck.py`). β is chosen as IBA's, from fewer values of its own.
Cost: as IBA's.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from iba.attribution import InformationBottleneck
from iba.bottleneck import Bottleneck, Restriction


class TokenBottleneck(Bottleneck):
    """A bottleneck whose features share their token's α.

    Only the first feature's α is read, so it alone has a gradient: the sum of what all features would get.
    """

    def _evaluate(self, alpha: Tensor, *others: Any) -> tuple[Tensor, Restriction]:
        return super()._evaluate(alpha[..., :1].expand_as(alpha), *others)


class TokenGate(InformationBottleneck):
    """`iba.attribution.InformationBottleneck`, and its settings, with one gate per token."""

    gates = TokenBottleneck
