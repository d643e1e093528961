"""Ids of the Hub as users write them: ``org/name``, ``hub:org/name``, ``hub:org/name@revision``, ``org/name/vae``."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from kdgen.recipe import Recipe, parse
from kdgen.types import UserError

COMMIT = re.compile(r"[0-9a-f]{40}")
MODELS = ("teacher", "init", "model", "encoder", "decoder")
"""Keys of a recipe whose values name models."""

_WRITTEN = re.compile(r"(?P<prefix>hub:)?(?P<name>[^@:\s]+)(?:@(?P<revision>\S+))?")
_PART = r"[A-Za-z0-9]|[A-Za-z0-9][\w.-]*[A-Za-z0-9_]"
_NAME = re.compile(rf"(?:{_PART})/(?:{_PART})")
_INNER = re.compile(rf"(?P<name>(?:{_PART})/(?:{_PART}))(?:/(?P<part>unet|vae))?")


@dataclass(frozen=True, slots=True)
class HubId:
    """A repository of the Hub.

    Attributes:
        name: ``org/name``.
        revision: a branch, tag or commit; None for the newest commit of the main branch.
        part: the folder within it that holds the model that is meant, ``vae`` or ``unet``; None for all of it.
    """

    name: str
    revision: str | None = None
    part: str | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """An id from ``org/name`` or ``org/name/vae``, with ``hub:`` before and ``@revision`` behind it or without.

        Raises:
            UserError: for anything the Hub has no repository for.
        """
        written = _WRITTEN.fullmatch(text)
        inner = _INNER.fullmatch(written["name"]) if written else None
        name = inner["name"] if inner else ""
        bad = not _NAME.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git") or len(name) > 96
        if written is None or bad or ".." in (written["revision"] or ""):
            raise UserError(f"{text!r} is no id of the Hub: write ORG/NAME, of letters, digits, '-', '_' and '.'")
        return cls(name, written["revision"], inner["part"] if inner else None)

    def at(self, revision: str | None) -> Self:
        """The same at another revision."""
        return replace(self, revision=revision)

    def __str__(self) -> str:
        part = f"/{self.part}" if self.part else ""
        return f"hub:{self.name}{part}" + (f"@{self.revision}" if self.revision else "")


def hub_id(reference: str) -> HubId | None:
    """The repository that a reference names, or None where it means something on this machine.

    ``hub:org/name`` always means the Hub. ``org/name`` does unless there is a file or folder ``org`` here, whatever
    it holds: ``runs/denoise`` is a run. ``org/name/vae`` is a folder within a repository.

    Raises:
        UserError: for ``hub:`` before something that is no id.
    """
    if reference.startswith("hub:"):
        return HubId.read(reference)
    written = _WRITTEN.fullmatch(reference)
    if written is None or not _INNER.fullmatch(written["name"]) or Path(written["name"].partition("/")[0]).exists():
        return None
    return HubId.read(reference)


def pinned(recipe: Recipe, commit: Callable[[HubId], str]) -> Recipe:
    """The recipe with every id of the Hub in it bound to the commit that it means now.

    These are its teacher, what nets start from, the models that its task names, and whatever begins with ``hub:``.

    Args:
        recipe: as the user wrote it.
        commit: gives the commit of an id.
    """

    def pin(text: str) -> str:
        whole, half, which = text.partition("#")
        named = hub_id(whole)
        if named is None:
            return text
        exact = named.revision is not None and COMMIT.fullmatch(named.revision)
        return f"{named if exact else named.at(commit(named))}{half}{which}"

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: walk(inner, name) for name, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, key) for inner in value]
        names_a_model = isinstance(value, str) and (value.startswith("hub:") or key in MODELS)
        return pin(value) if names_a_model else value

    data = recipe.model_dump(mode="json")
    walked = {**data, "teacher": walk(data["teacher"], "teacher"), "task": walk(data["task"]),
              "init": walk(data["init"], "init"),
              "assistants": [{**link, "init": walk(link["init"], "init")} for link in data["assistants"]]}  # fmt: skip
    return recipe if walked == data else parse(walked)
