"""A recipe for a model that nobody wrote one for: its task, a student of a share of its cost, the usual training."""

import re
from pathlib import Path
from typing import Any

from kdgen import registry
from kdgen.data.damages import make_damages
from kdgen.models.model import load
from kdgen.models.task_arguments import task_class
from kdgen.presets import preset
from kdgen.recipe import Recipe
from kdgen.registry import Spec
from kdgen.report.propose import Proposal, propose
from kdgen.tasks.infer_task import described_task
from kdgen.types import UserError, text

CHEAPER = 10.0
"""How many times fewer multiply-accumulates the student has."""

SECONDS = 600.0
"""How long it is trained."""

UNNAMED = re.compile(r"[^\w.-]+")
"""What names of runs are free of."""

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
    changes: dict[str, Any] = {}
    if kind.scales:
        damages: Any = use.args.get("damages", ("noise",))
        made = make_damages(damages)
        changes["patch"] = SEEN * max(int(model.task.get("scale", made.scale)), 2)
    if images is not None:
        changes["images"] = {"name": "folder", "args": {"path": str(images.absolute())}}
    use = Spec(name=use.name, args={**use.args, **changes})
    found = propose(model, registry.build("task", use), fraction=1 / cheaper)
    usual = preset(kind.usual_preset)
    path = Path(teacher).expanduser()
    update = {
        "name": f"{UNNAMED.sub('-', model.name).strip('-')}-student", "task": use,
        "teacher": str(path.absolute()) if path.exists() else teacher,
        "student": found.use, "cache": usual.cache.model_copy(update={"crop": None}),
    }  # fmt: skip
    return usual.model_copy(update=update).lasting(seconds=SECONDS), found
