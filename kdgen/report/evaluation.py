"""The quality of a model as figures, from Python."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import nn

from kdgen.metrics import watched
from kdgen.models import model as models
from kdgen.models.abilities import Channelled
from kdgen.models.model import Model
from kdgen.recipe import Checkpoint
from kdgen.report.report import Row
from kdgen.tasks.infer_task import measuring_task
from kdgen.types import Task, UserError, text
from kdgen.types.arguments import Count, check_argument


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model was measured to be.

    Attributes:
        task: what was measured, in words.
        metrics: figures by name, as in reports: ``psnr`` in dB, ``ssim``, ``accuracy``, ``fd_features32`` and so on.
        measured: a sentence on how they came about.
        answers: how many answers the model gave.
        not_finite: those of them that held values that are not finite.
    """

    task: str
    metrics: Mapping[str, float]
    measured: str
    answers: int
    not_finite: int

    @property
    def fault(self) -> str:
        """What is wrong with the model's answers or figures, in words; empty where all of them are finite."""
        return Row(role="model", name="", metrics=dict(self.metrics), answers=self.answers,
                   not_finite=self.not_finite).fault  # fmt: skip


def evaluate(
    model: str | os.PathLike[str] | Model | nn.Module,
    *,
    task: str | Mapping[str, Any] | Task | None = None,
    data: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    sigma: float | None = None,
    teacher: str | os.PathLike[str] | Model | nn.Module | None = None,
    num_images: int | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda count: None,
) -> Evaluation:
    """Measure the quality of a model.

    Args:
        model: by reference as for ``kdgen.load``, a model, or a net of your own, a denoiser unless ``task`` says else.
        task: its name, its description ``{"name": ..., "args": {...}}``, or a task itself; by default what the model
            was made for.
        data: a folder of images (for classifiers a folder for each class), an .npz file (its test images), an IDX
            file, or the description of a source of images; by default what the task says.
        sigma: noise level of denoisers in 8-bit units; by default what the model was made for.
        teacher: what it is measured against, where the task asks how near it comes to a teacher.
        num_images: how many images it is measured on at most.
        seed: of the noise or the latents.
        progress: called with the number of answers so far, the teacher's included.

    Raises:
        UserError: for what does not fit together.
    """
    if num_images is not None:
        check_argument("evaluate", "num_images", num_images, Count)
    check_argument("evaluate", "seed", seed, int)
    measured = opened(model)
    against = None if teacher is None else opened(teacher)
    use, built = measuring_task({measured.name: measured}, data, sigma, task, num_images=num_images, teacher=against)
    reference = None if against is None else built.guided(against.net)
    counts = {"own": 0, "teacher": 0}

    def count(role: str) -> Callable[[int], None]:
        def note(number: int) -> None:
            counts[role] = number
            progress(sum(counts.values()))

        return note

    with ExitStack() as stack:
        if reference is not None and reference is not measured.net:
            stack.enter_context(watched(reference, count("teacher")))
        answers = stack.enter_context(watched(measured.net, count("own")))
        figures = built.evaluate(measured.net, reference=reference, seed=seed, limit=num_images)
    return Evaluation(
        use, dict(figures), built.describe_evaluation(reference=reference, seed=seed), answers.count, answers.not_finite
    )


def opened(model: str | os.PathLike[str] | Checkpoint | Model | nn.Module) -> Model:
    """A model by reference or declared, as it is, or of a net of one's own. Raises UserError for anything else."""
    if isinstance(model, str | os.PathLike | Checkpoint | Mapping):
        return models.load(model)
    if not isinstance(model, nn.Module):
        raise UserError(text("no_model", "a model is a reference, a declaration or a module, not {given}",
                             given=repr(model)))  # fmt: skip
    if isinstance(model, Model):
        return model
    channels = model.channels if isinstance(model, Channelled) else 0
    return Model(model, name=type(model).__name__, channels=channels)
