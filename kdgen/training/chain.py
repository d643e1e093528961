"""A link of a chain: one net taught by the one before it, from the teacher's answers to the saved student."""

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from kdgen.data.augment import check_crop
from kdgen.export.onnx import needs_onnx
from kdgen.models.abilities import Adopting, opaque
from kdgen.models.model import Model, build_net, load
from kdgen.models.nets.inherit import start_from
from kdgen.models.teachers import asked_together
from kdgen.recipe import OF_TEACHER, STARTS, Recipe
from kdgen.registry import Spec
from kdgen.report.previews import Previews
from kdgen.training.best_student import BestStudent
from kdgen.training.cache_filling import CacheFilling
from kdgen.training.checkpoint import Checkpoints
from kdgen.training.equivariance import Equivariance
from kdgen.training.int8 import ANSWERS, FASTER, WORTH, can_run_int8
from kdgen.training.run_context import RunContext
from kdgen.training.schedule import Length, asking
from kdgen.training.teacher import Teacher
from kdgen.training.teacher_cache import Stream, TeacherCache, live
from kdgen.training.train_step import Learner
from kdgen.training.trainer import Source, Trainer
from kdgen.types import Batch, Event, Net, Task, Text, UserError, text
from kdgen.utils.cache import fingerprint
from kdgen.utils.devices import fastest_seconds
from kdgen.utils.seed import derive

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CALIBRATED = 16
"""Inputs that the ranges of a teacher's 8-bit integers are taken from."""

JUDGED = 8
"""Other inputs, on which it is judged whether a teacher may answer in fewer bits."""

WHOLE = text("whole_inputs", "cache.crop is for cached inputs: with cache.inputs 0 the student trains on whole inputs")


def fresh(recipe: Recipe, task: Task) -> tuple[Net, Spec]:
    """The student of a recipe with random weights, and all its arguments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(recipe.seed, "weights"))
        return build_net(recipe.student, task.channels, task.describe())


class Link:
    """One net of a chain and its controls. Making one writes nothing and refuses whatever does not fit.

    Args:
        phase: what it is called.
        recipe: how it is trained.
        place: where.
        original: who teaches it, or None.
        net: that one's net as it is asked, guided or not.
        others: who else does, by name.
        student: the net and all its arguments, as ``fresh`` gives them.
    """

    def __init__(
        self,
        phase: str,
        recipe: Recipe,
        place: RunContext,
        original: Model | None,
        net: Net | None,
        others: Mapping[str, Model],
        student: tuple[Net, Spec],
    ) -> None:
        self.phase, self.recipe, self.place, self.original = phase, recipe, place, original
        self.dtype = PRECISIONS.get(recipe.precision, torch.bfloat16 if place.fast else torch.float32)
        self.teacher: Teacher | None = None
        self.identity, self.opaque = "", False
        if net is not None:
            asked = asked_together(net, {name: model.net for name, model in others.items()}, place.parts)
            self.opaque = bool(opaque(asked))
            if self.opaque and recipe.shard_teacher:
                raise UserError(text("shard_opaque", "an ONNX file is held whole by each process: set shard_teacher to "
                                     "false"))  # fmt: skip
            faster = place.fast and recipe.precision != "float32" and not self.opaque
            self.identity = fingerprint(asked) + "".join(f"-{name}-{part}" for name, part in place.parts.items())
            self.teacher = Teacher(
                asked,
                self._drawn("precision", JUDGED) if faster else place.probe,
                device=place.device,
                bfloat16=faster,
                slices=place.team if recipe.shard_teacher else None,
            )
        self.start = original if recipe.init in OF_TEACHER else None
        if recipe.init not in STARTS:
            self.start = load(recipe.init)
        self.use = student[1]
        self.learner: Learner | None = self._learner(recipe, student)
        if recipe.precision == "int8" and self.teacher is not None:
            self._check_int8(self.learner)
        cache = self._cache(self.learner)
        self.stock = None if cache is None else CacheFilling(cache, phase=phase, journal=place.journal, team=place.team)
        self._previews = Previews(place.folder, place.task, place.reference)

    def _learner(self, recipe: Recipe, student: tuple[Net, Spec]) -> Learner:
        """What learns by the recipe, from the student's first weights on."""
        place, (net, use) = self.place, student
        if self.start is not None:
            start_from(net, self.start.net, (use.name, self.start.name), copied=recipe.init == "copy")
        teacher = self.teacher if recipe.teacher is not None else None
        if teacher is not None and self.original is not None and isinstance(net, Adopting):
            net.adopt(self.original.net)
        return Learner(recipe, task=place.task, student=net, teacher=teacher, probe=place.probe, device=place.device,
                       dtype=self.dtype, team=place.team)  # fmt: skip

    def _drawn(self, what: str, count: int) -> Batch:
        return next(self.place.task.batches(batch_size=count, seed=derive(self.recipe.seed, what)))

    def _cache(self, learner: Learner) -> TeacherCache | None:
        """The cache the recipe asks for, with the teacher's layers that the methods of all stages want."""
        recipe, task = self.recipe, self.place.task
        if not recipe.cache.inputs:
            return None
        if recipe.cache.inputs < recipe.batch_size:
            raise UserError(text("cache_too_small", "a cache of {inputs} inputs is smaller than one batch of {batch}",
                                 inputs=recipe.cache.inputs, batch=recipe.batch_size))  # fmt: skip
        noted = self.place.journal.phase(self.phase).equivariance
        cache = TeacherCache(task, recipe.cache, teacher=self.teacher, identity=self.identity,
                             paths=sorted(learner.teacher_paths),
                             equivariance=Equivariance(**noted) if noted else None)  # fmt: skip
        check_crop(recipe.cache.crop, self.place.probe)
        return cache

    def events(self) -> Iterator[Event]:
        """Ask the teacher and train, each from where it was left; nothing if the net is there already."""
        learner, self.learner = self.learner, None
        if self.place.finished(self.phase):
            return
        assert learner is not None, "a link trains its student once"
        yield from self._settle_int8(learner)
        if self.teacher is not None and not all(found.passes for found in self.teacher.tried.values()):
            yield self._event("warning", message=self.teacher.account())
        if self.stock is None and self.recipe.cache.crop:
            yield self._event("warning", message=WHOLE)
        if self.stock is not None:
            drawing = self.place.journal.phase(self.phase).drawing or 0.0
            yield from self.stock.fill(self.recipe.seconds, drawing, self.place.stopped)
        spent = self.place.team.broadcast(self.place.journal.phase(self.phase).preparing)
        length = Length(self.recipe.steps, self.recipe.seconds, spent)
        if length.overrun and not (self.stock and self.stock.short):
            yield self._event("warning", message=_overrun(length))
        yield from self._train(self.phase, learner, length)

    def _check_int8(self, learner: Learner) -> None:
        """Refuse 8-bit integers where nothing would be asked in them. Raises UserError with what to set."""
        needs_onnx()
        if self.opaque:
            raise UserError(text("int8_opaque", "precision int8 is for a teacher that torch computes, and this one is "
                                 "an ONNX file, which computes as it does: set precision to auto"))  # fmt: skip
        if not self.place.int8:
            raise UserError(text("int8_on_cpu", "precision int8 is for a whole teacher on the CPU: set precision to "
                                 "auto"))  # fmt: skip
        if not learner.reads_outputs:
            raise UserError(text("int8_outputs", "precision int8 is for teachers of whose answers methods read "
                                 "nothing but the output: set precision to auto"))  # fmt: skip

    def _settle_int8(self, learner: Learner) -> Iterator[Event]:
        """Let the teacher answer in 8-bit integers where that is asked for or pays; once found out, it lasts."""
        place, noted = self.place, self.place.journal.phase(self.phase)
        if self.teacher is None or not place.int8 or self.opaque:
            return
        began, chosen = time.perf_counter(), noted.int8
        finds = chosen is None and place.team.is_main_process
        chosen = place.team.broadcast(self._try_int8(self.teacher, learner) if finds else chosen)
        if chosen and not finds:
            self.teacher.try_int8(*self._samples(), faster=0.0)
        if finds:
            trying = time.perf_counter() - began
            place.journal.note(self.phase, int8=chosen, trying=trying)
            yield self._event("teacher", int8=chosen, seconds=trying)

    def _try_int8(self, teacher: Teacher, learner: Learner) -> bool:
        if self.recipe.precision == "int8":
            return teacher.try_int8(*self._samples(), faster=0.0)
        short = self.stock is not None and self._asking_share() < WORTH
        if short or not can_run_int8() or not learner.reads_outputs or not self._worth_int8(teacher):
            return False
        try:
            return teacher.try_int8(*self._samples(), faster=FASTER)
        except UserError:  # it can't be written for onnxruntime
            return False

    def _samples(self) -> tuple[Batch, Batch]:
        """What the ranges of a teacher's integers are taken from, and what they are judged on."""
        return self._drawn("calibration", CALIBRATED), self._drawn("precision", JUDGED)

    def _asking_share(self) -> float:
        """Seconds that there are at most for the answers of the cache."""
        drawing = self.place.journal.phase(self.phase).drawing or 0.0
        share = asking(self.recipe.seconds, drawing, self.recipe.cache.share)
        return math.inf if share is None else share

    def _worth_int8(self, teacher: Teacher) -> bool:
        """Whether the teacher is about to be asked for longer than it is tried, as far as is known."""
        sample, recipe = self._drawn("precision", JUDGED), self.recipe
        each = fastest_seconds(partial(teacher.answer, sample), self.place.device) / JUDGED
        if self.stock is not None:
            missing = self.stock.cache.size - self.stock.cache.filled
            asked = min(each * missing, self._asking_share())
        elif recipe.steps is not None:
            asked = each * recipe.batch_size * recipe.steps
        else:
            asked = (recipe.seconds or 0.0) / 2
        return asked >= max(WORTH, ANSWERS * each)

    def release(self) -> None:
        """Let go of the teacher and its answers when all is trained; the net that it was made of stays."""
        if self.stock is not None:
            self.stock.cache.close()
        self.teacher = self.stock = self.learner = None

    def control(self, phase: str, *, steps: int | None = None, seconds: float | None = None) -> Iterator[Event]:
        """Train the same net without the teacher, on what a chain of one is; nothing if it is there already."""
        if self.place.finished(phase):
            return
        if self.stock is not None:
            self.stock = self.stock.untaught(self.place.whole or self.place.task)
            yield from self.stock.refill(self.place.stopped)
        recipe = self.recipe.without_teacher(steps=steps, seconds=seconds)
        learner = self._learner(recipe, fresh(recipe, self.place.task))
        yield from self._train(phase, learner, Length(steps, seconds))

    def _source(self, taught: bool) -> Source:
        """Batches with the teacher's cached answers, with the truth alone, or fresh ones that nobody answered."""

        def batches(seed: int, start: int) -> Stream:
            size = self.recipe.batch_size
            if self.stock is None:
                return live(self.place.task, batch_size=size, seed=seed, start=start)
            return self.stock.cache.batches(batch_size=size, seed=seed, start=start, truth=not taught)

        return batches

    def _train(self, phase: str, learner: Learner, length: Length) -> Iterator[Event]:
        """Train one net and save it."""
        place, command = self.place, f"kdgen resume {self.place.folder}"
        if place.team.any(place.stopped()):
            yield Event(kind="stopped", phase=phase, data={"reason": "asked to stop", "resume": command})
            return
        yield Event(kind="part", phase=phase, data={"part": "begin", "done": 0, "total": 1})
        slices = place.team if self.recipe.shard_student else None
        trainer = Trainer(
            learner,
            phase=phase,
            checkpoints=Checkpoints(place.folder / "checkpoints" / phase, slices),
            source=self._source(taught=learner.teacher is not None),
            length=length,
            reference=place.reference,
            stopped=place.stopped,
        )
        best = BestStudent(phase, folder=place.folder, journal=place.journal, task=place.task,
                           primary_metric=place.primary_metric, reference=place.reference)  # fmt: skip
        for event in trainer.fit():
            if event.kind == "evaluate":
                best.offer(self._model(trainer.average, phase), event)
                if phase == "student":
                    yield from self._previews.refresh(trainer.average, event.step)
            if event.kind == "phase" and place.team.is_main_process:
                place.journal.note(phase, steps=event.step, seconds=event.data["seconds"])
                best.choose(self._model(trainer.average, phase), event.step).save(place.home(phase))
                if choice := place.journal.phase(phase).choice:
                    event = replace(event, data={**event.data, "choice": choice.model_dump()})
            if event.kind == "stopped":
                event = replace(event, data={**event.data, "resume": command})
            yield event
        place.team.barrier()

    def _model(self, net: nn.Module, phase: str) -> Model:
        """The net of a phase as it is published."""
        task, name = self.place.task, self.recipe.name
        name = name if phase == "student" else f"{name}-{phase.replace('_', '-')}"
        return Model(net, name=name, channels=task.channels, task=task.describe(), use=self.use)

    def _event(self, kind: Any, **data: Any) -> Event:
        return Event(kind=kind, phase=self.phase, data=data)


def _overrun(length: Length) -> Text:
    return text("overrun", "images and answers took {spent:.0f} of the {seconds:g} s, so that training takes "
                "{training:.0f} s more; they are kept, and a new run trains for {seconds:g} s", spent=length.spent,
                seconds=length.seconds, training=length.training)  # fmt: skip
