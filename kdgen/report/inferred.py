"""A recipe for a model that nobody wrote one for: its task, a student of a share of its cost, the usual training."""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from kdgen import registry
from kdgen.data.damages import make_damages
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.config import read_config
from kdgen.models.input_shape import Shaped
from kdgen.models.loading import BUNDLED, bundled_students
from kdgen.models.model import Model, load
from kdgen.models.nets.inherit import inherit
from kdgen.models.task_arguments import task_class
from kdgen.models.tiling import whole
from kdgen.presets import preset
from kdgen.recipe import STARTS, Recipe
from kdgen.registry import Spec
from kdgen.report.compare import measure
from kdgen.report.inferred_pipeline import PIPELINE_CHEAPER, pipeline_training
from kdgen.report.propose import Proposal, Search
from kdgen.report.report import outdoes
from kdgen.tasks.infer_task import described_task
from kdgen.types import Batch, Net, Task, UserError, text
from kdgen.utils.conditions import call
from kdgen.utils.devices import bfloat16_pays, evaluating, fastest_seconds, pick_device

CHEAPER = 10.0
"""How many times fewer multiply-accumulates the student has at least."""

SECONDS = 600.0
"""How long it is trained."""

STEPS = 1000
"""Steps that a student takes in its time, a fifth fewer at least, or a smaller one is better off."""

USES = 10
"""How often a student that is trained already sees an answer of a slow teacher, about."""

LARGER = 2
"""How many times larger, by cost, a student is at most that starts from a smaller one."""

GENTLY = 0.1
"""Its learning rate, relative to that of random weights."""

FEW = 2
"""Images on which it is seen what a teacher is after."""

SLOWEST = 0.02
"""A student is made at most so many times smaller before its steps are timed again."""

UNNAMED = re.compile(r"[^\w.-]+")
"""What names of recipes have not."""

SEEN = 32
"""Height and width in pixels of the images that nets are shown in training where they enlarge them; twice that else."""


def recipe_for(
    teacher: str, opened: Model | None = None, *, cheaper: float | None = None, images: Path | None = None,
    prompts: Path | None = None, seconds: float = SECONDS, fresh: bool = False,
) -> tuple[Recipe, Proposal]:  # fmt: skip
    """The recipe that distils a model by what the model says of itself.

    Args:
        teacher: takes what ``kdgen.load`` does.
        opened: that model, where it is open.
        cheaper: how many times fewer multiply-accumulates the student has at least; by default ten times, four of a
            pipeline, and where the time is short for so large a student on this machine's processor, as many as let
            it take ``STEPS`` steps.
        images: a folder of images to train on; by default procedural ones.
        prompts: a text file with a prompt a line, for a pipeline that draws what words ask for.
        seconds: how long the student will be trained, answers of the teacher included.
        fresh: whether the student starts from random weights, whatever is bundled: the recipe then suits others too.

    Returns:
        the recipe, with the usual stages of the task; and the student that it trains.

    Raises:
        UserError: for a model that does not say enough of its task, for one whose task has no usual training, for
            images or prompts that do not go with it, and where no student is that much cheaper.
    """
    model, path = opened or load(teacher), Path(teacher).expanduser()
    reference = str(path.absolute()) if path.exists() else teacher
    name = f"{UNNAMED.sub('-', model.name).strip('-')}-student"
    if isinstance(model.net, LatentModel):
        if images is not None:
            raise UserError(text("pipeline_images", "students of {name} learn from what it draws itself: leave images "
                                 "out", name=model.name))  # fmt: skip
        usual, task = pipeline_training(model, model.net, reference, prompts=prompts, seconds=seconds)
        search = Search(model, task)
        found = search.within(1 / cheaper) if cheaper else proposed_within(
            search, task, usual, model.net.size, (), PIPELINE_CHEAPER)  # fmt: skip
        return usual.model_copy(update={"name": name, "student": found.use}), found
    if prompts is not None:
        raise UserError(text("prompts_of_pipelines", "prompts are for a pipeline that draws what words ask for, which "
                             "{name} is not: leave them out", name=model.name))  # fmt: skip
    use, usual, seen = usual_training(model, images)
    built: Task = registry.build("task", use)
    if registry.accepts("task", use.name, "aim") and invents(model.net, built):
        use = Spec(name=use.name, args={**use.args, "aim": "teacher"})
        usual = with_stages(usual, ratio=Spec(name="fixed", args={"alpha": 1.0}))
        built = registry.build("task", use)
    usual = usual.lasting(seconds=seconds)
    search, known = Search(model, built), [] if fresh else starts(built)
    found = search.within(1 / cheaper) if cheaper else proposed_within(search, built, usual, seen, known)
    init = start_for(found, search, known)
    if init not in STARTS:
        usual = gently(usual, model.net, registry.build("net", found.use), built, seen)
    update = {
        "name": name, "task": use, "teacher": reference, "student": found.use, "init": init,
        "cache": usual.cache.model_copy(update={"crop": None}),
    }  # fmt: skip
    return usual.model_copy(update=update), found


def usual_training(teacher: Model, images: Path | None) -> tuple[Spec, Recipe, int]:
    """The task that a model was made for, the preset for it, and the height and width that nets are shown.

    Raises:
        UserError: for a model that does not say enough of its task, and for a task without usual training.
    """
    use = described_task(teacher)
    kind = task_class({"name": use.name})
    if kind.usual_preset is None or not registry.accepts("task", use.name, "patch"):
        raise UserError(text("no_usual_recipe", "how students of {teacher} are trained is not known, which was made to "
                             "{task}: write a recipe, see `kdgen show --explain`", teacher=teacher.name,
                             task=use.name))  # fmt: skip
    damages: Any = use.args.get("damages", ("noise",))
    scale = int(teacher.task.get("scale", make_damages(damages).scale))
    seen: int = SEEN if scale > 1 else 2 * SEEN
    if kind.dense:
        seen = registry.default("task", use.name, "patch")
    if isinstance(teacher.net, Shaped) and teacher.net.input_shape is not None:
        seen, _ = teacher.net.input_shape.at_least(seen, seen)
    changes: dict[str, Any] = {"patch": seen * scale}
    if images is not None:
        changes["images"] = {"name": "folder", "args": {"path": str(images.absolute())}}
    return Spec(name=use.name, args={**use.args, **changes}), preset(kind.usual_preset), seen


def with_stages(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with the same changes to all its stages."""
    return recipe.model_copy(update={"stages": tuple(each.model_copy(update=changes) for each in recipe.stages)})


def gently(recipe: Recipe, teacher: Net, student: Net, task: Task, size: int) -> Recipe:
    """The recipe for a student that is trained already: small steps, more answers of a slow teacher.

    Few steps suffice it, and of few answers it would learn those alone.
    """
    example = task.example()
    with evaluating(teacher):
        answer = pixels(recipe.batch_size, size, example) * fastest_seconds(
            lambda: whole(teacher, example.x, example.cond), torch.device("cpu"), repeats=1)  # fmt: skip
    step = step_seconds(student, task, recipe.batch_size, size)
    stages = tuple(stage.model_copy(update={"lr": GENTLY * stage.lr}) for stage in recipe.stages)
    cache = recipe.cache.model_copy(update={"share": answer / (answer + USES * step)})
    return recipe.model_copy(update={"stages": stages, "cache": cache})


def proposed_within(
    search: Search, task: Task, recipe: Recipe, size: int, known: Sequence[Model], cheaper: float = CHEAPER
) -> Proposal:
    """The largest student so many times cheaper than its teacher that can take enough steps in a recipe's seconds.

    Or one that is known already where it is larger than that: trained, it does with fewer.
    """
    found, device = search.within(1 / cheaper), pick_device(recipe.device)
    while device.type == "cpu" and recipe.seconds is not None:
        seconds = (1 - (recipe.cache.share or 0)) * recipe.seconds / STEPS
        share = seconds / step_seconds(registry.build("net", found.use), task, recipe.batch_size, size)
        try:
            if share >= 0.8:
                break
            found = search.within(found.share * max(share, SLOWEST))
        except UserError:  # there is none smaller
            break
    same = (search.of(each.use) for each in known if each.use is not None and each.use.name == found.use.name)
    return max((found, *(each for each in same if each and each.share <= 1 / cheaper)), key=lambda each: each.share)


def start_for(student: Proposal, search: Search, known: Sequence[Model]) -> str:
    """The first of the known students that one starts from: no larger, and not much smaller; else ``random``."""
    for start in known:
        own = search.of(start.use) if start.use is not None else None
        if own is None or student.macs > LARGER * own.macs:
            continue
        with suppress(UserError):  # it does not fit within
            inherit(registry.build("net", student.use), start.net)
            return start.name
    return "random"


def starts(task: Task) -> list[Model]:
    """The bundled students for a task's damages."""
    facts = {key: value for key, value in task.describe().items() if key != "measure"}
    return [load(name) for name in bundled_students() if facts.items() <= read_config(BUNDLED / name).task.items()]


def step_seconds(student: Net, task: Task, batch_size: int, size: int) -> float:
    """How long this processor takes for one step on images of a height and width, by one of the task's example."""
    example = task.example()
    low = bfloat16_pays(device := torch.device("cpu"))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            torch.autograd.backward(call(student, example.x, example.cond).float().square().mean())

    return pixels(batch_size, size, example) * fastest_seconds(step, device)


def pixels(batch_size: int, size: int, example: Batch) -> float:
    """The pixels of a batch of images of a height and width, relative to those of an example."""
    return batch_size * size**2 / (len(example.x) * math.prod(example.x.shape[-2:]))


def invents(teacher: Net, task: Task) -> bool:
    """Whether a teacher's answers are farther from the truth than the damaged images themselves, as those of GANs are.

    Then they are no poor attempt at the truth but what is wanted.
    """
    rows = [measure("teacher", net, task, name="", limit=FEW, timed=False) for net in (teacher, None)]
    own, input = (row.metrics.get(task.primary_metric, math.nan) for row in rows)
    return outdoes(task.primary_metric, input, own)
