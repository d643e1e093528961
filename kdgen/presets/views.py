"""Students that see less than their teachers, and students for images that their teachers were not trained on."""

from typing import Any

from pydantic import JsonValue

from kdgen.presets import preset
from kdgen.recipe import Recipe
from kdgen.registry import Spec, register


def seen(recipe: Recipe, name: str, *, wrapper: str = "views", **args: JsonValue) -> Recipe:
    """A recipe with its task wrapped, so that student and teacher see its images each its own way."""
    inner: dict[str, Any] = {"task": recipe.task.model_dump(mode="json"), **args}
    return recipe.model_copy(update={"name": name, "task": Spec(name=wrapper, args=inner)})


@register("preset")
def grey_sees_colour() -> Recipe:
    """A classifier of grey pictures, at an eighth of the cost, taught by one that sees their colours: five minutes.

    Its teacher and pictures are those of the preset ``classify``, which says where to get them.
    """
    return seen(preset("classify"), "grey-sees-colour", student=["grey"])


@register("preset")
def night_sees_day() -> Recipe:
    """A small net for underexposed photographs, taught by a restorer that sees them by day: six minutes."""
    recipe = preset("low-light")
    clear: list[JsonValue] = [{"name": "noise", "args": {"sigma": 2}}]
    task = Spec(name="restore", args={**recipe.task.args, "damages": clear})
    return seen(recipe.model_copy(update={"task": task}), "night-sees-day", student=["dark"])


@register("preset")
def harden_classify() -> Recipe:
    """The preset ``classify`` on pictures of which half are noisy, blurred, compressed or pale."""
    return seen(preset("classify"), "harden-classify", wrapper="harden")
