"""Students of models on the Hub that are too large for what most people have at hand: for one large GPU.

Their models' licences are to be accepted on the Hub first. `kdgen plan` says what they take without fetching them. The
few prompts here are a beginning: thousands of one's own in a file are better, `--set task.args.prompts=prompts.txt`.
"""

from typing import Any

from kdgen.recipe import CacheSpec, Guidance, Recipe, Stage
from kdgen.recipe.parts import Memory
from kdgen.registry import Spec, register

SD15, XL = "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0"
SD3, FLUX = "stabilityai/stable-diffusion-3-medium-diffusers", "black-forest-labs/FLUX.1-dev"
PROMPTS = ("a photograph of a red fox in snow", "a watercolour of a lighthouse", "a bowl of ramen, from above",
           "a portrait of an old fisherman", "a street in Lisbon after rain", "a robot reading a newspaper",
           "macro of a dandelion", "an isometric drawing of a small library")  # fmt: skip
ON_GPU: dict[str, Any] = {
    "device": "cuda",
    "evaluate_every": 600,
    "checkpoint_every": 300,
    "cache": CacheSpec(inputs=0),
}
LCM = {"_class_name": "LCMScheduler"}


def skipping(weight: float = 1.0) -> Guidance:
    """Consistency along the teacher's trajectories, 20 timesteps apart: latent consistency models."""
    args = {"source": "teacher", "skip": 20, "weight": "edm", "sigma_data": 1.0, "c": 0.001}
    return Guidance(name="consistency", args=args, weight=weight)


def in_four_steps(name: str, model: str, student: Spec, *stages: Stage, batch_size: int, **task: Any) -> Recipe:
    """A recipe for a student of four steps that learns from latents of its teacher's own."""
    args = {"model": f"hub:{model}", "prompts": [*PROMPTS], "steps": [4, 2, 8], "num_latents": 4000, "num_steps": 25,
            "picture": 256, "num_images": 200, **task}  # fmt: skip
    return Recipe(
        name=name, task=Spec(name="latent_few_steps", args=args), teacher=f"hub:{model}", student=student,
        stages=stages, steps=6000, batch_size=batch_size, precision="bfloat16", ema=0.99, controls=False,
        memory=Memory(checkpointing=True), **ON_GPU,
    )  # fmt: skip


def adapters(model: str, **more: Any) -> Spec:
    """A LoRA of rank 64."""
    return Spec(name="lora", args={"model": f"hub:{model}", "rank": 64, **more})


@register("preset")
def sdxl_lora_4() -> Recipe:
    """Stable Diffusion XL in four steps, by adapters that its pipelines load: with a model of the Hub, on a GPU."""
    learn = Stage(name="few steps", methods=(skipping(),), lr=1e-4, warmup=0.05)
    return in_four_steps("sdxl-lora-4", XL, adapters(XL, scheduler=LCM), learn, batch_size=8, guidance=7.0)


@register("preset")
def sd15_small_few() -> Recipe:
    """Half of Stable Diffusion 1.5 in four steps, first smaller and then few: with a model of the Hub, on a GPU."""
    scheduler = {**LCM, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    small = {"size": 64, "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 1, "norm_num_groups": 32,
             "words_dim": 768, "scheduler": scheduler}  # fmt: skip
    narrow = Stage(name="narrow", methods=(Guidance(name="output"), Guidance(name="blocks", weight=0.1)), share=0.5,
                   lr=5e-5)  # fmt: skip
    few = Stage(name="few steps", methods=(skipping(),), share=0.5, lr=2e-5, warmup=0.05)
    student = Spec(name="stable_diffusion", args=small)
    recipe = in_four_steps("sd15-small-few", SD15, student, narrow, few, batch_size=16, guidance=7.5)
    return recipe.model_copy(update={"init": "teacher"}).lasting(steps=40000)


@register("preset")
def flux_lora_4() -> Recipe:
    """Flux in four steps by adapters, along its flow and past critics in it: with a model of the Hub, on a GPU."""
    played = {"steps": 4, "sampler": "euler"}
    methods = (skipping(), Guidance(name="latent_adversarial", args=played, weight=0.1))
    learn = Stage(name="few steps", methods=methods, lr=1e-4, warmup=0.05)
    return in_four_steps("flux-lora-4", FLUX, adapters(FLUX), learn, batch_size=2, sampler="euler", mean=1.1)


@register("preset")
def sd3_vae_decoder() -> Recipe:
    """A small decoder for the latents of Stable Diffusion 3: with a model of the Hub, on a GPU."""
    decode = {"encoder": f"hub:{SD3}/vae", "images": {"name": "folder", "args": {"path": "photographs"}},
              "channels": 3, "patch": 256, "loss": "l1", "num_images": 200}  # fmt: skip
    learn = Stage(methods=(Guidance(name="output"), Guidance(name="perceptual", weight=0.1)),
                  ratio=Spec(name="fixed", args={"alpha": 0.9}), lr=1e-3)  # fmt: skip
    return Recipe(
        name="sd3-vae-decoder", task=Spec(name="decode", args=decode), teacher=f"hub:{SD3}/vae#decoder",
        student=Spec(name="vae_decoder", args={"latent": 16, "widths": [32, 64, 96, 128]}), stages=(learn,),
        seconds=4 * 3600, batch_size=16, **ON_GPU,
    )  # fmt: skip
