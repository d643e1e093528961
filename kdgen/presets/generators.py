"""GANs, autoencoders and diffusion models. The teacher is the data: none of them needs images from elsewhere."""

from collections.abc import Callable

from pydantic import JsonValue

from kdgen.recipe import CacheSpec, Guidance, Recipe, Stage, Term
from kdgen.registry import Spec, register

LEAVES: dict[str, JsonValue] = {"name": "dead_leaves"}


CRITIC = Guidance(name="adversarial", weight=0.1, args={"width": 16})
"""The teacher's images, as far as a critic can tell."""


def output(weight: float = 1.0) -> Guidance:
    """The teacher's images, by absolute difference."""
    return Guidance(name="output", weight=weight, args={"loss": "l1"})


def large(preset: Callable[[], Recipe], *, batch_size: int = 256, inputs: int = 100_000) -> Recipe:
    """A preset for ten minutes of training on one large GPU."""
    recipe = preset()
    bigger = {"cache": recipe.cache.model_copy(update={"inputs": inputs}), "batch_size": batch_size, "device": "cuda"}
    if recipe.task.name == "diffuse":
        bigger["task"] = diffuse(drawn=10_000, drawn_steps=18, num_images=2000, num_steps=18)
    return recipe.model_copy(update={"name": f"{recipe.name}-gpu", **bigger}).lasting(seconds=600)


def add_large(preset: Callable[[], Recipe]) -> None:
    """Register the variant of a preset for a GPU."""

    def variant() -> Recipe:
        return large(preset)

    variant.__name__ = f"{preset.__name__}_gpu"
    variant.__doc__ = f"The preset {preset.__name__.replace('_', '-')} for ten minutes of training on one large GPU."
    register("preset")(variant)


def diffuse(*, drawn: int, drawn_steps: int, num_images: int, num_steps: int) -> Spec:
    """The task of students of the bundled diffusion model.

    Args:
        drawn: images that it draws to train on.
        drawn_steps: steps in which it draws them.
        num_images: on which a net is measured.
        num_steps: in which a net draws those.
    """
    samples: dict[str, JsonValue] = {"model": "diffusion", "num_images": drawn, "num_steps": drawn_steps}
    images: dict[str, JsonValue] = {"name": "samples", "args": samples}
    return Spec(name="diffuse", args={"images": images, "channels": 1, "size": 32, "num_images": num_images,
                                     "num_steps": num_steps})  # fmt: skip


@register("preset")
def gan() -> Recipe:
    """A tenth of the multiply-accumulates of the bundled GAN, from its images alone."""
    return Recipe(
        name="gan",
        task=Spec(name="generate", args={"latent": 64, "channels": 1, "size": 32}),
        teacher="gan",
        student=Spec(name="conv_generator", args={"latent": 64, "width": 10}),
        stages=(Stage(methods=(output(5.0), CRITIC), optimizer="muon", lr=5e-3, final=0.02, discriminator_lr=6e-4),),
        seconds=100,
        batch_size=32,
        cache=CacheSpec(inputs=20_000),
    )


@register("preset")
def gan_to_mlp() -> Recipe:
    """A fully connected generator from the bundled convolutional one."""
    return gan().model_copy(
        update={"name": "gan-to-mlp", "student": Spec(name="mlp_generator", args={"latent": 64, "hidden": [256, 512]})}
    )


@register("preset")
def high_to_low() -> Recipe:
    """A generator of 16x16 from the bundled one of 32x32, whose images are shrunk properly."""
    return gan().model_copy(
        update={
            "name": "high-to-low",
            "task": Spec(name="generate", args={"latent": 64, "channels": 1, "size": 16}),
            "student": Spec(name="conv_generator", args={"latent": 64, "size": 16, "width": 12}),
        }
    )


@register("preset")
def autoencoder() -> Recipe:
    """A fifteenth of the bundled autoencoder: the same latents, the same images, from procedural ones.

    Of the latents the means are matched, which are what is decoded: beside logarithms of variances, which are larger,
    their errors would not show.
    """
    return Recipe(
        name="autoencoder",
        task=Spec(name="autoencode", args={"images": LEAVES, "channels": 3, "loss": "l1"}),
        teacher="vae",
        student=Spec(name="vae", args={"widths": [8, 16, 24], "sample": False}),
        stages=(
            Stage(
                methods=(output(), Guidance(name="feature", args={"pairs": [["latents", "latents"]]})),
                ratio=Spec(name="fixed", args={"alpha": 0.9}),
                optimizer="muon",
                lr=5e-3,
                final=0.02,
            ),
        ),
        seconds=60,
        batch_size=16,
        cache=CacheSpec(inputs=3000),
    )


@register("preset")
def vae() -> Recipe:
    """A fifteenth of the bundled variational autoencoder, with its Gaussian latents.

    Training decodes means: a student's variances hold its errors too, many times the noise of its teacher, which would
    blur what its decoder learns.
    """
    return autoencoder().model_copy(
        update={
            "name": "vae",
            "student": Spec(name="vae", args={"widths": [8, 16, 24], "sample": False}),
            "stages": (
                Stage(
                    methods=(output(), Guidance(name="gaussian_kl", weight=0.1)),
                    objectives=(Term(name="kl", weight=1e-3),),
                    ratio=Spec(name="fixed", args={"alpha": 0.9}),
                    optimizer="muon",
                    lr=5e-3,
                    final=0.02,
                ),
            ),
        }
    )


@register("preset")
def vae_decoder() -> Recipe:
    """A fifteenth of the decoder of the bundled autoencoder, for the latents of its encoder."""
    return Recipe(
        name="vae-decoder",
        task=Spec(name="decode", args={"encoder": "vae", "images": LEAVES, "channels": 3, "loss": "l1"}),
        teacher="vae#decoder",
        student=Spec(name="vae_decoder", args={"widths": [8, 16, 24]}),
        stages=(
            Stage(methods=(output(),), ratio=Spec(name="fixed", args={"alpha": 0.9}), optimizer="muon", lr=5e-3,
                  final=0.02),
        ),
        seconds=60,
        batch_size=16,
        cache=CacheSpec(inputs=3000),
    )  # fmt: skip


@register("preset")
def diffusion() -> Recipe:
    """A sixth of the multiply-accumulates of the bundled diffusion model, from images that it draws itself."""
    return Recipe(
        name="diffusion",
        task=diffuse(drawn=300, drawn_steps=8, num_images=300, num_steps=8),
        teacher="diffusion",
        student=Spec(name="unet2d", args={"block_out_channels": [8, 16, 16, 24]}),
        stages=(
            Stage(methods=(Guidance(name="output"),), ratio=Spec(name="fixed", args={"alpha": 0.9}), optimizer="muon",
                  lr=6e-3, final=0.02),
        ),
        seconds=75,
        batch_size=16,
        cache=CacheSpec(inputs=2000),
        evaluate_every=60,
    )  # fmt: skip


@register("preset")
def diffusion_blocks() -> Recipe:
    """The student of ``diffusion``, started from its teacher's weights and matched block by block (BK-SDM).

    The last blocks on the way up are left out: they stand next to the output, which is matched itself, and at their
    resolution features would cost a fifth of the steps.
    """
    blocks = [f"unet.down_blocks.{i}" for i in range(4)] + ["unet.mid_block", "unet.up_blocks.0"]
    pairs: list[JsonValue] = [[path, path] for path in blocks]
    stage = Stage(
        methods=(Guidance(name="output"), Guidance(name="blocks", weight=0.02, args={"pairs": pairs})),
        ratio=Spec(name="fixed", args={"alpha": 0.9}),
        optimizer="muon",
        lr=6e-3,
        final=0.02,
    )
    return diffusion().model_copy(update={"name": "diffusion-blocks", "init": "teacher", "stages": (stage,)})


for each in (gan, gan_to_mlp, high_to_low, autoencoder, vae, vae_decoder, diffusion, diffusion_blocks):
    add_large(each)
