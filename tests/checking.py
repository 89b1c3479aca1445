"""Types and shapes in signatures are checked while tests run, and only then."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import FunctionType
from typing import Any, get_type_hints

import jaxtyping
from beartype import beartype
from beartype.roar import BeartypeDecorHintException

_with_shapes = jaxtyping.jaxtyped


def check_packages(*names: str) -> None:
    """Check every function of these packages, which are still to be imported."""
    jaxtyping.jaxtyped = _checked  # what its import hook decorates with
    jaxtyping.install_import_hook([*names], "beartype.beartype")


def _checked(*, typechecker: Any) -> Callable[[Any], Any]:
    """jaxtyping's decorator, but for functions without a shape, for which it keeps book in vain."""

    def decorate(made: Any) -> Any:
        if not isinstance(made, FunctionType) or _names_shape(made):
            return _with_shapes(made, typechecker=typechecker)
        try:
            get_type_hints(made)
            return beartype(made)
        except (NameError, BeartypeDecorHintException):  # such as a class that is only being made
            return _with_shapes(made, typechecker=typechecker)

    return decorate


def _names_shape(function: FunctionType) -> bool:
    words = re.findall(r"\w+", " ".join(map(str, function.__annotations__.values())))
    named = [function.__globals__.get(word) for word in words]
    kinds = (jaxtyping.AbstractArray, jaxtyping.AbstractDtype)
    return any(isinstance(each, type) and issubclass(each, kinds) for each in named)
