"""Denoisers."""

from kdgen.recipe import CacheSpec, Guidance, Recipe, Stage
from kdgen.registry import Spec, register


@register("preset")
def denoise() -> Recipe:
    """A small grey denoiser for sigma 25 from the bundled teacher and procedural images: two minutes on two cores.

    The fine-tuning stage keeps the teacher, at a tenth of the learning rate: the controls show that on procedural
    images the truth alone leads away from photographs. With photographs as ``images``, drop its methods.
    """
    from_teacher = (Guidance(name="output", args={"loss": "l1"}),)
    return Recipe(
        name="denoise",
        task=Spec(name="denoise", args={"sigma": 25, "channels": 1, "loss": "l1"}),
        teacher="denoiser",
        student=Spec(name="half_res", args={"width": 32, "blocks": 3}),
        stages=(
            Stage(share=0.9, methods=from_teacher, optimizer="muon", lr=5e-3, final=0.1),
            Stage(name="fine-tune", share=0.1, methods=from_teacher, optimizer="muon", lr=5e-4, warmup=0),
        ),
        seconds=100,
        batch_size=8,
        cache=CacheSpec(inputs=3000, crop=48),
    )
