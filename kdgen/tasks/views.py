"""Student and teacher see the same images in different ways: any task, with a view of its own for each of the two."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import count, takewhile
from typing import Annotated, Any

from pydantic import Field, JsonValue
from torch import Tensor

from kdgen.data import derive, generator
from kdgen.data.damages import make_damages
from kdgen.data.damages.view import View, in_words
from kdgen.registry import Spec, register
from kdgen.tasks.abilities import Showing
from kdgen.tasks.restoration import Restoration
from kdgen.tasks.seen import Seen
from kdgen.tasks.wrapped import TaskSource, Wrapped
from kdgen.types import Batch, Both, Metrics, Net, Task, Text, UserError, text

Ways = Annotated[
    Sequence[str | Mapping[str, Any] | Spec],
    Field(description='a list of damages, each a name or {"name": ..., "args": {...}}; none shows images as they are'),
]


@register("task")
class Views(Wrapped):
    """Any other task, with images that the student sees in one way and the teacher in another.

    The truth stays that of the task within. In a report the teacher is measured in its own view, everything else in the
    student's; a published student is what it would be without this, and says its view beside.

    Args:
        task: the task within, whose nets read images; ``denoise`` if not given.
        student: how the student sees the images: damages one after another, such as ``grey``, ``shrink``, ``dark``,
            ``noise``, ``blur``, ``mask``. Grey images have as many channels as before; ``exposures`` has several of
            each picture, and ``channels`` leaves out some of a stack of photograph and map, see ``aligned``.
        teacher: how the teacher does. What these damages tell (``mask``, ``sigma``, ``stops``) it is told alone.

    Attributes:
        channels, teacher_channels: of what student and teacher see.

    Raises:
        UserError: for a malformed or unknown task or damage, for a task whose nets read no images, and for a mask of
            ``channels`` where the task within changes what it is read from.
    """

    def __init__(self, task: TaskSource | None = None, student: Ways = (), teacher: Ways = ()) -> None:
        own, other = make_damages(student), make_damages(teacher)
        self.specs = {"student": own.specs, "teacher": other.specs}
        self._chosen = [*takewhile(lambda damage: damage.selects, own.damages)]
        view = View(own if own.specs else None)
        self._wrap(task, view, view if own.specs == other.specs else View(other if other.specs else None, own))

    def _wrap(self, task: TaskSource | None, student: View, teacher: View) -> None:
        """Take over a task, with the view of its student and the teacher's, which may be the same."""
        self._take(task)
        self.student, self.teacher, self._measured = student, teacher, teacher
        if self.parts and teacher.damage is not None:
            raise UserError(text("views_of_parts", "{task} has a teacher for each of its parts, and these see images "
                                 "as they are: leave the view of teachers out",
                                 task=str(self.inner.describe()["name"])))  # fmt: skip
        if (student.reads or teacher.reads) and not _keeps(self.inner):
            raise UserError(text("mask_changed_within", "channels: the task {task} changes the channel that says what "
                                 "was read before a view makes a mask of it: leave mask out",
                                 task=str(self.inner.describe()["name"])))  # fmt: skip
        self.channels = student.num_channels(self.inner.channels)
        if isinstance(self.inner, Showing):
            self.evaluation_images = self._evaluation_images
        self._whom = ""
        self._asked: Seen | None = None
        self._own: dict[Net, tuple[str, Sequence[Spec], View]] = {}

    def among_students(self) -> Task:
        """The same with both shown what students are; the chain's first teacher is measured in its own view still."""
        return self._among("students", self.inner.among_students(), self.student)

    def among_teachers(self) -> Task:
        """The same with both shown what teachers are."""
        return self._among("teachers", self.inner.among_teachers(), self._measured)

    def _among(self, whom: str, inner: Task, view: View) -> "Views":
        """The same around another task, and with one view for both."""
        among = self._around(inner)
        among.student, among.teacher, among._whom = view, view, f"among {whom}"
        among.channels = view.num_channels(inner.channels)
        return among

    def _around(self, inner: Task) -> "Views":
        around = copy(self)
        vars(around).pop("_views_within", None)
        around.inner = inner
        if isinstance(inner, Showing):
            around.evaluation_images = around._evaluation_images
        return around

    def show(self, net: Net, name: str, facts: Mapping[str, Any], *, teaches: bool = False) -> None:
        """Show a net images as a model says that it sees them, where that is not as students do, or as the teacher.

        Args:
            net: the model's.
            name: what sentences call it.
            facts: what the model says of its task.
            teaches: whether it is the teacher.
        """
        damages = make_damages(facts.get("view") or ())
        if _plain(damages.specs) != _plain(self.specs["teacher" if teaches else "student"]):
            self._own[net] = name, damages.specs, View(damages if damages.specs else None)

    def guided(self, teacher: Net) -> Net:
        """That of the task within, which is asked about images in the teacher's view, or in that of ``show``."""
        asked = self.inner.guided(Seen(teacher, self._view_of(teacher, self._measured), 0))
        if not isinstance(asked, Seen):
            return self.inner.guided(teacher)
        if teacher in self._own:
            self._own[asked.net] = self._own[teacher]
        return asked.net

    def _view_of(self, net: Net, usual: View) -> View:
        return self._own[net][2] if net in self._own else usual

    def shown_to(self, net: Net, batch: Batch, *, seed: int = 0) -> Batch:
        """A batch of ``evaluation_images`` as a net is shown it; any but those of ``show`` as a student is."""
        if net not in self._own:
            return batch
        shown, (_, _, view) = batch.for_teacher(), self._own[net]
        x, cond = view.after(shown.cond, view.each(shown.x, seed))
        return replace(batch, x=x, cond=cond)

    @property
    def teacher_channels(self) -> int:
        """See the class."""
        return self.teacher.num_channels(self.inner.channels)

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Those of the task within, in both views; the truth is that of the images as they are."""
        inner = self.inner.batches(batch_size=batch_size, seed=seed, start=start)
        for number, batch in zip(count(start), inner, strict=False):
            yield self._seen(batch, derive(seed, "views", number))

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The randomness of the task within drawn anew, and that of the views.

        Where the task within has none, the images as they are have to be at hand for that: as the teacher's view. Where
        both views tell nets what the task within does too, a batch stays as it is.
        """
        if (told := self._told_within(batch)) is None:
            return batch
        before = replace(batch, cond=told)
        if self.teacher.damage is not None:
            before = replace(before, teacher_x=None, teacher_cond=None)
        anew = self.inner.resample_noise(before, seed=seed)
        if anew is before:
            return self.resample_view(batch, seed=seed)
        if not self._views_within:
            anew = replace(anew, teacher_x=None, teacher_cond=None)
        return self._seen(anew, derive(seed, "views"))

    def resample_view(self, batch: Batch, *, seed: int) -> Batch:
        """What the student's view draws, drawn anew, where the teacher is shown the images as they are.

        Where the task within has views too, those of the student are drawn anew one after another.
        """
        told = self._told_within(batch)
        if batch.teacher_x is None or self.teacher.damage is not None or told is None:
            return batch
        shown = replace(batch.for_teacher(), cond=told)
        if self._views_within:
            before = replace(shown, teacher_x=shown.x, teacher_cond=told)
            if (shown := self.inner.resample_view(before, seed=seed)) is before:
                return batch
        return self._seen(shown, derive(seed, "views"))

    def _told_within(self, batch: Batch) -> dict[str, Tensor] | None:
        """What the task within tells of a batch, before views told theirs; None where both of them tell it too."""
        for view, cond in ((self.teacher, batch.teacher_cond), (self.student, batch.cond)):
            if cond is not None and not self._within & view.tells:
                return {name: cond[name] for name in self._within}
        return None

    @cached_property
    def _within(self) -> frozenset[str]:
        """What the task within tells nets."""
        return frozenset(self.inner.example().cond)

    @cached_property
    def _views_within(self) -> bool:
        """Whether the task within shows its teacher something else already."""
        return self.inner.example().teacher_x is not None

    def _seen(self, batch: Batch, seed: int) -> Batch:
        """A batch of the task within as both see it."""
        shown = batch.for_teacher()
        x, cond = self.student.after(batch.cond, self.student(batch.x, generator(seed)))
        if self.teacher is self.student and shown.x is batch.x:
            return replace(batch, x=x, cond=cond)
        teacher_x, teacher_cond = self.teacher.after(shown.cond, self.teacher(shown.x, generator(seed)))
        return replace(batch, x=x, cond=cond, teacher_x=teacher_x, teacher_cond=teacher_cond)

    def fingerprint(self) -> str:
        """A hash of the task within and of the views, and of what both tell, which adds up."""
        both = "".join(sorted(self._within & (self.student.tells | self.teacher.tells)))
        return hashlib.sha256(f"{self.inner.fingerprint()}{self._described()}{self._whom}{both}".encode()).hexdigest()

    def _described(self) -> str:
        return json.dumps({role: _plain(specs) for role, specs in self.specs.items()}, sort_keys=True)

    def describe(self) -> Mapping[str, JsonValue]:
        """What the task within says, and how the student sees its images; what it reads of a stack are its images."""
        within = self.inner.describe()
        before = list[JsonValue](told) if isinstance(told := within.get("view"), list) else []
        chosen = [] if before else self._chosen
        view = [*before, *_plain(self.specs["student"][len(chosen) :])]
        read: dict[str, JsonValue] = {"channels": chosen[-1].num_channels(0)} if chosen else {}
        return {**within, **read, **({"view": view} if view else {})}

    def example(self) -> Batch:
        """That of the task within, in both views."""
        return self._seen(self.inner.example(), 0)

    def answer_shape(self, batch: Batch) -> tuple[int, ...] | None:
        """That of the task within to images as they are, of which ``x`` is the student's view."""
        *most, channels, height, width = batch.x.shape
        scale, own = self.student.scale, self.inner.channels
        shape = *most, channels if self.channels == own else own, scale * height, scale * width
        shown = batch.x if shape == batch.x.shape else batch.x.new_empty(shape, device="meta")
        return self.inner.answer_shape(replace(batch, x=shown))

    def baseline(self, batch: Batch) -> Tensor | None:
        """That of the task within, where images keep their size and channels."""
        as_large = self.student.scale == 1 and self.channels == self.inner.channels
        return self.inner.baseline(batch) if as_large else super().baseline(batch)

    def _evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        """The evaluation images of the task within by name, each as ``evaluate`` shows it to both."""
        assert isinstance(self.inner, Showing)
        for name, batch in self.inner.evaluation_images(seed=seed, limit=limit):
            (x, cond), (teacher_x, teacher_cond) = (
                view.after(seen.cond, view.each(seen.x, seed))
                for view, seen in ((self.student, batch), (self._measured, batch.for_teacher()))
            )
            yield name, replace(batch, x=x, cond=cond, teacher_x=teacher_x, teacher_cond=teacher_cond)

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """What the task within measures of a net in its view; of the teacher, ``reference``, in the teacher's."""
        teacher = None if reference is None else self._as_teacher(reference, seed)
        judged = teacher if teacher and net is reference else Seen(net, self._view_of(net, self.student), seed)
        return self.inner.evaluate(judged, reference=teacher, seed=seed, limit=limit)

    def parity(self, net: Net, written: Net, *, teacher: Net | None = None, limit: int | None = None) -> Both:
        """That of the task within, both in the student's view and a teacher in its own."""
        asked = None if teacher is None else self._as_teacher(teacher, 0)
        return self.inner.parity(*(Seen(each, self.student, 0) for each in (net, written)), teacher=asked, limit=limit)

    def _as_teacher(self, net: Net, seed: int) -> Seen:
        """A teacher in its own view, the same each time, so that what is known of it is known again."""
        if self._asked is None or self._asked.net is not net or self._asked.seed != seed:
            self._asked = Seen(net, self._view_of(net, self._measured), seed)
        return self._asked

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """What the task within says, and who sees its images how."""
        within, specs = self._unwrapped()
        measured = within.describe_evaluation(reference=reference, seed=seed)
        student, teacher = (in_words(specs[role]) for role in ("student", "teacher"))
        told = {"measured": measured, "student": student}
        if reference is None or reference in self._own:
            return self._with_own(text("measured_view", "{measured} Its images are seen {student}.", **told))
        return self._with_own(text("measured_views", "{measured} Its images are seen {student} by students and "
                                   "controls, and {teacher} by the teacher.", teacher=teacher, **told))  # fmt: skip

    def _unwrapped(self) -> tuple[Task, dict[str, Sequence[Spec]]]:
        """The task within, of views within views that of all, and the damages of both roles, in order."""
        within, before = self.inner._unwrapped() if isinstance(self.inner, Views) else (self.inner, {})
        return within, {role: (*before.get(role, ()), *specs) for role, specs in self.specs.items()}

    def _with_own(self, told: Text) -> Text:
        """A sentence, and who sees images otherwise than it says."""
        each = dict.fromkeys(text("own_view", "{name} sees them {view}", name=name, view=in_words(specs))
                             for name, specs, _ in self._own.values())  # fmt: skip
        return text("measured_own_views", "{measured} {each:; }.", measured=told, each=[*each]) if each else told


def _keeps(task: Task) -> bool:
    """Whether what a task does to images leaves a channel that says what was read right."""
    if isinstance(task, Views):
        return task.student.keeps and task.teacher.keeps and _keeps(task.inner)
    return task.keeps if isinstance(task, Restoration) else not task.parts


def _plain(specs: Sequence[Spec]) -> list[JsonValue]:
    return [spec.model_dump(mode="json") for spec in specs]


__all__ = ["Views"]
