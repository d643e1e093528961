"""How nets do on images that differ from those they were trained on, by damage or by their source."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdgen import recipe as recipes
from kdgen import registry
from kdgen.data import generator
from kdgen.data.damages import Damage
from kdgen.data.damages.shifts import SHIFTS
from kdgen.data.damages.view import View
from kdgen.metrics import watched
from kdgen.models.input_shape import InputShape
from kdgen.models.model import Model
from kdgen.models.tiling import whole
from kdgen.report.compare import quality
from kdgen.report.evaluation import opened
from kdgen.report.report import Role, deciding
from kdgen.report.shift_report import ShiftReport, ShiftRow
from kdgen.tasks.baseline import Baseline
from kdgen.tasks.infer_task import measuring_task
from kdgen.types import Net, Task, Text, UserError, text
from kdgen.types.arguments import Count, check_argument
from kdgen.utils.conditions import conditions_of

CONTROLS: tuple[Role, ...] = ("control_steps", "control_seconds")


class Shifted(nn.Module):
    """A net that is shown damaged images. The damage of an image is the same for every net.

    Args:
        net: any net of images ``(B, C, H, W)``; it is told what it would be, and shown images whole, or in tiles where
            it takes one size alone.
        damage: on top of all that was done to the images already; None for nothing.
        seed: of the damage, beside what the images are.
    """

    input_shape = InputShape()

    def __init__(self, net: Net, damage: Damage | None, seed: int = 0) -> None:
        super().__init__()
        self.net, self.damage, self.seed = net, damage, seed
        self.conditions = conditions_of(net)

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """The net's answer to ``x`` ``(B, C, H, W)``, damaged."""
        if self.damage is not None:
            x = View(self.damage).each(x.detach().float(), self.seed)[0].to(x)
        return whole(self.net, x, cond)


class Guess(nn.Module):
    """Answers at random, as a net does that knows nothing: standard normal logits of a shape, whatever it is shown."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, ...)``, the same for as many images."""
        return torch.randn(len(x), *self.shape, generator=generator(0, "guess")).to(x)


@dataclass(frozen=True, slots=True)
class _Subjects:
    """What is measured: nets by role, the teacher whose answers to images as they are count, on tasks."""

    models: Mapping[Role, Model]
    title: str
    task: Task
    other: Task | None
    teacher: Model | None


def shift(
    model: str | os.PathLike[str] | Model | nn.Module,
    *,
    data: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    sigma: float | None = None,
    task: str | Mapping[str, Any] | Task | None = None,
    teacher: str | os.PathLike[str] | Model | nn.Module | None = None,
    num_images: int | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ShiftReport:
    """Measure nets on the same images under noise, blur, JPEG and less contrast, in five severities each.

    The shifts are ``kdgen.data.damages.shifts.SHIFTS``, those of Hendrycks and Dietterich 2019, arXiv 1903.12261. The
    damage comes on top of a task's own, as a sensor's would; what nets are told and what is right stay as they are.
    Figures that compare with a teacher compare with what it says of the images as they are.

    Args:
        model: a run folder, whose student, teacher and controls are measured by its own task; or any model, as for
            ``kdgen.evaluate``.
        data: of a run, other images, on which its nets are measured beside its own, unshifted; of any other model,
            the images that it is measured on.
        sigma: noise level of a denoiser that is no run, in 8-bit units.
        task: as for ``kdgen.evaluate``; by default that of the run, or what the model was made for.
        teacher: measured beside, and compared with where the task does; that of the run by default.
        num_images: how many images nets are measured on at most.
        seed: of the task's noise and of the damage.
        progress: called with how many of how many measurements are done.

    Raises:
        UserError: for what does not fit together, and for a task whose nets are not shown images or give latents.
    """
    if num_images is not None:
        check_argument("shift", "num_images", num_images, Count)
    check_argument("shift", "seed", seed, int)
    taught = None if teacher is None else opened(teacher)
    run = Path(model) if isinstance(model, str | os.PathLike) and (Path(model) / "recipe.json").is_file() else None
    if run is None:
        found = _model(opened(model), taught, data, sigma, task, num_images)
    else:
        found = _run(run, taught, data, sigma, task, num_images)
    for each in filter(None, (found.task, found.other)):
        _check_task(each)
    reference = None if found.teacher is None else found.task.guided(found.teacher.net)
    nets: dict[Role, tuple[Text, Net]] = {}
    if (floor := _floor(found.task)) is not None:
        nets["input"] = floor
    if found.teacher is not None and reference is not None:
        nets["teacher"] = (Text(found.teacher.name), reference)
    nets |= {role: (Text(each.name), each.net) for role, each in found.models.items()}
    total = len(nets) * (1 + sum(map(len, SHIFTS)) + (found.other is not None))
    steps = count(1)

    def measured(task: Task, net: Net, damage: Damage | None) -> dict[str, float]:
        shown = Shifted(net, damage, seed)
        with watched(shown):
            figures = quality(shown, task.among_teachers() if net is reference else task, reference=reference,
                              seed=seed, limit=num_images)  # fmt: skip
        progress(next(steps), total)
        return figures

    rows = tuple(
        ShiftRow(
            role=role,
            name=name,
            unshifted=measured(found.task, net, None),
            shifted={
                severities[0].name: tuple(
                    measured(found.task, net, registry.build("damage", spec)) for spec in severities
                )
                for severities in SHIFTS
            },
            other=None if found.other is None else measured(found.other, net, None),
        )
        for role, (name, net) in nets.items()
    )
    metric, known = deciding(found.task, taught=reference is not None), rows[-1].unshifted
    return ShiftReport(
        task=found.title,
        metric=metric if metric in known else next(iter(known)),
        rows=rows,
        other="" if found.other is None else _named(data),
        measured=Text.of(found.task.describe_evaluation(reference=reference, seed=seed)),
    )


def _model(
    model: Model, teacher: Model | None, data: Any, sigma: float | None, task: Any, num_images: int | None
) -> _Subjects:
    title, built = measuring_task({model.name: model}, data, sigma, task, num_images=num_images, teacher=teacher)
    return _Subjects({"model": model}, title, built, None, teacher)


def _run(
    run: Path, teacher: Model | None, data: Any, sigma: float | None, task: Any, num_images: int | None
) -> _Subjects:
    if sigma is not None or task is not None:
        raise UserError(text("shift_of_run", "a run is measured by its own task: leave task and sigma out, or name its "
                             "student folder, {student}", student=run / "student"))  # fmt: skip
    recipe = recipes.read(run / "recipe.json")
    homes = {"student": run / "student", **{role: run / "controls" / role for role in CONTROLS}}
    models: dict[Role, Model] = {}
    for role in ("student", *CONTROLS):
        if role == "student" or (homes[role] / "config.json").is_file():
            models[role] = opened(homes[role])
    student = models["student"]
    if teacher is None and recipe.teacher is not None:
        teacher = opened(recipe.teacher)

    def on(images: Any) -> tuple[str, Task]:
        described = recipe.task.model_dump()
        return measuring_task({student.name: student}, images, None, described, num_images=num_images, teacher=teacher)

    title, own = on(None)
    return _Subjects(models, title, own, None if data is None else on(data)[1], teacher)


def _floor(task: Task) -> tuple[Text, Net] | None:
    """What a net has to beat by name: its input as an answer, or guessing; None where there is neither."""
    example = task.example()
    if task.baseline(example) is not None:
        return task.baseline_name, Baseline(task)
    shape = task.answer_shape(example)
    if task.gives == "logits" and shape is not None:
        return text("guessing", "guessing"), Guess(shape)
    return None


def _check_task(task: Task) -> None:
    """Refuse a task whose nets are not shown images once, or whose answers are latents. Raises UserError."""
    if task.reads != "images" or task.gives == "latents" or task.draws is not None or task.example().x.ndim != 4:
        raise UserError(text("no_shift", "shifts are of images that a net is shown and answers at once, and those of "
                             "{task} are not: leave --shift out", task=str(task.describe()["name"])))  # fmt: skip


def _named(data: Any) -> str:
    return str(data["args"] if isinstance(data, Mapping) and "args" in data else data)


__all__ = ["Guess", "Shifted", "shift"]
