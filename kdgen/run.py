"""A run: the folder that a recipe leaves behind. Student, controls and report, each begun where it was left."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

import kdgen.methods
import kdgen.ratio
import kdgen.tasks  # noqa: F401 - all three register their names
from kdgen import pictures, registry
from kdgen import recipe as recipes
from kdgen.answers import AnswerPool, Teacher, live
from kdgen.card import card
from kdgen.checkpoint import Checkpoints
from kdgen.compare import Role, Row, Seconds, compare, measure
from kdgen.data.seed import derive
from kdgen.devices import bfloat16_pays, pick_device
from kdgen.journal import Journal, stop_on_signals
from kdgen.model import Model, build_net, load, write_text
from kdgen.recipe import Recipe
from kdgen.schedule import Length
from kdgen.train import Source, Trainer, make_methods
from kdgen.types import Event, Task, UserError
from kdgen.zoo.inherit import inherit

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def distill(
    recipe: Recipe, out: str | os.PathLike[str] | None = None, *, teacher: nn.Module | None = None
) -> Iterator[Event]:
    """Train a student by a recipe, its controls with it, and report.

    Args:
        recipe: what to do.
        out: the run folder; default `runs/NAME`. It must not hold a run yet.
        teacher: a net of your own, called as ``net(x, **cond)`` on images in [-1, 1] (`kdgen.from_module` converts
            other ranges); the recipe's ``teacher`` is then just what to call it.

    Yields:
        what happens, as it happens. The run folder is complete after ``done``.

    Raises:
        UserError: for anything in the recipe that does not fit, and for a folder in use.
    """
    folder = Path(out) if out is not None else Path("runs") / recipe.name
    if folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"{folder} is not empty: `kdgen resume {folder}` goes on with its run, --out DIR starts another"
        )
    run = _Run(folder, recipe, teacher)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "recipe.json", recipe.to_json() + "\n")
    yield from run.events()


def resume(folder: str | os.PathLike[str], *, teacher: nn.Module | None = None) -> Iterator[Event]:
    """Go on with the run in a folder where it was left. Takes, yields and raises what ``distill`` does."""
    folder = Path(folder)
    if not (folder / "recipe.json").is_file():
        raise UserError(f"{folder} holds no run: there is no recipe.json in it")
    yield from _Run(folder, recipes.read(folder / "recipe.json"), teacher).events()


class _Run:
    """A recipe brought to life in a folder. Making one writes nothing and refuses whatever does not fit."""

    def __init__(self, folder: Path, recipe: Recipe, teacher: nn.Module | None = None) -> None:
        self.folder, self.recipe, self.journal = folder, recipe, Journal(folder)
        self.stopped: Callable[[], bool] = lambda: False
        self.device = pick_device(recipe.device)
        noted = self.journal.get("bfloat16_pays")
        self.fast = fast = bfloat16_pays(self.device) if noted is None else bool(noted)
        self.dtype = PRECISIONS.get(recipe.precision, torch.bfloat16 if fast else torch.float32)
        self.task: Task = registry.build("task", recipe.task)
        self.probe = next(self.task.batches(batch_size=2, seed=recipe.seed))
        self.original = None
        if teacher is not None:
            self.original = Model(teacher, name=str(recipe.teacher), channels=self.task.channels).eval()
        elif recipe.teacher is not None:
            self.original = load(recipe.teacher)
        self.teacher: Teacher | None = None
        if self.original is not None:
            fast = fast and recipe.precision != "float32"
            self.teacher = Teacher(self.original.net, self.probe, device=self.device, bfloat16=fast)
        self.pool = self._pool()

    def events(self) -> Iterator[Event]:
        """Everything that is still to be done, logged to `metrics.jsonl` as it is yielded."""
        with self.journal.opened(), stop_on_signals() as self.stopped:
            self.journal.note(bfloat16_pays=self.fast)
            for event in self._events():
                self.journal.log(event)
                yield event
                if event.kind == "stopped":
                    return

    def _events(self) -> Iterator[Event]:
        recipe, original = self.recipe, self.original
        yield self._event("start", student=str(recipe.student), teacher=original.name if original else None,
                          total_steps=recipe.steps, seconds=recipe.seconds, folder=str(self.folder))  # fmt: skip
        if self.pool is not None:
            yield from self._fill(self.pool)
        yield from self._leg("student", recipe, Length(recipe.steps, recipe.seconds, self._spent()))
        truth = self.probe.y is not None
        if recipe.controls and self.teacher is not None and truth:
            steps = int(self.journal.get("student_steps"))
            seconds = self._spent() + float(self.journal.get("student_seconds"))
            alone = recipe.without_teacher(steps=steps)
            yield from self._leg("control_steps", alone, Length(steps, None))
            yield from self._leg("control_seconds", alone, Length(None, seconds))
        yield from self._report(truth=truth)
        yield self._event("done", folder=str(self.folder), student=str(self._home("student")))

    def _pool(self) -> AnswerPool | None:
        """The pool the recipe asks for, with the teacher's taps that the methods of all stages want."""
        recipe, paths = self.recipe, set[str]()
        student = build_net(recipe.student, self.task.channels)[0].to(self.device)
        net = self.teacher.net if self.teacher else None
        for method in make_methods(recipe, student, net, self.probe.to(self.device)).values():
            paths |= set(method.teacher_taps)
        for stage in recipe.stages:
            registry.build("ratio", stage.ratio)
        if not recipe.pool.patches:
            return None
        if recipe.pool.patches < recipe.batch_size:
            raise UserError(f"a pool of {recipe.pool.patches} patches is smaller than one batch of {recipe.batch_size}")
        identity = self.original.fingerprint() if self.original else ""
        return AnswerPool(self.task, recipe.pool, teacher=self.teacher, identity=identity, paths=sorted(paths))

    def _source(self, taught: bool) -> Source:
        """Batches with the teacher's cached answers, with the truth alone, or fresh ones that nobody answered."""

        def batches(seed: int, start: int) -> Any:
            size = self.recipe.batch_size
            if self.pool is None:
                return live(self.task, batch_size=size, seed=seed, start=start)
            return self.pool.batches(batch_size=size, seed=seed, start=start, truth=not taught)

        return batches

    def _spent(self) -> float:
        """Seconds that the teacher's answers took out of this run's budget."""
        return 0.0 if self.journal.get("answers_from_disk") else float(self.journal.get("answers", 0.0))

    def _fill(self, pool: AnswerPool) -> Iterator[Event]:
        """The teacher's answers, counted and timed; pools that lay complete on disk take no time."""
        before = float(self.journal.get("answers", 0.0))
        if pool.complete:
            if not self.journal.get("answers_started"):
                self.journal.note(answers=0.0, answers_from_disk=True)
            yield self._event(
                "answers", done=pool.spec.patches, total=pool.spec.patches, seconds=before, from_disk=True
            )
            return
        self.journal.note(answers=before, answers_from_disk=False, answers_started=True)
        started = time.perf_counter()
        for done in pool.fill():
            seconds = before + time.perf_counter() - started
            self.journal.note(answers=seconds)
            yield self._event("answers", done=done, total=pool.spec.patches, seconds=seconds, from_disk=False)
            if self.stopped() and not pool.complete:
                yield self._event("stopped", reason="asked to stop", resume=f"kdgen resume {self.folder}")
                return

    def _leg(self, leg: str, recipe: Recipe, length: Length) -> Iterator[Event]:
        """Train one net unless its folder is there already."""
        if self._finished(leg) or self.stopped():
            return
        teacher = self.teacher if recipe.teacher is not None else None
        torch.manual_seed(derive(recipe.seed, "weights"))
        net, use = build_net(recipe.student, self.task.channels)
        if recipe.init == "teacher" and self.original is not None:
            inherit(net, self.original.net)
        trainer = Trainer(
            recipe,
            leg=leg,
            checkpoints=Checkpoints(self.folder / "checkpoints" / leg),
            task=self.task,
            student=net,
            teacher=teacher,
            source=self._source(taught=teacher is not None),
            probe=self.probe,
            length=length,
            device=self.device,
            dtype=self.dtype,
            stopped=self.stopped,
        )
        for event in trainer.fit():
            if event.kind == "leg":
                name = recipe.name if leg == "student" else f"{recipe.name}-{leg.replace('_', '-')}"
                self.journal.note(**{f"{leg}_steps": event.step, f"{leg}_seconds": event.data["seconds"]})
                described = self.task.describe()
                Model(trainer.ema.module, name=name, channels=self.task.channels, task=described, use=use).save(
                    self._home(leg)
                )
            if event.kind == "stopped":
                event = Event(kind="stopped", leg=leg, step=event.step, progress=event.progress,
                              data={**event.data, "resume": f"kdgen resume {self.folder}"})  # fmt: skip
            yield event

    def _report(self, *, truth: bool) -> Iterator[Event]:
        """Measure every net and write the report and its pictures."""
        rows: list[Row] = [measure("input", None, self.task, name="noisy input")]
        nets: dict[str, nn.Module] = {}
        if self.original is not None:
            rows.append(measure("teacher", self.original.net, self.task, name=self.original.name))
            nets["teacher"] = self.original.net
        legs: tuple[Role, ...] = ("student", "control_steps", "control_seconds")
        for leg in legs:
            if self._finished(leg):
                model = load(self._home(leg))
                seconds = float(self.journal.get(f"{leg}_seconds")) + (self._spent() if leg == "student" else 0)
                rows.append(measure(leg, model.net, self.task, name=model.name, seconds=seconds,
                                    steps=int(self.journal.get(f"{leg}_steps"))))  # fmt: skip
                nets[leg] = model.net
        spent = Seconds(
            answers=float(self.journal.get("answers", 0.0)),
            training=float(self.journal.get("student_seconds")),
            answers_from_disk=bool(self.journal.get("answers_from_disk")),
        )
        taught = self.original is not None
        report = compare(rows, task=str(self.recipe.task), ground_truth=truth, seconds=spent if taught else None)
        report.save(self.folder)
        write_text(self._home("student") / "README.md", card(report, self.recipe))
        pictures.samples(self.folder / "samples.png", self.task, nets)
        pictures.curves(self.folder / "curves.png", self.folder / "metrics.jsonl")
        yield self._event("report", path=str(self.folder / "report.json"), markdown=str(self.folder / "report.md"),
                          samples=str(self.folder / "samples.png"), curves=str(self.folder / "curves.png"))  # fmt: skip

    def _home(self, leg: str) -> Path:
        return self.folder / "student" if leg == "student" else self.folder / "controls" / leg

    def _finished(self, leg: str) -> bool:
        return (self._home(leg) / "config.json").is_file()

    def _event(self, kind: Any, **data: Any) -> Event:
        return Event(kind=kind, data=data)
