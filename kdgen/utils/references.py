"""What texts in a recipe name on this machine: signatures and schemas say so, and whoever reads a recipe changes them.

An argument is annotated as a ``FilePath`` or a ``ModelReference``; nothing is taken for a path by its looks.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from kdgen import registry
from kdgen.registry import Kind, Spec

What = Literal["path", "model"]
Change = Callable[[What, str], str]
T = TypeVar("T", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Names:
    """An annotation: a text that names a file or folder, or a model by reference.

    Attributes:
        what: which of them.
        but: texts that name neither.
    """

    what: What
    but: tuple[str, ...] = ()


FilePath = Annotated[str, Names("path")]
ModelReference = Annotated[str | Mapping[str, Any], Names("model")]

KINDS: dict[str, Kind] = {
    "task": "task", "student": "net", "net": "net", "methods": "method", "objectives": "objective", "ratio": "ratio",
}  # fmt: skip
"""What the names under a key of a schema are registered as."""

TASK, TASKS = "task", "tasks"
"""What a task that wraps another calls the argument that describes it, and one of several that of all of them."""

MODEL_FILES = ("config.json", "model_index.json", "recipe.json", "student/config.json")
"""What a folder that is a model holds, one of them."""


def renamed(thing: T, change: Change) -> T:
    """A recipe, or a part of one, with every text in it that names a path or a model changed.

    Args:
        thing: with fields that are annotated, and registered things, whose signatures are.
        change: given what a text names and the text.
    """
    update = {}
    for name, field in type(thing).model_fields.items():
        marks = [mark for mark in field.metadata if isinstance(mark, Names)]
        update[name] = _changed(getattr(thing, name), marks[0] if marks else None, KINDS.get(name), change)
    return thing.model_copy(update=update)


def _changed(value: Any, mark: Names | None, kind: Kind | None, change: Change) -> Any:
    if isinstance(value, str):
        return change(mark.what, value) if mark and value and value not in mark.but else value
    if isinstance(value, tuple | list):
        return type(value)(_changed(each, mark, kind, change) for each in value)
    if isinstance(value, dict) and mark:
        return {key: _changed(each, mark, kind, change) for key, each in value.items()}
    if isinstance(value, Spec) and kind:
        return value.model_copy(update={"args": _arguments(kind, value.name, value.args, change)})
    return renamed(value, change) if isinstance(value, BaseModel) else value


def _arguments(kind: Kind, name: str, args: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """Arguments of a registered thing likewise; those of an unknown one as they are."""
    hints = _hints(kind, name) if name in registry.names(kind) else {}
    inner = {TASK: _task, TASKS: _tasks} if kind == "task" else {}
    return {key: inner[key](value, change) if key in inner else _argument(value, hints.get(key), change)
            for key, value in args.items()}  # fmt: skip


def _tasks(value: Any, change: Change) -> Any:
    """Descriptions of tasks by names of one's own, each with its arguments changed; anything else as it is."""
    return {name: _task(use, change) for name, use in value.items()} if isinstance(value, dict) else value


def _task(use: Any, change: Change) -> Any:
    """The description of a task with its arguments changed; anything else as it is."""
    if not isinstance(use, dict) or "name" not in use:
        return use
    return {**use, "args": _arguments("task", use["name"], use.get("args", {}), change)}


def _argument(value: Any, hint: Any, change: Change) -> Any:
    if isinstance(value, list):
        return [_argument(each, _items(hint), change) for each in value]
    mark = _mark(hint)
    if not isinstance(value, dict):
        return _changed(value, mark, None, change)
    if mark and isinstance(file := value.get("file"), str):  # a declared checkpoint
        return {**value, "file": change("path", file)}
    source = value.get("name")
    if isinstance(source, str) and isinstance(inner := value.get("args"), dict) and source in registry.names("images"):
        return {**value, "args": _arguments("images", source, inner, change)}
    return value


def _hints(kind: Kind, name: str) -> dict[str, Any]:
    """The annotations of a registered thing's arguments that name a path or a model."""
    thing = registry.get(kind, name)
    try:
        hints = get_type_hints(thing.__init__ if isinstance(thing, type) else thing, include_extras=True)  # type: ignore[misc]
    except (NameError, TypeError):  # types that only a type checker knows
        return {}
    return {key: hint for key, hint in hints.items() if _mark(hint)}


def _items(hint: Any) -> Any:
    """The annotation of what stands in a list, where an argument may be one: prompts, beside a file of such."""
    if isinstance(origin := get_origin(hint), type) and issubclass(origin, Sequence):
        return get_args(hint)[0]
    return next(filter(None, map(_items, getattr(hint, "__args__", ()))), None)


def _mark(hint: Any) -> Names | None:
    """The mark of an annotation, or of what it is a union or a sequence of."""
    own = (each for each in getattr(hint, "__metadata__", ()) if isinstance(each, Names))
    inner = (mark for part in getattr(hint, "__args__", ()) if (mark := _mark(part)))
    return next(own, None) or next(inner, None)


def resolved(thing: T, folder: Path) -> T:
    """The same with relative paths and models taken to be in ``folder``, ``~`` being the user's, both made absolute.

    A model is meant there if it begins as paths do (``./``, ``../``, ``~/``), if there is one, or if its first part
    is there, whatever it holds: ``runs/denoise`` is a run. All others are bundled ones or on the Hub.
    """

    def change(what: What, text: str) -> str:
        base, mark, half = text.rpartition("#")
        if what == "path" or half not in ("encoder", "decoder"):
            base, mark, half = text, "", ""
        found = Path(os.path.abspath(folder / Path(base).expanduser()))
        if what == "path" or base.startswith((".", "~")) or _is_model(found):
            return f"{found}{mark}{half}"
        first = Path(base).parts[0]
        return f"{found}{mark}{half}" if first != base and (folder / first).exists() else text

    return renamed(thing, change)


def relative(thing: T, folder: Path) -> T:
    """The same with absolute paths as they are seen from ``folder``, where ``resolved`` makes them absolute again."""
    return renamed(thing, lambda _, text: os.path.relpath(text, folder) if os.path.isabs(text) else text)


def without_folders(thing: T) -> T:
    """The same as it is told to others: of every absolute path in it the last part."""
    return renamed(thing, lambda _, text: Path(text).name if os.path.isabs(text) else text)


def _is_model(path: Path) -> bool:
    return path.is_file() or any((path / name).is_file() for name in MODEL_FILES)


__all__ = ["FilePath", "ModelReference", "Names", "relative", "renamed", "resolved", "without_folders"]
