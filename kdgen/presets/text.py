"""Presets that make the bundled text-to-image model smaller, faster and free of guidance's second call.

Prompts are its own, the latents it draws for them are all the data. Seconds are of training on one core; the latents,
which all presets share, take some minutes once.
"""

from collections.abc import Callable
from typing import Any

from kdgen.presets.teachers import EMOJI_UNET
from kdgen.recipe import CacheSpec, Guidance, Recipe, Stage
from kdgen.registry import Spec, register

TEACHER, SCALE = "emoji", 4.0
NARROW = (16, 40, 64)
"""Channels of a U-Net with a quarter of the teacher's multiply-accumulates."""

LEVELS = {key: value for key, value in EMOJI_UNET["scheduler"].items() if key.startswith(("beta", "prediction"))}
CONSISTENT: dict[str, Any] = {"source": "teacher", "weight": "edm", "sigma_data": 1.0, "stages": 6}


def unet(widths: tuple[int, ...] | None = None, *, few: bool = False, **more: Any) -> Spec:
    """The teacher's U-Net, of other widths if given; one of few steps is drawn as consistency models are."""
    args = {**EMOJI_UNET, **more} | ({} if widths is None else {"block_out_channels": list(widths)})
    if few:
        args["scheduler"] = {"_class_name": "LCMScheduler", "original_inference_steps": 50, **LEVELS}
    return Spec(name="stable_diffusion", args=args)


def told(student: Spec, *stages: Stage, name: str, seconds: float, few: tuple[int, ...] = (), **task: Any) -> Recipe:
    """A recipe whose teacher is the bundled text-to-image model under guidance, and draws in 50 steps."""
    args: dict[str, Any] = {
        "model": TEACHER,
        "guidance": SCALE,
        "num_latents": 500,
        "num_images": 200,
        "num_steps": 50,
        "recognise": "emoji-words",
        **task,
    }
    args |= {"steps": [*few], "mean": 0.3, "std": 1.8} if few else {"mean": 0.3, "std": 1.4}
    return Recipe(
        name=name, task=Spec(name="latent_few_steps" if few else "latent_diffusion", args=args), teacher=TEACHER,
        student=student, init="teacher", stages=stages, seconds=seconds, batch_size=32, cache=CacheSpec(inputs=0),
        ema=0.995, evaluate_every=60,
    )  # fmt: skip


def narrowing(**more: Any) -> Stage:
    """The latents that the teacher drew, what it says, and what its blocks do."""
    ratio = Spec(name="fixed", args={"alpha": 0.3})
    return Stage(name="narrow", ratio=ratio, methods=(Guidance(name="output"), Guidance(name="blocks", weight=0.1)),
                 optimizer="muon", lr=2e-3, final=0.1, **more)  # fmt: skip


def settling(**more: Any) -> Stage:
    """The latents that the teacher drew alone: a step that asks it costs twice as much."""
    return Stage(name="settle", optimizer="muon", lr=2e-3, final=0.02, **more)


def along(name: str = "few steps", **more: Any) -> Stage:
    """The latents that the teacher drew, and a little of consistency along its guided trajectories."""
    ratio = Spec(name="fixed", args={"alpha": 0.1})
    how: dict[str, Any] = {"ratio": ratio, "lr": 4e-4, "betas": (0.9, 0.99), "warmup": 0.05, "final": 0.05, **more}
    return Stage(name=name, methods=(Guidance(name="consistency", args=CONSISTENT),), **how)


@register("preset")
def text_small() -> Recipe:
    """Words: a quarter of the multiply-accumulates, and no second call for guidance."""
    return told(unet(NARROW), narrowing(share=0.2), settling(share=0.8), name="text-small", seconds=360)


@register("preset")
def text_few() -> Recipe:
    """Words: two steps without guidance in place of fifty guided ones, by the same net."""
    return told(unet(few=True), along(), name="text-few", seconds=360, few=(2, 1, 4, 8))


@register("preset")
def text_small_few() -> Recipe:
    """Words: a quarter of the multiply-accumulates and four steps, by what the teacher says, then by what it drew."""
    stages = narrowing(share=0.2), settling(share=0.8)
    return told(unet(NARROW, few=True), *stages, name="text-small-few", seconds=360, few=(4, 2, 1, 8))


@register("preset")
def text_lora() -> Recipe:
    """Words: four steps by adapters of the same net, which any pipeline of it loads."""
    args: dict[str, Any] = {"model": TEACHER, "rank": 4, "scheduler": unet(few=True).args["scheduler"]}
    return told(Spec(name="lora", args=args), along(lr=2e-3), name="text-lora", seconds=360, few=(4, 2, 1, 8))


@register("preset")
def text_guidance() -> Recipe:
    """Words: one call a step at whatever guidance, of which the net is told the scale."""
    guided = Stage(name="guidance", methods=(Guidance(name="output"),), lr=5e-4, final=0.05)
    return told(unet(guidance_dim=32), guided, name="text-guidance", seconds=360, guidance=[1.0, 8.0])


def _add_large(preset: Callable[[], Recipe]) -> None:
    """Register the variant of a preset for a GPU."""

    def variant() -> Recipe:
        recipe = preset()
        task = Spec(name=recipe.task.name, args={**recipe.task.args, "num_latents": 4000, "num_images": 1000})
        more = {"name": f"{recipe.name}-gpu", "task": task, "batch_size": 128, "device": "cuda"}
        return recipe.model_copy(update=more).lasting(seconds=600)

    variant.__name__ = f"{preset.__name__}_gpu"
    variant.__doc__ = f"The preset {preset.__name__.replace('_', '-')} for ten minutes of training on one large GPU."
    register("preset")(variant)


for each in (text_small, text_few, text_small_few, text_lora, text_guidance):
    _add_large(each)
