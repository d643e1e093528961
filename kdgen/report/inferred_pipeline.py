"""Recipes for pipelines that draw by words or classes: a smaller net of its class, taught by what it draws itself."""

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import JsonValue

from kdgen import registry
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.model import Model
from kdgen.models.task_arguments import task_name
from kdgen.recipe import CacheSpec, Guidance, Recipe, Stage
from kdgen.registry import Spec
from kdgen.types import Task, UserError, text
from kdgen.utils.conditions import call, conditions_of
from kdgen.utils.devices import evaluating, fastest_seconds, pick_device
from kdgen.utils.hooks import capture_outputs

PIPELINE_CHEAPER = 4.0
"""How many times fewer multiply-accumulates the student has at least."""

LATENTS, PICTURES = (16, 1000), 256
"""How many latents the teacher draws at least and at most to train on, and a net at most to be measured."""

DRAWING = 0.25
"""Most of the seconds in which it draws them, on a processor."""

KEPT, ROOM = (500, 4000), 2**30
"""How many answers are kept at least and at most, and bytes for them with their features; none where those are few."""

STAGE = Stage(
    methods=(Guidance(name="output"), Guidance(name="blocks", weight=0.1)),
    ratio=Spec(name="fixed", args={"alpha": 0.9}),
    lr=2e-4,
)
"""Block by block from the teacher's own weights, as BK-SDM is trained (Kim et al. 2024, arXiv 2305.15798)."""


def pipeline_task(model: Model, reference: str, prompts: Path | None = None, **more: JsonValue) -> Spec:
    """The task of a pipeline's students.

    Args:
        model: the pipeline.
        reference: what loads it.
        prompts: a text file with one a line; what a net costs is seen without.
        more: further arguments.
    """
    told: JsonValue = [""] if prompts is None else str(prompts.expanduser().absolute())
    words = {"prompts": told} if prompts is not None or _worded(model) else {}
    return Spec(name=task_name(model.task), args={"model": reference, **words, **more})


def pipeline_training(
    model: Model, net: LatentModel, reference: str, *, prompts: Path | None, seconds: float
) -> tuple[Recipe, Task]:
    """The recipe that teaches a net from a pipeline, as yet one as large as its own, and its task.

    The teacher is guided as its pipeline guides unless it is told otherwise.

    Args:
        model: the pipeline.
        net: its net.
        reference: what loads it.
        prompts: a text file with one a line, for a pipeline of words.
        seconds: how long the student will be trained.

    Raises:
        UserError: for a pipeline of words without prompts, one of classes with them, and a file that is none.
    """
    if prompts is None and _worded(model):
        raise UserError(text("give_prompts", "{name} draws what words ask for: give prompts to learn from, a text file "
                             "with one a line, as by --prompts FILE", name=model.name))  # fmt: skip
    assert model.use is not None, "a pipeline is built by its configurations"
    scale = model.task.get("guidance", net.usual_guidance())
    guided: dict[str, JsonValue] = {} if scale in (None, 1) else {"guidance": scale}
    built: Task = registry.build("task", pipeline_task(model, reference, prompts, **guided))
    example = built.example()
    with evaluating(net), capture_outputs(net, net.feature_layers()) as features:
        size = 2 * (call(net, example.x, example.cond).numel() + sum(each.numel() for each in features.values()))
    least, most = LATENTS
    if (device := pick_device("auto")).type == "cpu":
        with evaluating(net):
            drawing = built.teacher_calls * fastest_seconds(lambda: call(net, example.x, example.cond), device, 1)
        most = int(max(min(most, DRAWING * seconds / drawing), least))
    kept = min(KEPT[1], ROOM // size)
    recipe = Recipe(
        name="pipeline", task=pipeline_task(model, reference, prompts, num_latents=most,
                                            num_images=min(PICTURES, most), **guided),
        teacher=reference, student=model.use, init="teacher", stages=(STAGE,), seconds=1, batch_size=8,
        cache=CacheSpec(inputs=kept if kept >= KEPT[0] else 0),
    )  # fmt: skip
    return recipe.lasting(seconds=seconds), built


def changes(student: Spec, teacher: Spec) -> str:
    """A student by name, and how its configuration differs from that of the net that it is a smaller one of."""
    own, other = ({**use.args, **(config if isinstance(config := use.args.get("config"), Mapping) else {})}
                  for use in (student, teacher))  # fmt: skip
    told = [f"{key} {json.dumps(value)}" for key, value in own.items()
            if key != "config" and json.dumps(value) != json.dumps(other.get(key))]  # fmt: skip
    return f"{student.name} of {', '.join(told)}"


def _worded(model: Model) -> bool:
    """Whether a pipeline draws what words ask for."""
    return "label" not in (conditions_of(model.net) or ())
