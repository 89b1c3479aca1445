"""How much memory a token takes, from an encoder's shapes, and how many tokens a device has room for.

What is counted are float32 numbers, for each token of a batch, at the worst moment of a pass. A block keeps
for the backward pass the inputs of what is not linear: queries, keys and values, attention's output, the
inputs of both layer norms, and of the activation; its weights are frozen, so linear maps keep nothing. On a
GPU fused attention keeps no map of tokens × tokens; on a CPU one is kept a head. Every method adds what it
holds besides (its `held`). In bfloat16 all this is less.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from iba.errors import UserError

#: A number of tokens, or what the device has room for.
TokenBudget = int | Literal["auto"]

FLOAT = 4
#: The share of free memory that is planned with; the rest is for weights in another type and for gaps.
PLANNED = 0.8
#: Tokens that are worked on at a time at most: more make no device faster.
_ENOUGH = {"cuda": 65536}
_ENOUGH_ELSEWHERE = 8192
#: How long texts are taken to be where they are not known yet.
LONG = 512


@dataclass(frozen=True)
class Shapes:
    """An encoder's, of which `whole` layers are computed at all positions, and texts' of `tokens` tokens."""

    whole: int
    hidden: int
    inner: int
    heads: int
    tokens: int

    @property
    def maps(self) -> int:
        """One layer's attention maps."""
        return self.heads * self.tokens

    @property
    def forward(self) -> int:
        """A pass without gradients: both sides of the activation, and what goes round the feed-forward."""
        return 4 * self.hidden + 2 * self.inner

    @property
    def block(self) -> int:
        """What one block keeps for the backward pass."""
        return 6 * self.hidden + self.inner

    def backward(self, layer: int = 0) -> int:
        """A pass with gradients from the output of `layer`."""
        return max(0, self.whole - layer) * self.block + self.forward


def planned(
    asked: TokenBudget, device: torch.device, shapes: Shapes, memory_gb: float | None = None
) -> tuple[int, float | None]:
    """Tokens that are worked on at a time and, where the device's memory decides, the bytes for a batch.

    asked: that many, or "auto": as many as are enough and have room in a pass through all layers and back.
    memory_gb: GiB of a GPU to make do with, such as the 11 of the paper's; None takes what is free.
    """
    if asked != "auto":
        return asked, None
    kept_maps = 0 if device.type == "cuda" else shapes.whole * shapes.maps
    room = PLANNED * _free(device, memory_gb)
    fits = int(room / (FLOAT * (shapes.backward() + kept_maps)))
    budget = max(1, min(_ENOUGH.get(device.type, _ENOUGH_ELSEWHERE), fits))
    return budget, room if device.type == "cuda" else None


def _free(device: torch.device, memory_gb: float | None) -> float:
    if device.type != "cuda":
        return float(psutil.virtual_memory().available)
    ours = torch.cuda.memory_allocated(device)
    free = float(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - ours)
    if memory_gb is None:
        return free
    if memory_gb * 2**30 <= ours:
        raise UserError(f"memory_gb={memory_gb}: the model alone holds {ours / 2**30:.1f} GiB.")
    return min(free, memory_gb * 2**30 - ours)
