"""The bundled teachers themselves: trained without a teacher, on images that their licences allow.

Paths are relative to where the command runs: `fashion-mnist` holds the IDX files of Fashion-MNIST (MIT), `emoji-noto`
PNG files of Noto emoji (Apache-2.0), `photographs` what `benchmarks/photographs.py` collects, `emoji-captioned` what
`benchmarks/emoji.py` writes, and `emoji-parts` what `benchmarks/emoji_pipeline.py` does.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue

from kdgen.recipe import CacheSpec, Recipe, Stage, Term
from kdgen.registry import Spec, register


def untaught(**recipe: Any) -> Recipe:
    """A recipe without a teacher, and so without answers to keep and without controls."""
    return Recipe(**recipe, cache=CacheSpec(inputs=0), controls=False, checkpoint_every=60)


def clothes(kind: str = "train", *, labelled: bool = False) -> dict[str, JsonValue]:
    """Fashion-MNIST as a source of images."""
    args: dict[str, JsonValue] = {"images": f"fashion-mnist/{kind}-images-idx3-ubyte.gz"}
    if labelled:
        args["labels"] = f"fashion-mnist/{kind}-labels-idx1-ubyte.gz"
    return {"name": "idx", "args": args}


def emoji(**args: Any) -> dict[str, JsonValue]:
    """Noto emoji as a source of images: whole, on white."""
    return {"name": "folder", "args": {"path": "emoji-noto", "whole": True, **args}}


@register("preset")
def denoiser_teacher() -> Recipe:
    """The bundled teacher itself: grey and colour, sigma 0 to 55, from dead leaves and a folder `photographs`."""
    images = photographed(leaves=0.3, scales=(1.0, 0.8, 0.6))
    return untaught(
        name="denoiser",
        task=Spec(name="denoise", args={"sigma": [0, 55], "channels": "both", "images": images, "loss": "l1"}),
        student=Spec(name="unet"),
        stages=(Stage(name="train", optimizer="muon", lr=4e-3),),
        seconds=5400,
        batch_size=8,
        evaluate_every=120,
    )


@register("preset")
def generalist_teacher() -> Recipe:
    """The bundled restorer of any damage: noise, blur, JPEG, darkness, rain, holes that it is told, missing colour."""
    jpeg = {"name": "jpeg", "args": {"quality": [10, 80]}}
    damages = [
        {"name": "noise", "args": {"sigma": [0, 50]}},
        [{"name": "blur", "args": {"radius": [0.5, 2.5], "ratio": [0.4, 1]}}, {"name": "noise", "args": {"sigma": 2}}],
        jpeg, jpeg,  # learnt last
        "dark", "rain", "mask", "grey",
    ]  # fmt: skip
    made: dict[str, Any] = {"damages": [{"name": "one_of", "args": {"damages": damages}}], "patch": 96, "loss": "l1"}
    return untaught(
        name="generalist",
        task=Spec(name="restore", args={**made, "images": photographed(leaves=0.3)}),
        student=Spec(name="unet", args={"widths": [24, 48, 96, 160], "blind": True, "mask": True, "stops": True}),
        stages=(Stage(name="train", optimizer="muon", lr=1e-3),),
        seconds=7200,
        batch_size=4,
        evaluate_every=300,
    )


@register("preset")
def upscaler_x4_teacher() -> Recipe:
    """The bundled upscaler: four times higher and wider, as the benchmarks of super-resolution shrink."""
    return upscaler(4)


@register("preset")
def upscaler_x2_teacher() -> Recipe:
    """The bundled upscaler: twice higher and wider."""
    return upscaler(2)


def upscaler(scale: int) -> Recipe:
    """An upscaler from dead leaves and a folder `photographs`."""
    shrink: JsonValue = [{"name": "shrink", "args": {"scale": scale}}]
    how: dict[str, Any] = {"damages": shrink, "patch": 24 * scale, "loss": "l1", "measure": "y"}
    return untaught(
        name=f"upscaler-x{scale}",
        task=Spec(name="restore", args={**how, "images": photographed(leaves=0.2)}),
        student=Spec(name="edsr", args={"width": 48, "scale": scale}),
        stages=(Stage(name="train", optimizer="muon", lr=1e-3),),
        seconds=3600,
        batch_size=16,
        evaluate_every=300,
    )


def photographed(*, leaves: float, scales: Sequence[float] = (1.0, 0.8, 0.6, 0.4)) -> dict[str, JsonValue]:
    """What restorers are trained on: a share of dead leaves, and a folder `photographs` at several sizes."""
    sources: list[JsonValue] = [
        {"name": "dead_leaves", "args": {"texture": 0.05}},
        {"name": "folder", "args": {"path": "photographs", "scales": [*scales]}},
    ]
    return {"name": "mixture", "args": {"sources": sources, "weights": [leaves, 1 - leaves]}}


@register("preset")
def features32_teacher() -> Recipe:
    """The bundled features: a classifier of clothes and of single emoji, for distances between images of 32x32."""
    sources: list[JsonValue] = [clothes(labelled=True), emoji()]
    images: dict[str, JsonValue] = {"name": "mixture", "args": {"sources": sources}}
    return untaught(
        name="features32",
        task=Spec(name="classify", args={"images": images, "evaluate": clothes("t10k", labelled=True)}),
        student=Spec(name="feature_net", args={"classes": 1804}),
        stages=(Stage(name="train", optimizer="muon", lr=3e-3, weight_decay=0.01),),
        seconds=480,
        batch_size=64,
        evaluate_every=60,
    )


@register("preset")
def gan_teacher() -> Recipe:
    """The bundled GAN: clothes of 32x32 from 64 numbers."""
    game = Term(name="adversarial", args={"width": 32})
    return untaught(
        name="gan",
        task=Spec(name="generate", args={"latent": 64, "images": clothes()}),
        student=Spec(name="conv_generator", args={"latent": 64, "width": 32}),
        stages=(Stage(name="train", objectives=(game,), lr=6e-4, discriminator_lr=6e-4, betas=(0.0, 0.99), clip=0),),
        seconds=1500,
        batch_size=32,
        ema=0.998,
        evaluate_every=120,
    )


@register("preset")
def vae_teacher() -> Recipe:
    """The bundled variational autoencoder: colour images of any size, a quarter of it in 4 channels."""
    photographs: JsonValue = {"name": "folder", "args": {"path": "photographs"}}
    sources: list[JsonValue] = [{"name": "dead_leaves"}, photographs, emoji()]
    images: dict[str, JsonValue] = {"name": "mixture", "args": {"sources": sources, "weights": [0.3, 0.4, 0.3]}}
    return untaught(
        name="vae",
        task=Spec(name="autoencode", args={"images": images, "channels": 3, "loss": "l1"}),
        student=Spec(name="vae", args={"widths": [32, 64, 96]}),
        stages=(Stage(name="train", objectives=(Term(name="kl", weight=1e-3),), optimizer="muon", lr=4e-3),),
        seconds=900,
        batch_size=16,
        evaluate_every=120,
    )


@register("preset")
def diffusion_teacher() -> Recipe:
    """The bundled diffusion model: clothes of 32x32."""
    return untaught(
        name="diffusion",
        task=Spec(name="diffuse", args={"images": clothes(), "data": True}),
        student=Spec(name="unet2d", args={"block_out_channels": [16, 32, 64, 96], "layers_per_block": 1}),
        stages=(Stage(name="train", optimizer="muon", lr=2e-3),),
        seconds=3300,
        batch_size=32,
        precision="float32",
        evaluate_every=3600,
    )


EMOJI_UNET: dict[str, Any] = {
    "size": 8, "block_out_channels": [32, 80, 128], "attention_head_dim": 4, "words_dim": 96,
    "scheduler": {
        "_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1,
        "timestep_spacing": "trailing",
    },
}  # fmt: skip
"""The U-Net of the bundled text-to-image model, of latents 4x8x8 and words of 96 channels."""


@register("preset")
def emoji_teacher() -> Recipe:
    """The bundled text-to-image model: emoji of 32x32, from a folder of captioned ones and a pipeline of its parts."""
    images: JsonValue = {"name": "captioned", "args": {"path": "emoji-captioned"}}
    task: dict[str, Any] = {"model": "emoji-parts", "images": images, "mean": 0.3, "std": 1.4}
    return untaught(
        name="emoji",
        task=Spec(name="latent_diffusion", args=task),
        student=Spec(name="stable_diffusion", args=EMOJI_UNET),
        init="emoji-parts",
        stages=(Stage(name="train", optimizer="muon", lr=3e-3),),
        seconds=2460,
        batch_size=64,
        precision="float32",
        evaluate_every=3600,
    )
