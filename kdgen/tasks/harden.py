"""Train a student for images that differ from those that its teacher was trained on, and say what that cost."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field, JsonValue
from torch import Tensor

from kdgen.data.damages import Damage, Damaged
from kdgen.data.damages.one_of import Choices, OneOf
from kdgen.data.damages.shifts import SHIFTS
from kdgen.data.damages.view import View
from kdgen.registry import Spec, register
from kdgen.tasks.abilities import Showing
from kdgen.tasks.seen import Seen
from kdgen.tasks.views import Views
from kdgen.tasks.wrapped import TaskSource
from kdgen.types import Batch, Both, Metrics, Net, Task, Text, UserError, text
from kdgen.types.arguments import Share

Asked = Annotated[Literal["clean", "shifted"], Field(description='"clean" or "shifted"')]
STANDARD: Choices = [spec.model_dump(mode="json") for shift in SHIFTS for spec in shift]
SHIFTED = "@shifted"
"""How the names of figures on shifted images end."""


class Sometimes(Damage):
    """A damage that only some images get, of which nets are told nothing.

    Args:
        damage: that keeps images as large as they are.
        share: of the images.
    """

    def __init__(self, damage: Damage, share: float) -> None:
        self.damage, self.share = damage, share

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        struck = torch.rand(len(images), 1, 1, 1, generator=random) < self.share
        return torch.where(struck, self.damage(images, random, share)[0], images), {}


@register("task")
class Harden(Views):
    """Any other task, trained on images of which some are shifted: noisy, blurred, compressed or pale.

    The teacher answers the clean images that they come from, so that the student learns to answer shifted ones as clean
    ones. Every net of a report is measured on clean images, and as ``accuracy@shifted``, say, on the same all shifted.

    Args:
        task: the task within, whose nets read images; ``denoise`` if not given.
        damages: by one of which an image is shifted, as for the damage ``one_of``; if not given, those of CIFAR-10-C
            that kdgen has, in each of five severities (Hendrycks and Dietterich 2019, arXiv 1903.12261).
        share: of the images that are shifted in training.
        teacher: which images the teacher answers, ``clean`` or ``shifted`` ones.

    Raises:
        UserError: for what ``views`` refuses, and for damages that make images smaller.
    """

    def __init__(
        self, task: TaskSource | None = None, damages: Choices | None = None, share: Share = 0.5,
        teacher: Asked = "clean",
    ) -> None:  # fmt: skip
        self.damages, self.share, self.asked = STANDARD if damages is None else damages, share, teacher
        shift = OneOf(self.damages)
        if shift.scale > 1:
            raise UserError(text("harden_scale", "harden: shifted images are as large as clean ones, and these damages "
                                 "make them {scale} times smaller: leave those out", scale=shift.scale))  # fmt: skip
        self.always, student = View(Sometimes(shift, 1.0)), View(Sometimes(shift, share))
        self._wrap(task, student, View(None) if teacher == "clean" else student)

    def among_students(self) -> Task:
        """The task itself, of which clean images are among those of students, around what is within for students."""
        inner = self.inner.among_students()
        return self if inner is self.inner else self._around(inner)

    def among_teachers(self) -> Task:
        """The task itself around what is within for teachers: all nets are measured on the same images."""
        return self._around(self.inner.among_teachers())

    def _described(self) -> str:
        return json.dumps([self.damages, self.share, self.asked], sort_keys=True)

    def describe(self) -> Mapping[str, JsonValue]:
        """What the task within says: the student is for clean images and shifted ones alike."""
        return self.inner.describe()

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """The figures of the task within on clean images, and with ``@shifted`` behind their names on shifted ones.

        Where these say how near a net comes to the teacher, the teacher is shown what it is in training.
        """
        clean = self.inner.evaluate(net, reference=reference, seed=seed, limit=limit)
        judged, teacher = Seen(net, self.always, seed), reference
        if reference is not None and self.asked == "shifted":
            teacher = judged if net is reference else Seen(reference, self.always, seed)
        within = self.inner.among_teachers() if net is reference else self.inner
        shifted = within.evaluate(judged, reference=teacher, seed=seed, limit=limit)
        return {**clean, **{f"{name}{SHIFTED}": value for name, value in shifted.items()}}

    def parity(self, net: Net, written: Net, *, teacher: Net | None = None, limit: int | None = None) -> Both:
        """That of the task within on clean images, and with ``@shifted`` behind the names on shifted ones."""
        clean = self.inner.parity(net, written, teacher=teacher, limit=limit)
        shifted = [Seen(each, self.always, 0) for each in (net, written)]
        if teacher is not None and self.asked == "shifted":
            teacher = Seen(teacher, self.always, 0)
        both = zip(clean, self.inner.parity(*shifted, teacher=teacher, limit=limit), strict=True)
        own, theirs = ({**one, **{f"{key}{SHIFTED}": value for key, value in other.items()}} for one, other in both)
        return own, theirs

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """What the task within says, and by what images are shifted."""
        measured = self.inner.describe_evaluation(reference=reference, seed=seed)
        names = sorted({str(each["name"]) if isinstance(each, Mapping) else str(each) for each in self.damages})
        return text("measured_shifted", "{measured} Figures with @shifted are of the same images, each shifted by one "
                    "of {names:, }, the same for every net.", measured=measured, names=names)  # fmt: skip

    def _unwrapped(self) -> tuple[Task, dict[str, Sequence[Spec]]]:
        """Itself: how its images are shifted, it says."""
        return self, {}

    def _evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        """The evaluation images of the task within by name, as they are and shifted in turn."""
        assert isinstance(self.inner, Showing)
        for number, (name, batch) in enumerate(self.inner.evaluation_images(seed=seed, limit=limit)):
            if number % 2 == 1:
                taught = None if batch.teacher_x is None else self.always.each(batch.teacher_x, seed)[0]
                batch = replace(batch, x=self.always.each(batch.x, seed)[0], teacher_x=taught)
            yield name, batch
