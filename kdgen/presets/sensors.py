"""What sensors other than cameras see: depth maps, cleaned and completed."""

from typing import Any

from kdgen.presets.denoising import taught
from kdgen.presets.teachers import untaught
from kdgen.recipe import CacheSpec, Recipe, Stage
from kdgen.registry import Spec, register

COMPLETED: dict[str, Any] = {
    "damages": ["depth_camera"], "channels": 1, "images": {"name": "depth_scenes"},
    "evaluate": {"name": "depth_scenes"}, "loss": "l1",
}  # fmt: skip
"""The task of depth maps, from a depth camera's to the scene's."""


def completing(*widths: int) -> Spec:
    """A net that is told which readings are missing."""
    return Spec(name="unet", args={"channels": 1, "widths": list(widths), "blind": True, "mask": True,
                                   "first_guess": True})  # fmt: skip


@register("preset")
def depth_teacher() -> Recipe:
    """The bundled net of depth maps: against a depth camera's noise, steps and missing readings."""
    return untaught(
        name="depth-completer",
        task=Spec(name="restore", args=COMPLETED),
        student=completing(12, 24, 48),
        stages=(Stage(name="train", optimizer="muon", lr=4e-3),),
        steps=4000,
        batch_size=8,
        ema=0.995,
        evaluate_every=120,
    )


@register("preset")
def depth() -> Recipe:
    """A small net that cleans and completes depth maps, from the bundled one: 100 s, and as long for each control."""
    return Recipe(
        name="depth",
        task=Spec(name="restore", args=COMPLETED),
        teacher="depth-completer",
        student=completing(4, 8, 16),
        stages=taught(4e-3),
        seconds=100,
        batch_size=8,
        cache=CacheSpec(inputs=1500),
    )
