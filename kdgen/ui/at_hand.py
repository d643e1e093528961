"""Which presets run with what is at hand here, which train on pictures that a visitor brings, and what others lack."""

from collections.abc import Mapping
from typing import Any

from kdgen import registry
from kdgen.models.task_arguments import task_class
from kdgen.presets import preset
from kdgen.recipe import Checkpoint, Recipe
from kdgen.ui.shelves import SHELVES
from kdgen.utils.references import renamed

STAND_IN = {"name": "scenes"}
"""In place of pictures that are not there yet, wherever only their size counts."""


def files_of(recipe: Recipe) -> list[str]:
    """The files and folders that a recipe names, each once: a teacher's weights, and what its images lie in."""
    named = list[str]()

    def noted(what: str, said: str) -> str:
        if what == "path":
            named.append(said)
        return said

    renamed(recipe, noted)
    teacher = [recipe.teacher.file] if isinstance(recipe.teacher, Checkpoint) else []
    return list(dict.fromkeys([*teacher, *named]))


def brings_pictures(recipe: Recipe) -> bool:
    """Whether a recipe trains on a folder of pictures alone, whose place those that a visitor brings can take."""
    images = recipe.task.args.get("images")
    return isinstance(images, Mapping) and images.get("name") == "folder"


def runs_here(recipe: Recipe) -> bool:
    """Whether a recipe needs no files but pictures that a visitor brings."""
    images: Any = recipe.task.args.get("images")
    return files_of(recipe) == ([images["args"]["path"]] if brings_pictures(recipe) else [])


def stood_in(recipe: Recipe) -> Recipe:
    """A recipe whose task can be built before a visitor has brought its pictures."""
    if not brings_pictures(recipe):
        return recipe
    task = recipe.task.model_copy(update={"args": {**recipe.task.args, "images": STAND_IN}})
    return recipe.model_copy(update={"task": task})


def for_files() -> list[Recipe]:
    """Presets that teach a student with files that somebody has to get first, of the kinds that the app lists."""
    made = (preset(name) for name in registry.names("preset"))
    return [recipe for recipe in made if recipe.teacher is not None and recipe.device == "auto"
            and not runs_here(recipe) and task_class({"name": recipe.task.name}).group in SHELVES]  # fmt: skip
