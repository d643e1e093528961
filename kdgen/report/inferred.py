"""A recipe for a model that nobody wrote one for: its task, a student of a share of its cost, the usual training."""

import math
import re
from pathlib import Path
from typing import Any

import torch

from kdgen import registry
from kdgen.data.damages import make_damages
from kdgen.models.input_shape import Shaped
from kdgen.models.model import Model, load
from kdgen.models.task_arguments import task_class
from kdgen.presets import preset
from kdgen.recipe import Recipe
from kdgen.registry import Spec
from kdgen.report.compare import measure
from kdgen.report.propose import Proposal, propose
from kdgen.report.report import outdoes
from kdgen.tasks.infer_task import described_task
from kdgen.types import Net, Task, UserError, text
from kdgen.utils.conditions import call
from kdgen.utils.devices import bfloat16_pays, fastest_seconds, pick_device

CHEAPER = 10.0
"""How many times fewer multiply-accumulates the student has at least."""

SECONDS = 600.0
"""How long it is trained."""

STEPS = 1000
"""Steps that a student takes in its time, a fifth fewer at least, or a smaller one is better off."""

FEW = 2
"""Images on which it is seen what a teacher is after."""

SLOWEST = 0.02
"""A student is made at most so many times smaller before its steps are timed again."""

UNNAMED = re.compile(r"[^\w.-]+")
"""What names of recipes have not."""

SEEN = 32
"""Height and width in pixels of the images that nets are shown in training where they enlarge them; twice that else."""


def recipe_for(
    teacher: str, *, cheaper: float | None = None, images: Path | None = None, seconds: float = SECONDS
) -> tuple[Recipe, Proposal]:
    """The recipe that distils a model by what the model says of itself.

    Args:
        teacher: takes what ``kdgen.load`` does.
        cheaper: how many times fewer multiply-accumulates the student has at least; by default ten times, and where
            the time is short for so large a student on this machine's processor, as many as let it take
            ``STEPS`` steps.
        images: a folder of images to train on; by default procedural ones.
        seconds: how long the student will be trained, answers of the teacher included.

    Returns:
        the recipe, with the usual stages of the task; and the student that it trains.

    Raises:
        UserError: for a model that does not say enough of its task, for one whose task has no usual training, and where
            no student is that much cheaper.
    """
    model = load(teacher)
    use = described_task(model)
    kind = task_class({"name": use.name})
    if kind.usual_preset is None:
        raise UserError(text("no_usual_recipe", "how students of {teacher} are trained is not known, which was made to "
                             "{task}: write a recipe, see `kdgen show --explain`", teacher=model.name,
                             task=use.name))  # fmt: skip
    damages: Any = use.args.get("damages", ("noise",))
    scale = int(model.task.get("scale", make_damages(damages).scale))
    seen = SEEN if scale > 1 else 2 * SEEN
    if isinstance(model.net, Shaped) and model.net.input_shape is not None:
        seen, _ = model.net.input_shape.at_least(seen, seen)
    changes: dict[str, Any] = {"patch": seen * scale}
    if images is not None:
        changes["images"] = {"name": "folder", "args": {"path": str(images.absolute())}}
    use, usual = Spec(name=use.name, args={**use.args, **changes}), preset(kind.usual_preset)
    built: Task = registry.build("task", use)
    if registry.accepts("task", use.name, "aim") and invents(model.net, built):
        use = Spec(name=use.name, args={**use.args, "aim": "teacher"})
        alone = Spec(name="fixed", args={"alpha": 1.0})
        usual = usual.model_copy(update={"stages": tuple(each.model_copy(update={"ratio": alone})
                                                         for each in usual.stages)})  # fmt: skip
        built = registry.build("task", use)
    usual = usual.lasting(seconds=seconds)
    found = propose(model, built, fraction=1 / cheaper) if cheaper else proposed_within(model, built, usual, seen)
    path = Path(teacher).expanduser()
    update = {
        "name": f"{UNNAMED.sub('-', model.name).strip('-')}-student", "task": use,
        "teacher": str(path.absolute()) if path.exists() else teacher,
        "student": found.use, "cache": usual.cache.model_copy(update={"crop": None}),
    }  # fmt: skip
    return usual.model_copy(update=update), found


def proposed_within(teacher: Model, task: Task, recipe: Recipe, size: int) -> Proposal:
    """The largest student of at most a tenth of its teacher's cost that can take enough steps in a recipe's seconds."""
    found, device = propose(teacher, task, fraction=1 / CHEAPER), pick_device(recipe.device)
    while device.type == "cpu" and recipe.seconds is not None:
        seconds = (1 - (recipe.cache.share or 0)) * recipe.seconds / STEPS
        share = seconds / step_seconds(found.use, task, recipe.batch_size, size)
        try:
            if share >= 0.8:
                break
            found = propose(teacher, task, fraction=found.share * max(share, SLOWEST))
        except UserError:  # there is none smaller
            break
    return found


def step_seconds(student: Spec, task: Task, batch_size: int, size: int) -> float:
    """How long this processor takes for one step on images of a height and width, by one of the task's example."""
    example, net = task.example(), registry.build("net", student)
    low = bfloat16_pays(device := torch.device("cpu"))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            torch.autograd.backward(call(net, example.x, example.cond).float().square().mean())

    pixels = batch_size * size**2 / (len(example.x) * math.prod(example.x.shape[-2:]))
    return pixels * fastest_seconds(step, device)


def invents(teacher: Net, task: Task) -> bool:
    """Whether a teacher's answers are farther from the truth than the damaged images themselves, as those of GANs are.

    Then they are no poor attempt at the truth but what is wanted.
    """
    rows = [measure("teacher", net, task, name="", limit=FEW, timed=False) for net in (teacher, None)]
    own, input = (row.metrics.get(task.primary_metric, math.nan) for row in rows)
    return outdoes(task.primary_metric, input, own)
