"""What a registered thing's signature says of its arguments: every value that the types name."""

import inspect
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from kdgen import registry

SOME = 0.1
"""In place of 0.0, which as a default leaves something out: a penalty, say."""


def own(kind: registry.Kind) -> list[str]:
    """Names of what the package itself registers, sorted: a test's own file may have registered more."""
    return [name for name in registry.names(kind) if registry.get(kind, name).__module__.startswith("kdgen.")]


def documented(kind: registry.Kind, name: str) -> Iterator[dict[str, Any]]:
    """Arguments by keyword: none, then each other value that the type of one argument names, one at a time."""
    thing: Any = registry.get(kind, name)
    hints = get_type_hints(thing.__init__ if isinstance(thing, type) else thing)
    yield {}
    for argument, parameter in inspect.signature(thing).parameters.items():
        if parameter.default is not parameter.empty:
            more = (SOME,) if type(parameter.default) is float and not parameter.default else ()
            for value in (*_values(hints.get(argument, Any)), *more):
                if type(value) is not type(parameter.default) or value != parameter.default:
                    yield {argument: value}


def cases(kind: registry.Kind) -> list[tuple[str, dict[str, Any]]]:
    """Names and arguments of ``documented`` for all that the package registers of a kind."""
    return [(name, args) for name in own(kind) for args in documented(kind, name)]


def label(value: object) -> str:
    """What a case of ``cases`` is called."""
    return ",".join(f"{key}={item}" for key, item in value.items()) if isinstance(value, dict) else str(value)


def _values(of: Any) -> tuple[Any, ...]:
    origin, inner = get_origin(of), get_args(of)
    if origin is Literal:
        return inner
    if origin in (Union, UnionType):
        return tuple(value for each in inner for value in _values(each))
    if origin is Sequence and inner and get_origin(inner[0]) is Literal:
        return tuple([value] for value in get_args(inner[0]))
    return (False, True) if of is bool else (None,) if of is NoneType else ()


def shrunk(kind: registry.Kind, name: str) -> dict[str, Any]:
    """Arguments that make a thing small: numbers of its signature that are large by default, but for sizes of images."""
    small: dict[str, Any] = {}
    for argument, parameter in inspect.signature(registry.get(kind, name)).parameters.items():
        value = parameter.default
        if argument in ("size", "patch") and type(value) is int:
            small[argument] = min(value, 16)
        elif type(value) is int and 16 <= value <= 20_000 and not argument.startswith("num_train"):
            small[argument] = 8
        elif isinstance(value, tuple) and value and all(type(each) is int and each >= 16 for each in value):
            small[argument] = [8] * len(value)
    return small
