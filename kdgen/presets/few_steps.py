"""Students of the bundled diffusion model that draw in one to four steps, from images that it draws itself.

A student as large as its teacher starts from a copy of its weights, and so answers as for less noise than there is
where sigma is above 5: sharper than its teacher, as it is to become. At equal steps that is far ahead of a student that
starts by answering as its teacher does: ``python benchmarks/few_steps.py consistency-distillation --set init=teacher``.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import JsonValue

from kdgen.recipe import Assistant, CacheSpec, Guidance, Recipe, Stage
from kdgen.registry import Spec, register

WIDTHS = (16, 32, 64, 96)
"""Channels of the bundled diffusion model, whose weights are the start of a student as large."""

NARROW = (8, 16, 32, 48)
"""Channels of a student with a quarter of its multiply-accumulates.

Its norms have two groups: of eight, each would be a single channel and forget how bright and how strong that is.
"""

TABLE = "cosine"
"""Noise levels of the students: two steps are at 20,291 and 1.0, where the teacher's own table has 157 and 3.4."""

TWO: dict[str, Any] = {"steps": [2, 1, 4]}
"""Of students that are judged by two steps."""

CONSISTENT: dict[str, Any] = {"stages": 6, "weight": "edm"}
PLAYING: dict[str, Any] = {"betas": (0.0, 0.99), "lr": 1.5e-4, "discriminator_lr": 4e-4, "share": 0.5}

LADDER = {16: 0.07, 8: 0.1, 4: 0.23, 2: 0.4}
"""Steps of the assistants of progressive distillation, and their shares of the time; the student has one step."""


def small(sampler: str = "consistency", widths: Sequence[int] = WIDTHS) -> Spec:
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
    if widths == NARROW:
        args["norm_num_groups"] = 2
    return Spec(name="unet2d", args=args)


def few_steps(name: str, *methods: Guidance, sampler: str = "consistency", task: dict[str, Any] | None = None,
              seconds: float = 150, batch_size: int = 32, **more: Any) -> Recipe:  # fmt: skip
    """A recipe that starts from the bundled diffusion model, whose own images are its data.

    Args:
        name: of the run.
        methods: of its stage.
        sampler: how the student draws.
        task: further arguments of the task.
        seconds: of training, on one core, where the images lie on disk already; they take some three minutes once.
        batch_size: images in a step.
        more: further fields of the stage.
    """
    images = {"name": "rollouts", "args": {"model": "diffusion", "num_images": 2000, "num_steps": 12}}
    told: dict[str, Any] = {"images": images, "sampler": sampler, "table": TABLE, "mean": -0.5, "std": 2.0,
                            "num_images": 500, "num_steps": 25, **(task or {})}  # fmt: skip
    stage = {"optimizer": "adamw", "lr": 4e-4, "betas": (0.9, 0.99), "warmup": 0.05, "final": 0.05, **more}
    return Recipe(
        name=name,
        task=Spec(name="few_steps", args=told),
        teacher="diffusion",
        student=small(sampler),
        init="copy",
        stages=(Stage(methods=methods, **stage),),
        seconds=seconds,
        batch_size=batch_size,
        cache=CacheSpec(inputs=0),
        ema=0.99,
        controls=False,
        evaluate_every=60,
    )


def along_trajectories() -> Guidance:
    """Consistency distillation."""
    return Guidance(name="consistency", args={"source": "teacher", **CONSISTENT})


def started(recipe: Recipe) -> Recipe:
    """The recipe after as long a stage of consistency distillation, from which few steps are soon learnt."""
    first = few_steps("start", along_trajectories(), share=0.5, final=0.2).stages[0]
    return recipe.model_copy(update={"stages": (first.model_copy(update={"name": "start"}), *recipe.stages)})


@register("preset")
def consistency() -> Recipe:
    """One to four steps by easy consistency tuning: the teacher is the start and is not asked again."""
    return few_steps("consistency", Guidance(name="consistency", args=CONSISTENT), seconds=300)


@register("preset")
def consistency_distillation() -> Recipe:
    """One to four steps by consistency along the teacher's own trajectories."""
    return few_steps("consistency-distillation", along_trajectories(), task=TWO, seconds=300)


@register("preset")
def consistency_adversarial() -> Recipe:
    """One to four steps by consistency distillation, in the second half with a critic (as in CTM, arXiv 2310.02279)."""
    played = {"width": 16, "steps": 2, "table": TABLE}
    game = Guidance(name="drawn_adversarial", weight=0.3, args=played)
    recipe = few_steps("consistency-adversarial", along_trajectories(), game, task=TWO, seconds=240, **PLAYING)
    return started(recipe)


@register("preset")
def progressive() -> Recipe:
    """One to four steps by progressive distillation: a ladder of 16, 8, 4, 2 and 1 steps, each rung measured."""

    def rung(steps: int) -> Stage:
        method = Guidance(name="progressive", args={"steps": steps, "table": TABLE})
        return few_steps("rung", method, sampler="euler").stages[0].model_copy(update={"name": f"{steps} steps"})

    task = {"steps": [1, 2, 4, 8, 16], "first": 0.0}
    recipe = few_steps("progressive", sampler="euler", task=task, seconds=450)
    assistants = tuple(
        Assistant(student=small("euler"), share=share, init="copy", stages=(rung(steps),))
        for steps, share in LADDER.items()
    )
    return recipe.model_copy(update={"assistants": assistants, "stages": (rung(1),)})


@register("preset")
def rectified_flow() -> Recipe:
    """One to four steps of a rectified flow: straight lines between the teacher's images and their noise."""
    methods = Guidance(name="rectified_flow")
    task = {"coupled": True, "mean": 0.0, "std": 1.5}
    recipe = few_steps("rectified-flow", methods, sampler="euler", task=task, seconds=90)
    one = Guidance(name="rectified_flow", args={"one_step": True, "loss": "l1", "table": TABLE})
    last = recipe.stages[0].model_copy(update={"name": "one step", "share": 0.3, "methods": (methods, one)})
    return recipe.model_copy(update={"stages": (recipe.stages[0].model_copy(update={"share": 0.7}), last)})


@register("preset")
def distribution_matching() -> Recipe:
    """Two steps by matching the teacher's distribution (DMD2), after a start by consistency distillation."""
    matched = {"steps": 2, "table": TABLE, "adversarial": 0.05, "width": 16}
    method = Guidance(name="distribution_matching", args=matched)
    return started(few_steps("distribution-matching", method, task=TWO, seconds=240, **PLAYING))


@register("preset")
def score_identity() -> Recipe:
    """Two steps by the identities of the teacher's score (SiD), after a start by consistency distillation."""
    method = Guidance(name="score_identity", args={"steps": 2, "table": TABLE})
    return started(few_steps("score-identity", method, task=TWO, seconds=120, **PLAYING))


@register("preset")
def mean_flow() -> Recipe:
    """One to four steps by the average velocity of the teacher's trajectories."""
    return few_steps("mean-flow", Guidance(name="mean_flow", args={"power": 0.5, "step": 0.15}), task=TWO, seconds=420)


@register("preset")
def few_steps_baseline() -> Recipe:
    """One step the plain way: the teacher's image of the same noise, and a critic. What other methods must beat."""
    pairs = Guidance(name="rectified_flow", args={"one_step": True, "loss": "l1", "table": TABLE})
    game = Guidance(name="drawn_adversarial", weight=0.05, args={"width": 16, "table": TABLE})
    more: dict[str, Any] = {"betas": (0.0, 0.99), "lr": 2e-4, "discriminator_lr": 4e-4}
    return few_steps("few-steps-baseline", pairs, game, task={"coupled": True}, seconds=120, **more)


@register("preset")
def few_steps_control() -> Recipe:
    """The same net without a teacher: random weights, trained to denoise the same images, drawn in as few steps."""
    recipe = few_steps("few-steps-control", task={"data": True}, optimizer="muon", lr=2e-3, seconds=90)
    return recipe.model_copy(update={"teacher": None, "init": "random"})


@register("preset")
def small_and_few() -> Recipe:
    """A quarter of the multiply-accumulates and four steps, from one recipe: start narrow, match blocks, then few."""
    method = Guidance(name="progressive", args={"steps": 4, "table": TABLE})
    more: dict[str, Any] = {"optimizer": "muon", "lr": 2e-3}
    recipe = few_steps("small-and-few", method, sampler="euler", task={"steps": [4, 2, 1]}, seconds=400, **more)
    last = recipe.stages[0].model_copy(update={"name": "few steps", "share": 0.5})
    stages = (small_only().stages[0].model_copy(update={"share": 0.5}), last)
    return recipe.model_copy(update={"student": small("euler", NARROW), "init": "teacher", "stages": stages})


@register("preset")
def small_only() -> Recipe:
    """A quarter of the multiply-accumulates and 16 steps: start narrow and match blocks, as small-and-few begins."""
    recipe = few_steps("small-only", task={"steps": [16]}, sampler="euler", seconds=200)
    first = Stage(name="narrow", methods=(Guidance(name="output"), Guidance(name="blocks", weight=0.1)),
                  ratio=Spec(name="fixed", args={"alpha": 0.9}), optimizer="muon", lr=3e-3, final=0.1)  # fmt: skip
    return recipe.model_copy(update={"student": small("euler", NARROW), "init": "teacher", "stages": (first,)})
