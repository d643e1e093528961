"""Names for things a recipe can ask for: ``Spec(name, args)``, ``register``, ``build``, ``names``.

A recipe holds names and plain arguments, never code. What a name stands for is registered by the module that
defines it, or by a file of the user's own given as ``--code``.
"""

import difflib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from kdgen.types import Text, UserError, text
from kdgen.types.arguments import check_arguments, validated

Kind = Literal["net", "adapter", "task", "method", "objective", "ratio", "images", "damage", "preset"]
KINDS: dict[Kind, Text] = {
    "net": text("kind_net", "net"), "adapter": text("kind_adapter", "adapter"), "task": text("kind_task", "task"),
    "method": text("kind_method", "method"), "objective": text("kind_objective", "objective"),
    "ratio": text("kind_ratio", "ratio"), "images": text("kind_images", "images"),
    "damage": text("kind_damage", "damage"),
    "preset": text("kind_preset", "preset"),
}  # fmt: skip
T = TypeVar("T", bound=Callable[..., Any])

_registered: dict[str, dict[str, Callable[..., Any]]] = {}
_handles: dict[str, dict[str, str]] = {}


class Spec(BaseModel):
    """A registered thing and the arguments to build it with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="the registered name, see `kdgen list`")
    args: dict[str, JsonValue] = Field(default_factory=dict, description="arguments by keyword")

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.args.items())})"


def register(kind: Kind, *, handle: str | Sequence[str] = ()) -> Callable[[T], T]:
    """A decorator that registers a function or class under its own name in snake case.

    Each call of it, by recipe or in Python, is held against its signature: see ``kdgen.types.arguments``.

    Args:
        kind: of thing.
        handle: what its paper calls it, ``fitnets``, and a recipe may say instead; of an adapter the classes of another
            library that it opens, ``UNet2DModel``. One name or several.

    Raises:
        ValueError: if the name or a handle is taken.
    """
    aliases = (handle,) if isinstance(handle, str) else tuple(handle)

    def decorate(thing: T) -> T:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", thing.__name__).lower()
        things, handled = _registered.setdefault(kind, {}), _handles.setdefault(kind, {})
        for alias in (name, *aliases):
            if alias in things or alias in handled:
                raise ValueError(f"a {kind} called {alias!r} is registered already")
        things[name] = made = validated(_owner(kind, name))(thing)
        handled.update(dict.fromkeys(aliases, name))
        return made

    return decorate


def import_modules(package: str, path: Iterable[str]) -> None:
    """Import all modules of a package and of those within, so that what they define is registered.

    Args:
        package: its ``__name__``.
        path: its ``__path__``.
    """
    for module in pkgutil.walk_packages(path, f"{package}."):
        import_module(module.name)


def names(kind: Kind) -> list[str]:
    """All registered names of a kind, sorted, without handles."""
    return sorted(_registered.get(kind, {}))


def handles(kind: Kind) -> dict[str, str]:
    """All handles of a kind, sorted, and the registered name of each."""
    return dict(sorted(_handles.get(kind, {}).items()))


def handles_of(kind: Kind, name: str) -> list[str]:
    """The handles of a registered thing, in the order in which it was given them."""
    return [handle for handle, own in _handles.get(kind, {}).items() if own == name]


def get(kind: Kind, name: str) -> Callable[..., Any]:
    """What a name stands for.

    Raises:
        UserError: for an unknown name, with the nearest ones.
    """
    handled = _handles.get(kind, {})
    try:
        return _registered[kind][handled.get(name, name)]
    except KeyError:
        raise UserError(text("no_such_thing", "no {kind} is called {name!r}{nearest}", kind=KINDS[kind], name=name,
                             nearest=nearest(name, [*names(kind), *handled]))) from None  # fmt: skip


def gives(kind: Kind, name: str) -> type | None:
    """The class of what a name makes: itself, or what its function is annotated to return; None if neither says."""
    thing: Any = get(kind, name)
    made = thing if isinstance(thing, type) else get_type_hints(thing).get("return")
    return made if isinstance(made, type) else None


def having(kind: Kind, **attributes: Any) -> list[str]:
    """Names of the registered things with these attributes, in the order in which they were registered."""
    things = _registered.get(kind, {}).items()
    return [
        name for name, each in things if all(getattr(each, key, None) == value for key, value in attributes.items())
    ]


def build(kind: Kind, use: Spec, **more: Any) -> Any:
    """Call what ``use`` names with its arguments and ``more``.

    Raises:
        UserError: for an unknown name or argument, with the nearest ones, and for a missing or unfit argument.
    """
    thing = get(kind, use.name)
    parameters = inspect.signature(thing).parameters
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in use.args:
            if key not in parameters:
                raise UserError(text("no_argument", "{kind} {name!r} has no argument {key!r}{nearest}",
                                     kind=KINDS[kind],
                                     name=use.name, key=key, nearest=nearest(key, parameters)))  # fmt: skip
    try:
        inspect.signature(thing).bind(**{**use.args, **more})
    except TypeError as error:
        missing = re.fullmatch(r"missing a required argument: '(\w+)'", str(error))
        reason = text("missing_argument", "missing a required argument: {name!r}", name=missing[1]) if missing else ""
        raise UserError(text("at_part", "{kind} {name!r}: {error}", kind=KINDS[kind], name=use.name,
                             error=reason or str(error))) from None  # fmt: skip
    return thing(**{**use.args, **more})


def check_types(kind: Kind, use: Spec) -> None:
    """Refuse arguments that are not of the type their parameter is annotated with; unknown ones are passed over.

    Raises:
        UserError: for the first that does not fit, and for an unknown name.
    """
    check_arguments(_owner(kind, use.name), get(kind, use.name), use.args)


def _owner(kind: Kind, name: str) -> Text:
    return text("kind_and_name", "{kind} {name}", kind=KINDS[kind], name=name)


def arguments(kind: Kind, name: str) -> list[str]:
    """The arguments that what a name stands for takes."""
    return list(inspect.signature(get(kind, name)).parameters)


def accepts(kind: Kind, name: str, argument: str) -> bool:
    """Whether what a name stands for takes an argument of this name."""
    return argument in arguments(kind, name)


def accepted(kind: Kind, name: str, args: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some arguments that what a name stands for takes."""
    return {key: value for key, value in args.items() if accepts(kind, name, key)}


def default(kind: Kind, name: str, argument: str) -> Any:
    """The default of an argument, or None where there is none."""
    parameter = inspect.signature(get(kind, name)).parameters.get(argument)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def spelled_out(kind: Kind, use: Spec) -> Spec:
    """The same with every argument that has a default written down, so that it outlives a change of defaults."""
    parameters = inspect.signature(get(kind, use.name)).parameters.values()
    plain = (bool, int, float, str, list, tuple, dict, type(None))
    defaults = {p.name: p.default for p in parameters if isinstance(p.default, plain)}
    return Spec.model_validate({"name": use.name, "args": json.loads(json.dumps({**defaults, **use.args}))})


def summary(kind: Kind, name: str) -> str:
    """The first line of a registered thing's documentation."""
    return (inspect.getdoc(get(kind, name)) or "").partition("\n")[0]


def nearest(word: str, known: Iterable[str], count: int = 3) -> Text:
    """A clause for an error message that lists the known words nearest to an unknown one."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=count, cutoff=0.4) or sorted(known)[:8]
    return text("nearest", "; the nearest: {names:, }", names=close) if close else Text("")
