"""Upscalers, and specialists for one damage each that the bundled generalist teaches."""

from collections.abc import Sequence
from typing import Any

from kdgen.presets.denoising import taught
from kdgen.presets.generators import add_large
from kdgen.recipe import CacheSpec, Recipe
from kdgen.registry import Spec, register

HALF = Spec(name="half_res", args={"width": 28})
"""For what is to be seen within a few pixels."""


def wide(**told: bool) -> Spec:
    """For what takes a larger part of the image; ``mask`` or ``stops`` where it is told that, and guesses by it."""
    return Spec(name="unet", args={"widths": [8, 16, 32], "blind": True, "first_guess": bool(told), **told})


def specialist(
    name: str, damages: Sequence[Any], student: Spec, *, teacher: str = "generalist", lr: float = 5e-3, **task: Any
) -> Recipe:
    """A small net for some damages from a teacher of more, in two minutes of training."""
    args = {"damages": list(damages), "loss": "l1", **task}
    return Recipe(
        name=name,
        task=Spec(name="restore", args=args),
        teacher=teacher,
        student=student,
        stages=taught(lr),
        seconds=100,
        batch_size=8,
        cache=CacheSpec(inputs=1500),
    )


def upscale(scale: int) -> Recipe:
    """A small upscaler from the bundled one."""
    compact = Spec(name="compact", args={"width": 24, "depth": 8, "scale": scale})
    shrink = {"name": "shrink", "args": {"scale": scale}}
    recipe = specialist(f"upscale-x{scale}", [shrink], compact, teacher=f"upscaler-x{scale}",
                        patch=32 * scale, measure="y")  # fmt: skip
    return recipe.model_copy(update={"batch_size": 16})


@register("preset")
def upscale_x4() -> Recipe:
    """A small upscaler, four times higher and wider, that most programs open: from the bundled upscaler."""
    return upscale(4)


@register("preset")
def upscale_x2() -> Recipe:
    """A small upscaler, twice higher and wider, that most programs open: from the bundled upscaler."""
    return upscale(2)


@register("preset")
def deblur() -> Recipe:
    """A small net against soft focus, from the bundled generalist."""
    soft = {"name": "blur", "args": {"radius": [0.5, 2.5], "ratio": [0.4, 1]}}
    return specialist("deblur", [soft, {"name": "noise", "args": {"sigma": 2}}], HALF)


@register("preset")
def dejpeg() -> Recipe:
    """A small net against what JPEG leaves at qualities 10 to 80, from the bundled generalist."""
    return specialist("dejpeg", [{"name": "jpeg", "args": {"quality": [10, 80]}}], HALF)


@register("preset")
def low_light() -> Recipe:
    """A small net for photographs of which it is told how underexposed they are, from the bundled generalist."""
    return specialist("low-light", ["dark"], wide(stops=True), lr=2e-3)


@register("preset")
def inpaint() -> Recipe:
    """A small net that fills holes it is told of, from the bundled generalist."""
    return specialist("inpaint", ["mask"], wide(mask=True), lr=2e-3, patch=96)


@register("preset")
def colorize() -> Recipe:
    """A small net that colours grey photographs, from the bundled generalist."""
    return specialist("colorize", ["grey"], wide(), lr=2e-3)


@register("preset")
def derain() -> Recipe:
    """A small net that takes away streaks of rain, from the bundled generalist."""
    return specialist("derain", ["rain"], HALF)


@register("preset")
def stylize() -> Recipe:
    """A small net that paints in strokes, from the bundled painter: without any truth."""
    recipe = specialist("stylize", [], Spec(name="half_res", args={"width": 12, "blocks": 2}), teacher="painter")
    return recipe.model_copy(update={"task": Spec(name="translate")})


for each in (upscale_x4, upscale_x2, deblur, dejpeg, low_light, inpaint, colorize, derain, stylize):
    add_large(each)
