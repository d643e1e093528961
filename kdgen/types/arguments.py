"""Types of arguments with the values that they admit, and the one place that holds a call against its signature.

A signature says what an argument may be: ``Count``, ``Share``, ``Literal["l1", "l2"]``, ``Annotated[float,
Field(ge=1)]``. A ``description`` of such a field is what a refusal says in place of words made from the limits.
"""

import functools
import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

import numpy as np
from pydantic import ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaError, core_schema

from kdgen.types import UserError

T = TypeVar("T", bound=Callable[..., Any])

LARGEST_SIGMA = 100.0
"""Largest standard deviation of noise, in 8-bit units."""

Count = Annotated[int, Field(ge=1)]
"""A whole number of at least 1."""

Counts = Annotated[Sequence[Count], Field(min_length=1)]
"""One or more of them."""

CountOrZero = Annotated[int, Field(ge=0)]
"""A whole number of at least 0."""

Channels = Annotated[Literal[1, 3], Field(description="1 (grey) or 3 (colour)")]
"""Of images."""

Share = Annotated[float, Field(ge=0, le=1, description="a share in [0, 1]")]
"""A part of a whole."""

Positive = Annotated[float, Field(gt=0)]
"""A number above 0."""

NonNegative = Annotated[float, Field(ge=0)]
"""A number of at least 0."""

Sigma = Annotated[float, Field(ge=0, le=LARGEST_SIGMA)]
"""A standard deviation of noise in 8-bit units."""

STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
"""Text is no number, a bool is none, and no number is infinite; what pydantic does not know goes by its class."""


def validated(owner: str) -> Callable[[T], T]:
    """A decorator of functions and classes: each call's arguments have to be of the types that the signature says.

    They are passed on as they are, never converted or copied; a number of NumPy and a path count as Python's number and
    as text. Defaults are not looked at, nor is what has a type that
    only a type checker knows.

    Args:
        owner: what the arguments are of, for messages.

    Raises:
        UserError: at a call, for the first argument that does not fit, as ``check_argument`` does.
    """

    def decorate(thing: T) -> T:
        if not isinstance(thing, type):
            return _validated(thing, owner)
        if inspect.isfunction(thing.__init__):  # type: ignore[misc]
            thing.__init__ = _validated(thing.__init__, owner)  # type: ignore[misc]
        return thing

    return decorate


def _validated(function: T, owner: str) -> T:
    signature = inspect.signature(function)
    if all(
        p.annotation is p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in signature.parameters.values()
    ):
        return function

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError:  # Python says it better
            return function(*args, **kwargs)
        check_arguments(owner, function, arguments)
        return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def check_arguments(owner: str, thing: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that are not of the types that a function or a class says; unknown ones are passed over.

    Raises:
        UserError: for the first that does not fit, as ``check_argument`` does.
    """
    function = thing.__init__ if isinstance(thing, type) else thing  # type: ignore[misc]
    adapters = _adapters(inspect.unwrap(function))
    for argument, value in arguments.items():
        if argument in adapters:
            _check(owner, argument, value, adapters[argument])


def check_argument(owner: str, argument: str, value: object, kind: Any) -> None:
    """Refuse a value that is not of a type.

    Args:
        owner: what the argument is of.
        argument: its name.
        value: any.
        kind: its type, ``Count`` say.

    Raises:
        UserError: in one line, ``OWNER: ARGUMENT is a whole number of at least 1, not VALUE``.
    """
    _check(owner, argument, value, TypeAdapter(kind, config=STRICT))


@functools.cache
def _adapters(function: Callable[..., Any]) -> dict[str, TypeAdapter[Any]]:
    """What checks each annotated argument, made at the first call."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError):  # types that only a type checker knows
        return {}
    adapters = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in hints and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            try:
                adapters[name] = TypeAdapter(hints[name], config=STRICT)
            except (PydanticUserError, SchemaError, TypeError):  # likewise
                continue
    return adapters


def _check(owner: str, argument: str, value: object, adapter: TypeAdapter[Any]) -> None:
    plain = _plain(value)
    try:
        adapter.validate_python(plain)
    except TypeError:  # a protocol that only a type checker knows
        return
    except ValidationError as error:
        if not _is_json_of(adapter, plain):
            raise UserError(f"{owner}: {_refusal(argument, value, error, adapter)}") from None


def _plain(value: object) -> object:
    """Python's own number for one of NumPy, and text for a path."""
    if isinstance(value, np.generic):
        return value.item()
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _is_json_of(adapter: TypeAdapter[Any], value: object) -> bool:
    """Whether a value is what a recipe holds for such an argument: a list for a tuple, text for a path."""
    try:
        adapter.validate_json(json.dumps(value))
    except (TypeError, ValueError):
        return False
    return True


def _refusal(argument: str, value: object, error: ValidationError, adapter: TypeAdapter[Any]) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # of a validator that says all itself
        return str(first["ctx"]["error"])
    schema = _without_none(adapter.json_schema(schema_generator=_Schema))
    match first["loc"], schema:
        case (int(),), {"items": {"type": "integer" | "number" | "string"} as items}:
            argument, value, schema = f"each of {argument}", first["input"], items
    words = _words(schema)
    return f"{argument} is {words}, not {_short(value)}" if words else f"{argument} is {_short(value)}: {first['msg']}"


class _Schema(GenerateJsonSchema):
    """A schema in which what is no JSON has no words."""

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


def _without_none(schema: JsonSchemaValue) -> JsonSchemaValue:
    others = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    return (
        {**others[0], **{key: value for key, value in schema.items() if key != "anyOf"}} if len(others) == 1 else schema
    )


def _words(schema: JsonSchemaValue) -> str:
    """What a schema admits, in words; empty where it has none."""
    match schema:
        case {"description": str(description)}:
            return description
        case {"enum": values}:
            return f"one of {', '.join(map(str, values))}"
        case {"anyOf": kinds}:
            each = [_words(kind) for kind in kinds if kind.get("type") != "null"]
            return " or ".join(each) if all(each) else ""
        case {"type": "array", "items": items}:
            least = "a list of at least one" if schema.get("minItems") == 1 else "a list"
            return f"{least}, each {words}" if (words := _words(items)) else least
        case {"type": "integer"}:
            return f"a whole number{_limits(schema)}"
        case {"type": "number"}:
            return f"a number{_limits(schema)}"
    return {"string": "text", "boolean": "true or false", "object": "a mapping", "array": "a list"}.get(
        schema.get("type", ""), ""
    )


def _limits(schema: JsonSchemaValue) -> str:
    match schema:
        case {"minimum": low, "maximum": high}:
            return f" in [{low:g}, {high:g}]"
        case {"minimum": low, "exclusiveMaximum": high}:
            return f" in [{low:g}, {high:g})"
        case {"exclusiveMinimum": low, "maximum": high}:
            return f" above {low:g} and at most {high:g}"
        case {"minimum": low}:
            return f" of at least {low:g}"
        case {"exclusiveMinimum": low}:
            return f" above {low:g}"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 and "\n" not in text else f"a {type(value).__name__}"
