"""A run: the folder that a recipe leaves behind. Chain, controls and report, each begun where it was left."""

import json
import os
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

import kdgen.training.registered  # noqa: F401
from kdgen import recipe as recipes
from kdgen import registry
from kdgen.data.photographs import Photographs
from kdgen.models.adapters.lora_base import lend
from kdgen.models.adapters.reading import check_module
from kdgen.models.hub_cache import commit_of, pinned
from kdgen.models.model import Model, load
from kdgen.models.nets.fold import copied
from kdgen.models.task_arguments import check_classes
from kdgen.models.teachers import part_of, parts_of_teachers
from kdgen.recipe import Recipe
from kdgen.registry import Spec
from kdgen.tasks.abilities import image_sources, opened_by
from kdgen.tasks.compatibility import check_fit
from kdgen.tasks.parties import Party
from kdgen.tasks.samples import drawing_seconds
from kdgen.training.chain import Link, fresh
from kdgen.training.run_context import RunContext
from kdgen.training.run_log import Journal, stop_on_signals
from kdgen.training.run_report import RunReport, made_in
from kdgen.types import Event, Net, Task, Text, UserError, text
from kdgen.utils.conditions import check_reads
from kdgen.utils.convert import write_text
from kdgen.utils.devices import bfloat16_pays, pick_device
from kdgen.utils.distributed import Team, together
from kdgen.utils.references import resolved
from kdgen.utils.schema import flat

BEGUN = ".begun.json"
"""The recipe as it was when a run began, in its folder."""

FREE = ("controls", "evaluate_every", "checkpoint_every", "device", "cache.dir", "cache.max_gib")
"""What of a recipe may change while its run is interrupted: nothing that the student learns from."""


def distill(
    recipe: Recipe, out: str | os.PathLike[str] | None = None, *, teacher: nn.Module | None = None
) -> Iterator[Event]:
    """Train a student by a recipe, its controls with it, and report.

    Args:
        recipe: what to do; what it names by a relative path lies in the current folder.
        out: the run folder; default `runs/NAME`. It must not hold a run yet.
        teacher: a net of your own, called as ``net(x, **cond)`` on images in [-1, 1] or on latents
            (`kdgen.from_module` converts other ranges); the recipe's ``teacher`` is then just what to call it. Or the
            model that the recipe's ``teacher`` names, as `kdgen.load` opens it, where it is open.

    Yields:
        what happens, as it happens. The run folder is complete after ``done``. In a run of several processes, started
            by ``accelerate launch`` or ``torchrun``, the first one yields and writes; the others yield nothing.

    Raises:
        UserError: for anything in the recipe that does not fit, and for a folder in use.
    """
    team = Team(recipe.device)
    folder = team.broadcast(Path(out) if out is not None else Path("runs") / recipe.name)
    if team.is_main_process and folder.exists() and any(folder.iterdir()):
        raise UserError(text("run_in_the_way", "{folder} is not empty: `kdgen resume {folder}` goes on with its run, "
                             "--out DIR starts another", folder=folder))  # fmt: skip
    recipe = resolved(recipe, Path.cwd())
    recipe = pinned(recipe, commit_of) if teacher is None or isinstance(teacher, Model) else recipe
    run = _Run(folder, recipe, teacher)
    if team.is_main_process:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("recipe.json", BEGUN):
            write_text(folder / name, recipe.to_json() + "\n")
    yield from run.events()


def resume(folder: str | os.PathLike[str], *, teacher: nn.Module | None = None) -> Iterator[Event]:
    """Go on with the run in a folder where it was left. Takes, yields and raises what ``distill`` does.

    Of its recipe only ``FREE`` may have been changed since it began; anything else is a UserError.
    """
    folder = Path(folder)
    if not (folder / "recipe.json").is_file():
        raise UserError(text("no_run_in", "{folder} holds no run: there is no recipe.json in it", folder=folder))
    recipe, original = recipes.read(folder / "recipe.json"), folder / BEGUN
    if original.is_file() and (fixed := _edited(recipes.read(original), recipe)):
        raise UserError(text("recipe_edited", "{folder}/recipe.json was edited after its run began: {changes:; }. In "
                             "mid-run only {free:, } may change: undo that, or distil anew from a copy of the file",
                             folder=folder, changes=fixed, free=list(FREE)))  # fmt: skip
    run = _Run(folder, recipe, teacher)
    if run.place.team.is_main_process and not original.is_file():
        write_text(original, recipe.to_json() + "\n")
    yield from run.events()


def _edited(original: Recipe, now: Recipe) -> list[Text]:
    """What differs between the recipe that a run began with and today's, but for ``FREE``: a line for each key."""
    before, after = (flat(recipe.model_dump(mode="json")) for recipe in (original, now))
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key) and key not in FREE]
    return [text("key_edited", "{key} was {before} and is {now}", key=key, before=json.dumps(before.get(key)),
                 now=json.dumps(after.get(key))) for key in keys]  # fmt: skip


class _Run:
    """A recipe brought to life in a folder. Making one writes nothing and refuses whatever does not fit."""

    def __init__(self, folder: Path, recipe: Recipe, teacher: nn.Module | None = None) -> None:
        team = Team(recipe.device)
        self.recipe, self.journal = recipe, Journal(folder, writes=team.is_main_process)
        device = pick_device(recipe.device)
        task = registry.build("task", recipe.task)
        first = list(islice(task.batches(batch_size=2, seed=recipe.seed), 2))
        timed, state = not recipe.repeatable, self.journal.state
        fast = (lambda: bfloat16_pays(device)) if timed else (lambda: recipe.precision == "bfloat16")
        self.place = RunContext(
            folder=folder,
            journal=self.journal,
            task=task,
            probe=first[0],
            device=device,
            fast=self._settled(state.bfloat16_pays, fast, team),
            int8=device.type == "cpu"
            and not recipe.shard_teacher
            and (recipe.precision == "int8" or (timed and recipe.precision == "auto")),
            team=team,
            parts=parts_of_teachers(task, recipe.guides()),
        )
        self.original = _opened(recipe, task, teacher)
        self.others = dict[str, Model]()
        if self.original is not None:
            where = "cpu" if recipe.shard_teacher else device
            self.place.reference = task.guided(self.original.eval().to(where).net)
            lend(recipe.teacher, self.original.net)
            self.others = {name: load(each).eval().to(where) for name, each in recipe.teachers.items()}
        self.drawing = drawing_seconds(*image_sources(task))
        self.chain = recipe.links()
        self.students: list[tuple[Net, Spec]] = []
        check_fit(recipe.task, task, first, self._parties())
        if teacher is not None and teacher is not self.original and task.takes_sigma:
            check_module(_teacher(str(recipe.teacher)), teacher, next(Photographs().images(task.teacher_channels))[1])
        links = [self._link(0), *(self._link(number, untrained=True) for number in range(1, len(self.chain)))]
        losses = [loss for link in links if link.learner is not None for loss in link.learner.losses]
        self.loss_lives = {name: lives for loss in losses for name, lives in loss.lives.items()}
        self.muted = [loss.name for loss in losses[-len(recipe.stages) :] if loss.mutes_truth]
        self.link = links[0]

    def _settled(self, noted: bool | None, measured: Callable[[], bool], team: Team) -> bool:
        """What a speed was found to be when the run began, so that it goes on computing in the same numbers."""
        return team.broadcast(measured() if noted is None else noted)

    def _parties(self) -> Iterator[Party]:
        """The teacher and every net that is to be trained, which is built here."""
        task = self.place.task
        if (teacher := self.original) is not None:
            check_classes(teacher.name, teacher.task, task.describe())
            asked = None if self.place.reference is teacher.net else self.place.reference
            yield Party(called=_teacher(teacher.name), net=teacher.net, made_for=teacher.task, key="teacher",
                        asked=asked, part=next(iter(task.parts), None))  # fmt: skip
        for name, other in self.others.items():
            check_classes(other.name, other.task, task.describe())
            yield Party(called=_teacher(name), net=other.net, made_for=other.task, key=f"teachers.{name}",
                        part=self.place.parts.get(name, part_of(task, name)))  # fmt: skip
        for number, (phase, recipe) in enumerate(self.chain):
            self.students.append(fresh(recipe, task))
            net = self.students[-1][0]
            check_reads(text("the_task", "the task {name}", name=recipe.task.name), net, task.needs)
            key = "student" if phase == "student" else f"assistants.{number}.student"
            yield Party(called=_trained(phase, str(recipe.student)), net=net, key=key, use=recipe.student)

    def _link(self, number: int, *, untrained: bool = False) -> Link:
        """A link of the chain; its teacher is the net before it, or while that is untrained, with copies, to see."""
        phase, recipe = self.chain[number]
        teacher, student, place = self.original, self.students[number], self.place
        if number:
            place = place.among_students(recipe.seed)
            before = self.chain[number - 1][0]
            if untrained:
                student = (copied(student[0]), student[1])
            if untrained and not self.place.finished(before):
                net, use = self.students[number - 1]
                teacher = Model(copied(net), name=before, channels=self.place.task.channels, use=use).eval()
            else:
                teacher = load(self.place.home(before))
        asked = None if teacher is None else self.place.reference if not number else teacher.net
        return Link(phase, recipe, place, teacher, asked, self.others, student)

    def events(self) -> Iterator[Event]:
        """Everything that is still to be done, logged to `metrics.jsonl` as it is yielded."""
        with together(self.place.team), self.journal.opened(), stop_on_signals() as self.place.stopped:
            first = self.chain[0][0]
            self.journal.note(bfloat16_pays=self.place.fast)
            self.journal.note(first, drawing=self.journal.phase(first).drawing or self.drawing)
            for event in self._events():
                self.journal.log(event)
                if self.place.team.is_main_process:
                    yield event
                if event.kind == "stopped":
                    return

    def _events(self) -> Iterator[Event]:
        recipe, original, place = self.recipe, self.original, self.place
        guided = recipe.guided(truth=place.probe.y is not None)
        yield self._event("start", student=str(recipe.student), teacher=original.name if original else None,
                          total_steps=recipe.steps, seconds=recipe.seconds, folder=str(place.folder),
                          primary_metric=place.primary_metric, guided=guided, loss_lives=self.loss_lives,
                          state=self.journal.state.model_dump())  # fmt: skip
        yield from self.link.events()
        for number in range(1, len(self.chain)):
            self.link.release()
            self.link = self._link(number)
            yield from self.link.events()
        if recipe.controls and original is not None and guided:
            yield from self.link.control("control_steps", steps=self.journal.phase("student").steps)
            yield from self.link.control("control_seconds", seconds=made_in(self.journal.state, self.chain, "student"))
        if place.team.is_main_process:
            ending = RunReport(recipe, place, original, self.others, self.chain, self.link, self.muted)
            yield from ending.events(guided=guided)
        yield self._event("done", folder=str(place.folder), student=str(place.home("student")))

    def _event(self, kind: Any, **data: Any) -> Event:
        return Event(kind=kind, data=data)


def _opened(recipe: Recipe, task: Task, given: nn.Module | None) -> Model | None:
    """The teacher of a run: the given one, or the one that the recipe names, which the task may have open."""
    if isinstance(given, Model):
        return given
    if given is not None:
        return Model(given, name=str(recipe.teacher), channels=task.teacher_channels)
    if recipe.teacher is None:
        return None
    return (None if recipe.shard_teacher else opened_by(task, recipe.teacher)) or load(recipe.teacher)


def _teacher(name: str) -> Text:
    return text("teacher_called", "the teacher {name}", name=name)


def _trained(phase: str, net: str) -> Text:
    if phase == "student":
        return text("student_called", "the student {net}", net=net)
    return text("assistant_called", "the assistant {number} {net}", number=phase.removeprefix("assistant_"), net=net)
