"""Ids of the Hub as users write them: ``org/name``, ``hub:org/name``, ``hub:org/name@revision``, ``org/name/vae``."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from kdgen.models.adapters import parts
from kdgen.recipe import Recipe, parse
from kdgen.types import UserError, text

COMMIT = re.compile(r"[0-9a-f]{40}")
MODELS = ("teacher", "init", "model", "encoder", "decoder")
"""Keys of a recipe whose values name models."""

_ID = re.compile(r"(?:hub:)?(?P<name>[^/@:\s]+/[^/@:\s]+)(?:/(?P<part>[a-z_0-9]+))?(?:@(?P<revision>\S+))?")


@dataclass(frozen=True, slots=True)
class HubId:
    """A repository of the Hub.

    Attributes:
        name: ``org/name``.
        revision: a branch, tag or commit; None for the newest commit of the main branch.
        part: the folder within it that holds the model that is meant, ``vae`` say; None for all of it.
    """

    name: str
    revision: str | None = None
    part: str | None = None

    @classmethod
    def read(cls, name: str) -> Self:
        """An id from ``org/name`` or ``org/name/vae``, with ``hub:`` before and ``@revision`` behind it or without.

        Raises:
            UserError: for anything the Hub has no repository for.
        """
        match = _ID.fullmatch(name)
        if match and match["part"] not in (None, *parts()):
            match = None
        try:
            validate_repo_id(match["name"] if match else "")
        except HFValidationError:
            match = None
        if match is None or ".." in (match["revision"] or ""):
            raise UserError(text("no_hub_id", "{name!r} is no id of the Hub: write ORG/NAME, of letters, digits, "
                                 "'-', '_' and '.'", name=name))  # fmt: skip
        return cls(match["name"], match["revision"], match["part"])

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
    explicit = reference.startswith("hub:")
    try:
        id = HubId.read(reference)
    except UserError:
        if explicit:
            raise
        return None
    return id if explicit or not Path(reference.partition("/")[0]).exists() else None


def pinned(recipe: Recipe, commit: Callable[[HubId], str]) -> Recipe:
    """The recipe with every id of the Hub in it bound to the commit that it means now.

    These are its teacher, what nets start from, the models that its task and students name, and whatever begins with
    ``hub:``.

    Args:
        recipe: as the user wrote it.
        commit: gives the commit of an id.
    """

    def pin(text: str) -> str:
        name, mark, half = text.partition("#")
        id = hub_id(name)
        if id is None:
            return text
        exact = id.revision is not None and COMMIT.fullmatch(id.revision)
        return f"{id if exact else id.at(commit(id))}{mark}{half}"

    def walk(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: walk(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [walk(item, key) for item in value]
        names_a_model = isinstance(value, str) and (value.startswith("hub:") or key in MODELS)
        return pin(value) if names_a_model else value

    data = recipe.model_dump(mode="json")
    walked = {**data, "teacher": walk(data["teacher"], "teacher"), "task": walk(data["task"]),
              "init": walk(data["init"], "init"), "student": walk(data["student"]),
              "teachers": {name: walk(each, "teacher") for name, each in data["teachers"].items()},
              "assistants": [{**link, "init": walk(link["init"], "init"), "student": walk(link["student"])}
                             for link in data["assistants"]]}  # fmt: skip
    return recipe if walked == data else parse(walked)
