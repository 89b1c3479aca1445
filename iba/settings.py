"""What a setting may be: types with their ranges, and the one check that turns a wrong value into one line.

Methods declare them in their constructors' signatures, the configuration's sections in `sections.py`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, TypeVar

from omegaconf import OmegaConf
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    create_model,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from iba.errors import UserError

_PACKAGE = Path(__file__).resolve().parent
#: The checkout's configurations, or those that were installed with the package.
CONFIGS = next(found for found in (_PACKAGE.parent / "configs", _PACKAGE / "configs") if found.is_dir())

Count = Annotated[int, Field(ge=1)]
#: numpy's generators take no larger seed.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
#: Neither end.
Inner = Annotated[float, Field(gt=0, lt=1)]
#: A layer from 1 on, or a fraction of depth.
Layer = Count | Inner
LearningRate = Annotated[float, Field(gt=0, le=100)]
Depths = Annotated[Sequence[Inner], Field(min_length=1)]
Text = Annotated[str, Field(pattern=r"\S")]

#: What pydantic says around the wish itself, and what it says in words of its own.
_SHOULD = re.compile(r"^\w+ should | after validation, not \d+$")
_WORDS = {"sequence_str": "be a list", "string_pattern_mismatch": "hold text"}
_NAME = re.compile(r"[\w=-][\w.=-]*")
#: Folders of `results/` that are no run's.
RESERVED = ("published", "benchmark", "README.md")


def _name(name: str) -> str:
    if _NAME.fullmatch(name) is None:
        wanted = "Input should consist of letters, digits, _, -, = and, but for its first character, dots"
        raise PydanticCustomError("name", wanted)
    return name


def _run_name(name: str) -> str:
    parts = name.split("/")
    if parts[0] in RESERVED:
        raise PydanticCustomError("name", f"Input should be another name: results/{parts[0]} is no run's")
    for part in parts:
        _name(part)
    return name


Name = Annotated[str, AfterValidator(_name)]
#: May be nested, and a number on the command line.
RunName = Annotated[str, BeforeValidator(str), AfterValidator(_run_name)]


class Section(BaseModel):
    """A part of the configuration whose settings are all known."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())


AnySection = TypeVar("AnySection", bound=BaseModel)


def check(place: str, given: Mapping[str, Any], section: type[AnySection]) -> AnySection:
    """`given` as `section` declares it; `UserError` names the first wrong setting below `place`."""
    try:
        return section.model_validate(dict(given))
    except ValidationError as error:
        found = [(_path(given, each), each) for each in error.errors(include_url=False)]
        _, same = next(groupby(found, key=lambda pair: pair[0]))
        raise UserError(_line(place, given, list(same))) from error


def check_arguments(place: str, given: Mapping[str, Any], function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments of `function` in `given`, checked against the types that its signature declares."""
    return check(place, given, _declared(function)).model_dump(exclude_unset=True)


@cache
def _declared(function: Callable[..., Any]) -> type[Section]:
    fields: dict[str, Any] = {
        name: (
            Any if each.annotation is each.empty else each.annotation,
            ... if each.default is each.empty else each.default,
        )
        for name, each in inspect.signature(function, eval_str=True).parameters.items()
    }
    return create_model("Arguments", __base__=Section, **fields)


def _path(given: Any, error: ErrorDetails) -> tuple[str | int, ...]:
    """Where the mistake stands: pydantic's place less what it says of the type that was tried."""
    path: list[str | int] = []
    for part in error["loc"]:
        keys = range(len(given)) if isinstance(given, list) else given if isinstance(given, Mapping) else ()
        if part not in keys and error["type"] != "missing":
            break
        path.append(part)
        given = given[part] if part in keys else None
    return tuple(path)


def _line(place: str, given: Any, same: list[tuple[tuple[str | int, ...], ErrorDetails]]) -> str:
    """One line on one wrong setting; a union of types has an error for each of its members."""
    path, error = same[0]
    setting = ".".join(filter(None, [place, *map(str, path)]))
    if error["type"] == "missing":
        return f"{setting} is missing."
    if error["type"] == "extra_forbidden":
        for part in path[:-1]:
            given = given[part]
        others = ", ".join(str(name) for name in given if name != path[-1])
        return f"{setting}: there is no such setting; beside it stand {others}."
    value = error["input"]
    shown = "" if isinstance(value, Mapping) else f"={value}"
    wanted = dict.fromkeys(_WORDS.get(each["type"]) or _SHOULD.sub("", each["msg"]) for _, each in same)
    return f"{setting}{shown} must {' or '.join(wanted)}."


def plain(settings: Any) -> Any:
    """Resolved settings as plain JSON types."""
    resolved = OmegaConf.to_container(settings, resolve=True) if OmegaConf.is_config(settings) else settings
    return json.loads(json.dumps(resolved, sort_keys=True, default=str))


def fingerprint(settings: Any) -> str:
    """Twelve hexadecimal digits that change whenever a setting changes."""
    return hashlib.sha256(json.dumps(plain(settings), sort_keys=True).encode()).hexdigest()[:12]
