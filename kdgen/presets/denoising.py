"""Denoisers."""

from kdgen.recipe import CacheSpec, Guidance, Recipe, Stage
from kdgen.registry import Spec, register

FROM_TEACHER = (Guidance(name="output", args={"loss": "l1"}),)
"""The teacher's images, by absolute difference."""


def taught(lr: float = 5e-3) -> tuple[Stage, Stage]:
    """Stages that match the teacher's images, the second of them at a tenth of the learning rate."""
    return (
        Stage(share=0.9, methods=FROM_TEACHER, optimizer="muon", lr=lr, final=0.1),
        Stage(name="fine-tune", share=0.1, methods=FROM_TEACHER, optimizer="muon", lr=lr / 10, warmup=0),
    )


@register("preset")
def denoise() -> Recipe:
    """A small grey denoiser for sigma 25 from the bundled teacher and procedural images: two minutes of training.

    The fine-tuning stage keeps the teacher, at a tenth of the learning rate: the controls show that on procedural
    images the truth alone leads away from photographs. With photographs as ``images``, drop its methods.
    """
    return Recipe(
        name="denoise",
        task=Spec(name="denoise", args={"sigma": 25, "channels": 1, "loss": "l1"}),
        teacher="denoiser",
        student=Spec(name="half_res", args={"width": 32, "blocks": 3}),
        stages=taught(),
        seconds=100,
        batch_size=8,
        cache=CacheSpec(inputs=3000, crop=48),
    )
