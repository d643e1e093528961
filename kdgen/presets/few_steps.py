"""Students of the bundled diffusion model that draw in one to four steps, from images that it draws itself."""

from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue

from kdgen.recipe import Assistant, Pool, Recipe, Stage, Term
from kdgen.registry import Use, register

WIDTHS = (16, 32, 64, 96)
"""Channels of the bundled diffusion model, whose weights are the start of a student as large."""

NARROW = (8, 16, 32, 48)
"""Channels of a student with a quarter of its multiply-accumulates."""

TABLE = "cosine"
"""Noise levels of the students: two steps are at 20,291 and 1.0, where the teacher's own table has 157 and 3.4."""

LADDER = (16, 8, 4, 2)
"""Steps of the assistants of progressive distillation; the student has one."""


def small(sampler: str = "consistency", widths: Sequence[int] = WIDTHS) -> Use:
    """A U-Net written as a pipeline of diffusers whose scheduler steps as ``sampler`` does."""
    scheduler: dict[str, JsonValue] = {
        "num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "prediction_type": "v_prediction",
        "clip_sample": False,
    }  # fmt: skip
    if sampler == "consistency":
        pipeline = "DDPMPipeline"
        scheduler |= {"_class_name": "LCMScheduler", "original_inference_steps": 1000}
    else:
        pipeline = "DDIMPipeline"
        scheduler |= {"_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}
    args: dict[str, Any] = {"block_out_channels": list(widths), "scheduler": scheduler, "pipeline": pipeline}
    return Use(name="unet2d", args=args)


def few_steps(name: str, *methods: Term, sampler: str = "consistency", task: dict[str, Any] | None = None,
              **more: Any) -> Recipe:  # fmt: skip
    """A recipe that starts from the bundled diffusion model and trains for about six minutes on two cores.

    Args:
        name: of the run.
        methods: of its stage.
        sampler: how the student draws.
        task: further arguments of the task.
        more: further fields of the stage.
    """
    images = {"name": "rollouts", "args": {"model": "diffusion", "num_images": 2000, "num_steps": 12}}
    told: dict[str, Any] = {"images": images, "sampler": sampler, "table": TABLE, "mean": -0.5, "std": 2.0,
                            "num_images": 500, "num_steps": 25, **(task or {})}  # fmt: skip
    stage = {"optimizer": "adamw", "lr": 4e-4, "betas": (0.9, 0.99), "warmup": 0.05, "final": 0.05, **more}
    return Recipe(
        name=name,
        task=Use(name="few_steps", args=told),
        teacher="diffusion",
        student=small(sampler),
        init="teacher",
        stages=(Stage(methods=methods, **stage),),
        seconds=360,
        batch_size=32,
        pool=Pool(patches=0),
        ema=0.99,
        controls=False,
        evaluate_every=120,
    )


@register("preset")
def consistency() -> Recipe:
    """One to four steps by easy consistency tuning: the teacher is the start and is not asked again."""
    return few_steps("consistency", Term(name="consistency", args={"stages": 6, "weight": "edm"}))


@register("preset")
def consistency_distillation() -> Recipe:
    """One to four steps by consistency along the teacher's own trajectories."""
    method = Term(name="consistency", args={"source": "teacher", "stages": 6, "weight": "edm"})
    return few_steps("consistency-distillation", method)


@register("preset")
def progressive() -> Recipe:
    """One to four steps by progressive distillation: a ladder of 16, 8, 4, 2 and 1 steps, each rung measured."""

    def rung(steps: int) -> Stage:
        stages = few_steps(
            "rung", Term(name="progressive", args={"steps": steps, "table": TABLE}), sampler="euler"
        ).stages
        return stages[0].model_copy(update={"name": f"{steps} steps"})

    task = {"steps": [1, 2, 4, 8, 16], "first": 0.0}
    recipe = few_steps("progressive", sampler="euler", task=task)
    assistants = tuple(
        Assistant(student=small("euler"), share=0.15, init="teacher", stages=(rung(steps),)) for steps in LADDER
    )
    return recipe.model_copy(update={"assistants": assistants, "stages": (rung(1),)})


@register("preset")
def rectified_flow() -> Recipe:
    """One to four steps of a rectified flow: straight lines between the teacher's images and their noise."""
    methods = Term(name="rectified_flow")
    recipe = few_steps("rectified-flow", methods, sampler="euler", task={"coupled": True, "mean": 0.0, "std": 1.5})
    one = Term(name="rectified_flow", args={"one_step": True, "loss": "l1", "table": TABLE})
    last = recipe.stages[0].model_copy(update={"name": "one step", "share": 0.3, "methods": (methods, one)})
    return recipe.model_copy(update={"stages": (recipe.stages[0].model_copy(update={"share": 0.7}), last)})


@register("preset")
def distribution_matching() -> Recipe:
    """One to four steps by matching the teacher's distribution (DMD2); no data."""
    method = Term(name="distribution_matching", args={"steps": 2, "every": 1, "table": TABLE})
    return few_steps("distribution-matching", method, betas=(0.0, 0.99), lr=1e-4, critic_lr=2e-4)


@register("preset")
def score_identity() -> Recipe:
    """One step by the identities of the teacher's score (SiD); no data."""
    method = Term(name="score_identity", args={"every": 1, "table": TABLE})
    return few_steps("score-identity", method, betas=(0.0, 0.99), lr=1e-4, critic_lr=2e-4)


@register("preset")
def mean_flow() -> Recipe:
    """One to four steps by the average velocity of the teacher's trajectories."""
    recipe = few_steps("mean-flow", Term(name="mean_flow", args={"power": 0.5, "step": 0.25}))
    return recipe.model_copy(update={"precision": "float32"})


@register("preset")
def few_steps_baseline() -> Recipe:
    """One step the plain way: the teacher's image of the same noise, and a critic. What other methods must beat."""
    pairs = Term(name="rectified_flow", args={"one_step": True, "loss": "l1", "table": TABLE})
    game = Term(name="drawn_adversarial", weight=0.05, args={"width": 16, "steps": 2, "table": TABLE})
    return few_steps("few-steps-baseline", pairs, game, task={"coupled": True}, critic_lr=4e-4)


@register("preset")
def small_and_few() -> Recipe:
    """A quarter of the multiply-accumulates and four steps, from one recipe: start narrow, match blocks, then few."""
    recipe = few_steps("small-and-few", Term(name="consistency", args={"stages": 6, "weight": "edm"}))
    first = Stage(name="narrow", share=0.5, methods=(Term(name="output"), Term(name="blocks", weight=0.1)),
                  ratio=Use(name="fixed", args={"alpha": 0.9}), optimizer="muon", lr=3e-3, final=0.1)  # fmt: skip
    last = recipe.stages[0].model_copy(update={"name": "few steps", "share": 0.5})
    task = recipe.task.model_copy(update={"args": {**recipe.task.args, "steps": [4, 2, 1]}})
    return recipe.model_copy(update={"student": small(widths=NARROW), "stages": (first, last), "task": task})
