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
from pydantic_core import ErrorDetails, SchemaError, core_schema

from kdgen.types import Text, UserError, text

T = TypeVar("T", bound=Callable[..., Any])

LARGEST_SIGMA = 100.0
"""Largest standard deviation of noise, in 8-bit units."""

Count = Annotated[int, Field(ge=1)]
"""A whole number of at least 1."""

Counts = Annotated[Sequence[Count], Field(min_length=1)]
"""One or more of them."""

CountOrZero = Annotated[int, Field(ge=0)]
"""A whole number of at least 0."""

MOST_CHANNELS = 64
"""Of what a sensor gives."""

Channels = Annotated[Literal[1, 3], Field(description=text("grey_or_colour", "1 (grey) or 3 (colour)"))]
"""Of images."""

AnyChannels = Annotated[
    Literal[1, 3] | Annotated[int, Field(ge=1, le=MOST_CHANNELS)],
    Field(description=text("channels_of_any", "1 (grey), 3 (colour) or as many as a sensor gives, up to 64")),
]
"""Of images and of a sensor's maps."""

ChannelsOrBoth = Annotated[
    Literal[1, 3, "both"] | Annotated[int, Field(ge=1, le=MOST_CHANNELS)],
    Field(description=text("grey_colour_both", '1 (grey), 3 (colour), "both", or as many as a sensor gives, up to 64')),
]
"""Of images and of a sensor's maps, and of what takes grey and colour alike."""

Share = Annotated[float, Field(ge=0, le=1, description=text("a_share", "a share in [0, 1]"))]
"""A part of a whole."""

Positive = Annotated[float, Field(gt=0)]
"""A number above 0."""

NonNegative = Annotated[float, Field(ge=0)]
"""A number of at least 0."""

Sigma = Annotated[float, Field(ge=0, le=LARGEST_SIGMA)]
"""A standard deviation of noise in 8-bit units."""

LIST = text("list", "a list")
PLAIN = {"string": text("some_text", "text"), "boolean": text("true_or_false", "true or false"),
         "object": text("mapping", "a mapping"), "array": LIST}  # fmt: skip
"""What a type of JSON is called in messages."""

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
            message = _refusal(argument, value, error, adapter)
            raise UserError(text("at_key", "{key}: {message}", key=owner, message=message)) from None


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


def _refusal(argument: str, value: object, error: ValidationError, adapter: TypeAdapter[Any]) -> Text:
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # of a validator that says all itself
        return said(first)
    schema = _without_none(adapter.json_schema(schema_generator=_Schema))
    match first["loc"], schema:
        case (int(),), {"items": {"type": "integer" | "number" | "string"} as items}:
            argument, value, schema = text("each_of", "each of {argument}", argument=argument), first["input"], items
    words = _words(schema)
    if words:
        return text("argument_unfit", "{argument} is {words}, not {value}", argument=argument, words=words,
                    value=_short(value))  # fmt: skip
    return text("argument_refused", "{argument} is {value}: {reason}", argument=argument, value=_short(value),
                reason=said(first))  # fmt: skip


def said(error: ErrorDetails) -> Text:
    """What pydantic says of a thing that does not fit."""
    context = error.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, ValueError):
        return Text.of(cause.args[0] if cause.args and isinstance(cause.args[0], str) else str(cause))
    figures = {name: value for name, value in context.items() if isinstance(value, str | int | float)}
    return Text(error["msg"].removeprefix("Value error, "), f"pydantic_{error['type']}", figures)


class _Schema(GenerateJsonSchema):
    """A schema in which what is no JSON has no words."""

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


def _without_none(schema: JsonSchemaValue) -> JsonSchemaValue:
    others = [each for each in schema.get("anyOf", ()) if each.get("type") != "null"]
    return (
        {**others[0], **{key: value for key, value in schema.items() if key != "anyOf"}} if len(others) == 1 else schema
    )


def _words(schema: JsonSchemaValue) -> Text:
    """What a schema admits, in words; empty where it has none."""
    match schema:
        case {"description": str(description)}:
            return Text.of(description)
        case {"enum": values}:
            return text("one_of", "one of {values:, }", values=[str(value) for value in values])
        case {"anyOf": kinds}:
            each = [_words(kind) for kind in kinds if kind.get("type") != "null"]
            return text("either", "{kinds: or }", kinds=each) if all(each) else Text("")
        case {"type": "array", "items": items}:
            least = text("list_of_one", "a list of at least one") if schema.get("minItems") == 1 else LIST
            words = _words(items)
            return text("list_each", "{least}, each {words}", least=least, words=words) if words else least
        case {"type": "integer"}:
            return text("whole_number", "a whole number{limits}", limits=_limits(schema))
        case {"type": "number"}:
            return text("number", "a number{limits}", limits=_limits(schema))
    return PLAIN.get(schema.get("type", ""), Text(""))


def _limits(schema: JsonSchemaValue) -> Text:
    match schema:
        case {"minimum": low, "maximum": high}:
            return text("within", " in [{low:g}, {high:g}]", low=low, high=high)
        case {"minimum": low, "exclusiveMaximum": high}:
            return text("within_below", " in [{low:g}, {high:g})", low=low, high=high)
        case {"exclusiveMinimum": low, "maximum": high}:
            return text("above_within", " above {low:g} and at most {high:g}", low=low, high=high)
        case {"minimum": low}:
            return text("from_on", " of at least {low:g}", low=low)
        case {"exclusiveMinimum": low}:
            return text("above", " above {low:g}", low=low)
    return Text("")


def _short(value: object) -> str:
    shown = repr(value)
    if len(shown) <= 200 and "\n" not in shown:
        return shown
    return text("a_kind", "a {kind}", kind=type(value).__name__)
