"""Steps against quality against seconds: a diffusion model at few and many steps, and its students beside it."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from kdgen.data import derive
from kdgen.metrics import distances, extractor
from kdgen.models.abilities import reads_words
from kdgen.models.model import Model
from kdgen.models.sampling import CALL, counting
from kdgen.models.task_arguments import task_class
from kdgen.types import UserError, text
from kdgen.utils.cache import cache_folder, kept_array, short_hash

TEACHER_STEPS = (1, 2, 4, 8, 16, 32, 50)
STUDENT_STEPS = (1, 2, 4)
TIMED = 32
"""Images that are drawn at once to tell how long one takes."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#7f7f7f", "#f0e442")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A model at a number of steps.

    Attributes:
        model: what it is called.
        steps: of its own sampler.
        calls: of the net, for an image.
        seconds: for an image, measured on a batch of ``TIMED``.
        figures: distances of its images to the teacher's at its most steps, by ``kdgen.metrics.distances``.
    """

    model: str
    steps: int
    calls: int
    seconds: float
    figures: Mapping[str, float]


def draws_in_steps(model: Model) -> bool:
    """Whether a model is a diffusion model that knows the size of its images."""
    return task_class(model.task).draws == "noise" and isinstance(model.task.get("size"), int)


def step_curve(
    teacher: Model,
    students: Mapping[str, Model],
    *,
    steps: Sequence[int] = TEACHER_STEPS,
    num_images: int = 500,
    features: str = "features32",
    seed: int = 0,
    prompts: Sequence[str] | None = None,
) -> Iterator[Point]:
    """Measure a teacher at each number of steps, then its students at theirs.

    All images come from the models' own samplers, as ``Model.draw`` gives them, and are compared with as many of the
    teacher's at the last of ``steps`` from other noise. The teacher's are kept on disk for later. A distance of finite
    samples is not 0 even where the distributions are equal: the teacher's at its most steps says how far it is from it.

    Args:
        teacher: a diffusion model.
        students: others by name, each measured at the steps it was made for, or else at 1, 2 and 4.
        steps: of the teacher, rising.
        num_images: drawn for each point.
        features: extractor of the features that are compared.
        seed: of the noise.
        prompts: what models of words are asked for, in turn; by default what a student says it was taught with.

    Yields:
        the points as they are measured.

    Raises:
        UserError: for a model that is of no diffusion, and for one of words where there are no prompts.
    """
    for name, model in {"the teacher": teacher, **students}.items():
        if not draws_in_steps(model):
            raise UserError(text("curve_of_diffusion", "the curve of steps is of diffusion models, and {name} is none: "
                             "leave it out", name=name))  # fmt: skip
    look = extractor(features)
    told = prompts or next(filter(None, (model.task.get("prompts") for model in (*students.values(), teacher))), ())
    target = look(_kept(teacher, steps[-1], num_images, derive(seed, "reference"), told))
    for number in steps:
        drawn = _kept(teacher, number, num_images, seed, told)
        yield _point(teacher, teacher.name, number, drawn, target, features, told)
    for name, student in students.items():
        for number in sorted(student.task.get("steps", STUDENT_STEPS)):
            drawn = _draw(student, number, num_images, seed, told)
            yield _point(student, name, number, drawn, target, features, told)


def _point(
    model: Model, name: str, steps: int, images: Tensor, target: Tensor, features: str, prompts: Sequence[str]
) -> Point:
    asked = prompts if reads_words(model.net) else None
    model.draw(1, num_steps=steps, prompt=asked)
    started = time.perf_counter()
    with counting(model.net) as counts:
        model.draw(TIMED, num_steps=steps, prompt=asked)
    seconds = (time.perf_counter() - started) / TIMED
    figures = distances(extractor(features)(images), target, name=features)
    return Point(model=name, steps=steps, calls=sum(counts) // TIMED, seconds=seconds, figures=figures)


def _kept(model: Model, steps: int, num_images: int, seed: int, prompts: Sequence[str]) -> Tensor:
    """What ``_draw`` gives, from disk where it is."""
    told = [str(model.home), *prompts] if reads_words(model.net) else []
    key = json.dumps([1, model.fingerprint(), steps, num_images, seed, *told])
    path = cache_folder("drawings") / f"{short_hash(key)}.npy"
    draw = partial(_draw, model, steps, num_images, seed, prompts)
    return torch.from_numpy(kept_array(path, lambda: draw().numpy(), lambda kept: len(kept) == num_images))


def _draw(model: Model, steps: int, num_images: int, seed: int, prompts: Sequence[str]) -> Tensor:
    """Images ``(num_images, C, H, W)``, some at a time, each lot with a seed of its own."""
    asked = prompts if reads_words(model.net) else None
    parts = [
        model.draw(min(CALL, num_images - start), seed=derive(seed, "lot", start), num_steps=steps, prompt=asked)
        for start in range(0, num_images, CALL)
    ]
    return torch.cat(parts)


def save_points(folder: Path, points: Sequence[Point]) -> None:
    """Write `steps.json`, the points, and `steps.png`, the curve."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "steps.json").write_text(
        json.dumps([asdict(point) for point in points], indent=2) + "\n", encoding="utf-8"
    )
    draw_points(folder / "steps.png", points)


def draw_points(path: Path, points: Sequence[Point]) -> None:
    """Write a picture: the first distance of the points against calls of the net, and against seconds an image.

    The first model is taken for the teacher and drawn as a line of its own.
    """
    primary_metric = next(iter(points[0].figures))
    models = list(dict.fromkeys(point.model for point in points))
    figure = Figure(figsize=(13, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, of in zip(figure.subplots(1, 2, sharey=True), ("calls", "seconds"), strict=True):
        for number, model in enumerate(models):
            own = [point for point in points if point.model == model]
            x, y = [getattr(point, of) for point in own], [point.figures[primary_metric] for point in own]
            colour = "#000000" if number == 0 else COLOURS[(number - 1) % len(COLOURS)]
            axes.plot(x, y, "o-" if number == 0 else "s--", color=colour, ms=5, lw=1.6, label=model)
        for point in points:
            at = (getattr(point, of), point.figures[primary_metric])
            axes.annotate(str(point.steps), at, fontsize=7, xytext=(3, 3), textcoords="offset points", color="#7f7f7f")
        axes.set(xscale="log", yscale="log",
                 xlabel="calls of the net for an image" if of == "calls" else "seconds for an image")  # fmt: skip
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel(f"{primary_metric} to {models[0]} at its most steps")
    figure.axes[1].legend(frameon=False, fontsize=9)
    figure.savefig(path, format="png")


__all__ = ["Point", "draw_points", "draws_in_steps", "save_points", "step_curve"]
