"""A recipe for a model that nobody wrote one for: its task, a student of a share of its cost, the usual training."""

import math
import re
from pathlib import Path
from typing import Any

from kdgen import registry
from kdgen.data.damages import make_damages
from kdgen.models.input_shape import Shaped
from kdgen.models.model import load
from kdgen.models.task_arguments import task_class
from kdgen.presets import preset
from kdgen.recipe import Recipe
from kdgen.registry import Spec
from kdgen.report.compare import measure
from kdgen.report.propose import Proposal, propose
from kdgen.report.report import outdoes
from kdgen.tasks.infer_task import described_task
from kdgen.types import Net, Task, UserError, text

CHEAPER = 10.0
"""How many times fewer multiply-accumulates the student has."""

SECONDS = 600.0
"""How long it is trained."""

FEW = 2
"""Images on which it is seen what a teacher is after."""

UNNAMED = re.compile(r"[^\w.-]+")
"""What names of recipes have not."""

SEEN = 32
"""Height and width in pixels of the images that nets are shown in training where they enlarge them; twice that else."""


def recipe_for(teacher: str, *, cheaper: float = CHEAPER, images: Path | None = None) -> tuple[Recipe, Proposal]:
    """The recipe that distils a model by what the model says of itself.

    Args:
        teacher: takes what ``kdgen.load`` does.
        cheaper: how many times fewer multiply-accumulates the student has at least.
        images: a folder of images to train on; by default procedural ones.

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
    found = propose(model, built, fraction=1 / cheaper)
    path = Path(teacher).expanduser()
    update = {
        "name": f"{UNNAMED.sub('-', model.name).strip('-')}-student", "task": use,
        "teacher": str(path.absolute()) if path.exists() else teacher,
        "student": found.use, "cache": usual.cache.model_copy(update={"crop": None}),
    }  # fmt: skip
    return usual.model_copy(update=update).lasting(seconds=SECONDS), found


def invents(teacher: Net, task: Task) -> bool:
    """Whether a teacher's answers are farther from the truth than the damaged images themselves, as those of GANs are.

    Then they are no poor attempt at the truth but what is wanted.
    """
    rows = [measure("teacher", net, task, name="", limit=FEW, timed=False) for net in (teacher, None)]
    own, input = (row.metrics.get(task.primary_metric, math.nan) for row in rows)
    return outdoes(task.primary_metric, input, own)
