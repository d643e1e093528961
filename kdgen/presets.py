"""Recipes that come with kdgen. A preset is a function that returns a Recipe; its docstring is its summary."""

from kdgen.recipe import Pool, Recipe, Stage, Term
from kdgen.registry import Use, get, register


def preset(name: str) -> Recipe:
    """The recipe of a preset.

    Raises:
        UserError: for an unknown name, with the nearest ones.
    """
    recipe: Recipe = get("preset", name)()
    return recipe


@register("preset")
def denoise() -> Recipe:
    """A small grey denoiser for sigma 25 from the bundled teacher and procedural images: two minutes on two cores.

    The fine-tuning stage keeps the teacher, at a tenth of the learning rate: the controls show that on procedural
    images the truth alone leads away from photographs. With photographs as ``images``, drop its methods.
    """
    from_teacher = (Term(name="output", args={"loss": "l1"}),)
    return Recipe(
        name="denoise",
        task=Use(name="denoise", args={"sigma": 25, "channels": 1, "loss": "l1"}),
        teacher="denoiser",
        student=Use(name="half_res", args={"width": 32, "blocks": 3}),
        stages=(
            Stage(share=0.9, methods=from_teacher, optimizer="muon", lr=5e-3, final=0.1),
            Stage(name="fine-tune", share=0.1, methods=from_teacher, optimizer="muon", lr=5e-4, warmup=0),
        ),
        seconds=100,
        batch_size=8,
        pool=Pool(patches=3000, crop=48),
    )


@register("preset")
def denoiser_teacher() -> Recipe:
    """The bundled teacher itself: grey and colour, sigma 0 to 55, from dead leaves and a folder `photographs`."""
    sources = [
        {"name": "dead_leaves", "args": {"texture": 0.05}},
        {"name": "folder", "args": {"path": "photographs", "scales": [1.0, 0.8, 0.6]}},
    ]
    images = {"name": "mixture", "args": {"sources": sources, "weights": [0.3, 0.7]}}
    return Recipe(
        name="denoiser",
        task=Use(name="denoise", args={"sigma": [0, 55], "channels": "both", "images": images, "loss": "l1"}),
        student=Use(name="unet"),
        stages=(Stage(name="train", optimizer="muon", lr=4e-3),),
        seconds=5400,
        batch_size=8,
        pool=Pool(patches=0),
        controls=False,
        evaluate_every=120,
        checkpoint_every=60,
    )
