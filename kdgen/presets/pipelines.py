"""Students of models on the Hub that are too large for what most people have at hand: for one large GPU.

Their models' licences are to be accepted on the Hub first. `kdgen plan` says what they take without fetching them.
"""

from kdgen.recipe import CacheSpec, Guidance, Recipe, Stage
from kdgen.registry import Spec, register

SD3 = "stabilityai/stable-diffusion-3-medium-diffusers"


@register("preset")
def sd3_vae_decoder() -> Recipe:
    """A small decoder for the latents of Stable Diffusion 3: with a model of the Hub, on a GPU."""
    decode = {"encoder": f"hub:{SD3}/vae", "images": {"name": "folder", "args": {"path": "photographs"}},
              "channels": 3, "patch": 256, "loss": "l1", "num_images": 200}  # fmt: skip
    return Recipe(
        name="sd3-vae-decoder",
        task=Spec(name="decode", args=decode),
        teacher=f"hub:{SD3}/vae#decoder",
        student=Spec(name="vae_decoder", args={"latent": 16, "widths": [32, 64, 96, 128]}),
        stages=(
            Stage(methods=(Guidance(name="output"), Guidance(name="perceptual", weight=0.1)),
                  ratio=Spec(name="fixed", args={"alpha": 0.9}), lr=1e-3),
        ),
        seconds=4 * 3600,
        batch_size=16,
        cache=CacheSpec(inputs=0),
        device="cuda",
        evaluate_every=600,
        checkpoint_every=300,
    )  # fmt: skip
