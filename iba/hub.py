"""The Hugging Face hub: what its cache holds is taken from there; the network is asked for the rest alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import datasets
import huggingface_hub.constants
import torch
from huggingface_hub.utils import httpx

from iba.errors import UserError

#: What a look-up raises: files that are not there, wrong names, connections that fail or break off.
HUB_ERRORS = (OSError, ValueError, httpx.HTTPError)

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Source = str | Path


def cached_first(load: Callable[Concatenate[_Source, _P], _T]) -> Callable[Concatenate[_Source, _P], _T]:
    """Make `load(source, …)`, which raises `UserError`, ask the network only for a hub id that is not cached.

    The libraries would ask at each load whether the hub has something newer, and wait long where it cannot be
    reached.
    """

    @wraps(load)
    def loaded(source: _Source, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if not (Path(source).is_dir() or huggingface_hub.constants.HF_HUB_OFFLINE):
            drawn = torch.get_rng_state()
            try:
                with _offline():
                    return load(source, *args, **kwargs)
            except UserError:
                torch.set_rng_state(drawn)  # a new head is the same at the second try
                print(f"{source}: not in the cache, asking the Hugging Face hub")
        return load(source, *args, **kwargs)

    return loaded


@contextmanager
def _offline() -> Iterator[None]:
    """As with HF_HUB_OFFLINE=1, which is read once; `datasets` keeps a copy of its own."""
    holders: tuple[Any, ...] = (huggingface_hub.constants, datasets.config)
    before = [holder.HF_HUB_OFFLINE for holder in holders]
    for holder in holders:
        holder.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for holder, value in zip(holders, before, strict=True):
            holder.HF_HUB_OFFLINE = value
