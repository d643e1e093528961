"""The one training loop: ``fit`` trains a net by a recipe and yields events."""

import math
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from kdgen.metrics import SignWatch, watched
from kdgen.training.checkpoint import Checkpoints
from kdgen.training.prefetch import ahead, answered, threads_for
from kdgen.training.schedule import Length
from kdgen.training.teacher_cache import Stream
from kdgen.training.train_step import Figures, Learner
from kdgen.types import Batch, Event, Net, TeacherOutput, Text, UserError, text
from kdgen.utils.devices import threads
from kdgen.utils.seed import derive

RETRIES = 3
REPORT_EVERY = 0.25
PHASES = {"student": text("phase_student", "student"), "control_steps": text("phase_control_steps", "control_steps"),
          "control_seconds": text("phase_control_seconds", "control_seconds")}  # fmt: skip
QUARTERS = (0.25, 0.5, 0.75)
"""Where in a phase that is counted in steps quick evaluations stand: what is kept of it must not hang on its speed."""

STEPS_UNREAD = 16
"""How many steps a device that works on its own may be ahead of the figures that are read from it."""

Source = Callable[[int, int], Stream]
"""Batches with their answers, called with a seed and the number of the first batch."""


@dataclass(slots=True)
class State:
    """How far a phase is, how often it went back, and how the teacher is asked.

    ``beside`` is how many threads of the processor the teacher is asked on while the student learns on the others; 0 on
    all of them, in turn; None before that was tried. Sums round by it, so that it lasts when a run is resumed.
    """

    step: int = 0
    elapsed: float = 0.0
    retries: int = 0
    beside: int | None = None


class Trainer:
    """One phase: what learns, and a source of batches.

    Args:
        learner: the student with all that it learns from; its task measures it.
        phase: the name its events carry.
        checkpoints: where its states are kept.
        source: batches with the teacher's answers; where an answer or a feature is missing, the teacher is asked.
        length: in steps or seconds.
        reference: the teacher as it is measured against in quick evaluations, or None.
        stopped: asked whenever figures are read whether to save and leave.

    Attributes:
        average: the moving average of the student, what a phase is for; of one in slices as it was at the last look, in
            the first process alone.

    Raises:
        UserError: for more processes than a batch has images.
    """

    def __init__(
        self,
        learner: Learner,
        *,
        phase: str,
        checkpoints: Checkpoints,
        source: Source,
        length: Length,
        reference: Net | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.learner, self.phase, self.checkpoints = learner, phase, checkpoints
        self.source, self.length, self.stopped, self.reference = source, length, stopped, reference
        self.recipe, self.task, self.team = learner.recipe, learner.task, learner.team
        recipe = self.recipe
        if recipe.batch_size < self.team.size:
            raise UserError(text("too_many_processes", "{processes} processes cannot share a batch of {batch}: set "
                                 "batch_size higher, or launch fewer", processes=self.team.size,
                                 batch=recipe.batch_size))  # fmt: skip
        self.state, self.signs = State(), SignWatch()
        self.average = learner.average.net
        self.asynchronous = learner.device.type != "cpu"
        self.threads = torch.get_num_threads()
        self.tried = 0.0
        counted = recipe.evaluate_every is not None and length.steps is not None
        self.looks = {math.ceil(share * (length.steps or 0)) for share in QUARTERS} if counted else set[int]()
        self.look_every = math.inf if counted or recipe.evaluate_every is None else recipe.evaluate_every

    @property
    def read_every(self) -> int:
        """How many steps are taken before their figures are read, so that a device is not waited for at each."""
        return STEPS_UNREAD if self.asynchronous else 1

    def save(self) -> None:
        """Write a checkpoint of everything that a resumed run needs."""
        if self.team.is_main_process or self.recipe.shard_student:
            self.checkpoints.save({**asdict(self.state), **self.learner.state_dict()})

    def restore(self) -> list[Text]:
        """Go back to the last good checkpoint, if there is one; a line for every damaged one."""
        saved, damaged = self.checkpoints.load()
        if saved is not None:
            retries = max(self.state.retries, saved["retries"])
            self.state = State(saved["step"], saved["elapsed"], retries, saved.get("beside"))
            self.learner.load_state_dict(saved)
        return damaged

    def fit(self) -> Iterator[Event]:
        """Train to the end, or until told to stop. Quick evaluations take none of the phase's seconds.

        Yields:
            step, evaluate, checkpoint and warning events, then ``phase`` at the end, or ``stopped``.

        Raises:
            UserError: when the loss is still not finite after going back three times, and when not even one image at a
                time fits into memory.
        """
        for line in self.restore():
            yield self._event("warning", message=line)
        if self.learner.stage < 0:
            self.learner.enter(0)
            self.save()
        back: Text | None = Text("")
        while back is not None:
            with closing(self._stream()) as stream:
                back = yield from self._train(stream)
            if back is not None:
                yield self._event("warning", message=back)

    def _train(self, stream: Stream) -> Generator[Event, None, Text | None]:
        """Train until the end or a stop; or until it had to go back, which it returns a line about."""
        state, recipe, batch_size = self.state, self.recipe, self.recipe.batch_size
        began = time.perf_counter() - state.elapsed
        reported = evaluated = saved = state.elapsed
        reported_at = state.step
        first: tuple[int, float] | None = None
        unread: list[Figures] = []
        while (progress := self.length.progress(state.step, state.elapsed)) < 1:
            batch, answer = next(stream)
            unread.append(self.learner.step(batch, answer, number=state.step, progress=progress, retries=state.retries))
            state.step += 1
            over = self.length.progress(state.step, state.elapsed) >= 1
            if len(unread) < self.read_every and not over and state.step not in self.looks:
                continue
            finite = self.learner.exhausted or _finite(unread)
            elapsed, stop, exhausted, broken = self._agreed(time.perf_counter() - began, finite)
            if exhausted:
                return self._split()
            if broken:
                return self._go_back(unread[-1])
            state.elapsed, figures = elapsed, unread[-1]
            unread = []
            if state.elapsed - reported >= REPORT_EVERY:
                left = self.length.left(state.step, state.elapsed, first or (state.step, state.elapsed))
                speed = (state.step - reported_at) * batch_size / (state.elapsed - reported)
                yield self._event("step", **self._gathered(figures), seconds_left=left, images_per_second=speed,
                                  seconds=state.elapsed)  # fmt: skip
                reported, reported_at = state.elapsed, state.step
            first = first or (state.step, state.elapsed)
            if state.step in self.looks or state.elapsed - evaluated >= self.look_every:
                evaluated, paused = state.elapsed, time.perf_counter()
                yield from self._quick_look()
                began += time.perf_counter() - paused
            if stop:
                self.save()
                yield self._event("stopped", reason="asked to stop")
                return None
            if state.elapsed - saved >= recipe.checkpoint_every:
                self.save()
                saved = state.elapsed
                yield self._event("checkpoint", path=str(self.checkpoints.last))
        self.save()
        self.average = self.learner.averaged()
        yield self._event("phase", steps=state.step, seconds=state.elapsed, tried=self.tried)
        return None

    def _stream(self) -> Generator[tuple[Batch, TeacherOutput | None]]:
        """The batches from the present step on; after going back for a loss, others than before."""
        stream = self.source(derive(self.recipe.seed, "data", self.state.retries), self.state.step)
        if self.asynchronous:
            return ahead(stream)
        if self.threads > 1 and self.team.size == 1 and self.learner.asks and not self.recipe.repeatable:
            return self._asking(stream)
        return (pair for pair in stream)

    def _asking(self, stream: Stream) -> Generator[tuple[Batch, TeacherOutput | None]]:
        """The same stream; where it pays, with the answers of the teacher, asked one batch ahead."""
        first = batch, answer = next(stream)
        if answer is None and self.state.beside is None:
            began = time.perf_counter()
            self.state.beside = self._try(batch)
            self.tried = time.perf_counter() - began
            self.save()
        stream, num_threads = chain([first], stream), self.state.beside or 0
        if answer is None and 0 < num_threads < self.threads:
            stream = ahead(answered(stream, self.learner.ask), num_threads)
        yield from stream

    def _try(self, batch: Batch) -> int:
        try:
            return threads_for(partial(self.learner.ask, batch), self.learner.rehearsal(batch))
        except RuntimeError:  # the step itself copes with it or says what is wrong
            return 0

    def _quick_look(self) -> Iterator[Event]:
        """The figures of the moving average on a few images, None for one that is no number; and what is wrong."""
        self.average = self.learner.averaged()
        if not self.team.is_main_process:
            return
        with threads(self.threads), watched(self.average) as answers:
            metrics = self.task.evaluate(self.average, reference=self.reference, limit=self.task.quick_eval_images)
        figures = {key: value if math.isfinite(value) else None for key, value in metrics.items()}
        broken = {"not_finite": answers.not_finite, "answers": answers.count} if answers.not_finite else {}
        yield self._event("evaluate", **figures, **broken, seconds=self.state.elapsed)
        for line in self.signs.warnings(figures, answers, self.length.progress(self.state.step, self.state.elapsed)):
            message = text("at_step", "{phase} at step {step}: {fault}", phase=PHASES.get(self.phase, self.phase),
                           step=self.state.step, fault=line)  # fmt: skip
            yield self._event("warning", message=message)

    def _agreed(self, elapsed: float, finite: bool) -> tuple[float, bool, bool, bool]:
        """The first process's seconds; whether any is to stop, ran out of memory, or met a loss that is no number."""
        stop, exhausted = self.stopped(), self.learner.exhausted
        if self.team.size == 1:
            return elapsed, stop, exhausted, not finite
        weighted = elapsed * self.team.size if self.team.is_main_process else 0.0
        elapsed, *flags = self.team.mean([weighted, float(stop), float(exhausted), float(not finite)])
        stop, exhausted, broken = (flag > 0 for flag in flags)
        if not exhausted:
            self.learner.agree()
        return elapsed, stop, exhausted, broken

    def _gathered(self, figures: Figures) -> dict[str, float]:
        """Figures as numbers, over the whole batch of all processes."""
        return dict(zip(figures, self.team.mean(_read(list(figures.values()))), strict=True))

    def _go_back(self, figures: Figures) -> Text:
        """After a loss that is not finite: the last good state, half the learning rate, other batches."""
        at = self.state.step
        gathered = self._gathered(figures)
        names = [key for key, value in gathered.items() if not math.isfinite(value)] or \
            [text("earlier_step", "of an earlier step")]  # fmt: skip
        self.state.retries += 1
        if self.state.retries > RETRIES:
            raise UserError(text(
                "loss_not_finite",
                "the loss ({names:, }) is not finite at step {at}, after going back {retries} times with half the "
                "learning rate each time: lower stages.0.lr, or look for NaN in the images; the last good state is "
                "{last}",
                names=names, at=at, retries=RETRIES, last=str(self.checkpoints.last),
            ))  # fmt: skip
        self.restore()
        return text("went_back", "the loss ({names:, }) was not finite at step {at}: back to step {step} with the "
                    "learning rate times {times:g}", names=names, at=at, step=self.state.step,
                    times=0.5**self.state.retries)  # fmt: skip

    def _split(self) -> Text:
        """After memory did not suffice: the last good state, and steps in twice as many parts."""
        learner, images = self.learner, -(-self.recipe.batch_size // self.team.size)
        if learner.parts >= images:
            raise UserError(text("too_large", "not even one image at a time fits into the memory of {device}: take a "
                                 "smaller student or smaller images, or another --device",
                                 device=str(learner.device)))  # fmt: skip
        learner.parts = min(2 * learner.parts, images)
        self.restore()
        size = -(-images // learner.parts)
        return text("split", "{images} images at a time do not fit into the memory of {device}: back to step {step}, "
                    "and each step now takes {parts} parts of at most {size}; a step still learns from the whole batch",
                    images=images, device=str(learner.device), step=self.state.step, parts=learner.parts,
                    size=size)  # fmt: skip

    def _event(self, kind: Any, **data: Any) -> Event:
        progress = self.length.progress(self.state.step, self.state.elapsed)
        return Event(kind=kind, phase=self.phase, step=self.state.step, progress=progress, data=data)


def _read(figures: Sequence[Tensor | float]) -> list[float]:
    """Figures as numbers, fetched from their device together."""
    tensors = [figure for figure in figures if isinstance(figure, Tensor)]
    fetched = iter(torch.stack([t.double() for t in tensors]).tolist() if tensors else [])
    return [next(fetched) if isinstance(figure, Tensor) else figure for figure in figures]


def _finite(unread: Sequence[Figures]) -> bool:
    """Whether the losses of all steps are numbers, those of critics too."""
    judged = [v for figures in unread for key, v in figures.items() if key == "loss" or key.endswith("_critic")]
    return all(map(math.isfinite, _read(judged)))
