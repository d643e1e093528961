"""The one training loop: ``fit`` trains a net by a recipe and yields events. The only optimiser code."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim.swa_utils import AveragedModel

from kdgen.answers import Stream, Teacher
from kdgen.checkpoint import Checkpoints
from kdgen.data.seed import derive
from kdgen.devices import Autocast, channels_last
from kdgen.loss import Loss, make_terms
from kdgen.optimizers import Optimizer, critic_optimizer, moving_average
from kdgen.recipe import Recipe
from kdgen.schedule import Length, learning_rate, stage_at
from kdgen.taps import taps
from kdgen.types import Answer, Batch, Event, Metrics, Net, Sight, Task, UserError, View

RETRIES = 3
REPORT_EVERY = 0.25

Source = Callable[[int, int], Stream]
"""Batches with their answers, called with a seed and the number of the first batch."""


@dataclass(slots=True)
class State:
    """What changes while a leg is trained, beside the nets."""

    step: int = 0
    elapsed: float = 0.0
    stage: int = -1
    retries: int = 0


class Trainer:
    """One leg: a student, perhaps a teacher, and a source of batches.

    Args:
        recipe: what to do.
        leg: the name its events carry.
        checkpoints: where its states are kept.
        task: its own loss and its measure.
        student: the net to train; changed in place.
        teacher: who is imitated, or None.
        source: batches with the teacher's answers; where an answer or a tap is missing, the teacher is asked.
        probe: a batch to probe shapes on.
        length: in steps or seconds.
        device: where to train.
        dtype: what the student computes in, under autocast unless float32.
        reference: the teacher as it is measured against in quick evaluations, or None.
        stopped: asked at every step whether to save and leave.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        leg: str,
        checkpoints: Checkpoints,
        task: Task,
        student: Net,
        teacher: Teacher | None,
        source: Source,
        probe: Batch,
        length: Length,
        device: torch.device,
        dtype: torch.dtype,
        reference: Net | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.recipe, self.leg, self.checkpoints, self.task = recipe, leg, checkpoints, task
        self.teacher, self.source, self.length, self.stopped = teacher, source, length, stopped
        self.device, self.reference = device, reference
        self.accelerator = Accelerator(cpu=device.type == "cpu")
        self.student = channels_last(student.to(device)).train()
        self.autocast = Autocast(self.student, device, dtype)
        self.terms = make_terms(recipe, self.student, teacher.net if teacher else None, probe.to(device))
        self.module = nn.ModuleDict({key.replace(".", "/"): m for key, m in self.terms.items()}).to(device)
        self.ema = AveragedModel(self.student, multi_avg_fn=moving_average(recipe.ema), use_buffers=True)
        self.state = State()
        self.optimizer: Optimizer | None = None
        self.critics: torch.optim.Optimizer | None = None

    # -- state ---------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint of everything that a resumed run needs."""
        assert self.optimizer is not None
        s = self.state
        self.checkpoints.save(
            {
                "step": s.step, "elapsed": s.elapsed, "stage": s.stage, "retries": s.retries,
                "statistics": self.loss.statistics.state_dict(),
                "dtype": str(self.autocast.dtype).removeprefix("torch."),
                "student": self.student.state_dict(), "ema": self.ema.state_dict(),
                "methods": self.module.state_dict(), "optimizer": self.optimizer.state_dict(),
                "critics": self.critics.state_dict() if self.critics else None,
            }
        )  # fmt: skip

    def restore(self) -> list[str]:
        """Go back to the last good checkpoint, if there is one; a line for every damaged one."""
        saved, damaged = self.checkpoints.load()
        if saved is not None:
            retries = max(self.state.retries, saved["retries"])
            self.state = State(step=saved["step"], elapsed=saved["elapsed"], stage=saved["stage"], retries=retries)
            self.autocast.dtype = getattr(torch, saved["dtype"])
            self.student.load_state_dict(saved["student"])
            self.ema.load_state_dict(saved["ema"])
            self.module.load_state_dict(saved["methods"])
            self._enter(saved["stage"])
            self.loss.statistics.load_state_dict(saved["statistics"])
            assert self.optimizer is not None
            self.optimizer.load_state_dict(saved["optimizer"])
            if self.critics is not None:
                self.critics.load_state_dict(saved["critics"])
        return damaged

    def _enter(self, index: int) -> None:
        """Begin a stage: its loss, and new optimisers over the student, the loss's regressors and its critics."""
        stage = self.recipe.stages[index]
        self.state.stage = index
        self.loss = Loss(index, stage, self.terms, self.task)
        self.optimizer = Optimizer(stage, self.student, self.loss.regressors)
        self.critics = critic_optimizer(self.loss.critics, stage.critic_lr) if self.loss.critics else None

    # -- one step ------------------------------------------------------------------------------------------------

    def _answer(self, batch: Batch, answer: Answer | None) -> Answer | None:
        if self.teacher is None or not self.loss.methods:
            return None
        if "teacher" not in self.loss.reads and not self.loss.teacher_paths:
            return Answer(output=batch.x)
        if answer is None or not self.loss.teacher_paths <= answer.taps.keys():
            return self.teacher.answer(batch, tuple(self.loss.teacher_paths))
        seen = {path: t.to(self.device) for path, t in answer.taps.items()}
        return Answer(output=answer.output.to(self.device), taps=seen)

    def _look(self, batch: Batch, answer: Answer | None, progress: float) -> Sight:
        """The student's answer as the terms of the loss see it, beside the teacher's where it has one."""
        with taps(self.student, self.loss.student_paths) as seen:
            out: Tensor = self.autocast(batch.x, **batch.cond) if "student" in self.loss.reads else batch.x
        if answer is None:
            return Sight(
                batch=batch, student=out, student_taps=seen, student_net=self.autocast, progress=progress,
            )  # fmt: skip
        assert self.teacher is not None
        return View(
            batch=batch, student=out, teacher=answer.output, student_taps=seen, teacher_taps=answer.taps,
            student_net=self.autocast, teacher_net=self.teacher, student_ema=self.ema.module, progress=progress,
        )  # fmt: skip

    def _teach_critics(self, sight: Sight, rate: float) -> dict[str, Tensor]:
        """One step of the critics on what the student just gave; their losses."""
        if self.critics is None:
            return {}
        losses = self.loss.of_critics(sight)
        self.critics.zero_grad()
        self.accelerator.backward(torch.stack(list(losses.values())).sum())
        for group in self.critics.param_groups:
            group["lr"] = rate
        self.critics.step()
        return losses

    def step(self, batch: Batch, answer: Answer | None) -> dict[str, Tensor | float]:
        """One optimiser step; the terms of the loss, detached, and the learning rate."""
        state, recipe = self.state, self.recipe
        progress = self.length.progress(state.step, state.elapsed)
        index, within = stage_at(recipe.stages, progress)
        if index != state.stage:
            self._enter(index)
        assert self.optimizer is not None
        stage = recipe.stages[index]
        rate = learning_rate(stage, within) * 0.5**state.retries
        torch.manual_seed(derive(recipe.seed, "step", state.retries, state.step))
        batch = batch.to(self.device)
        sight = self._look(batch, self._answer(batch, answer), progress)
        loss, terms, alpha = self.loss(sight, within, state.step)
        self.accelerator.backward(loss)
        if stage.clip:
            clip_grad_norm_(self.optimizer.parameters, stage.clip)
        self.optimizer.step(rate)
        criticism = self._teach_critics(sight, stage.critic_lr * rate / stage.lr)
        self.ema.update_parameters(self.student)
        state.step += 1
        shown = {"loss": loss, **terms, **criticism}
        return {**{key: term.detach() for key, term in shown.items()}, "alpha": alpha, "lr": rate}

    # -- the loop ------------------------------------------------------------------------------------------------

    def fit(self) -> Iterator[Event]:
        """Train to the end, or until told to stop. Quick evaluations take none of the leg's seconds.

        Yields:
            step, evaluate, checkpoint and warning events, then ``leg`` at the end, or ``stopped``.

        Raises:
            UserError: when the loss is still not finite after going back three times.
        """
        for line in self.restore():
            yield self._event("warning", message=line)
        if self.optimizer is None:
            self._enter(0)
            self.save()
        state, recipe = self.state, self.recipe
        stream = self._stream()
        clock = time.perf_counter()
        started, reported = clock - state.elapsed, clock
        evaluated = saved = clock
        images = 0
        while (progress := self.length.progress(state.step, state.elapsed)) < 1:
            figures = self.step(*next(stream))
            images += recipe.batch_size
            if not self._finite(figures):
                yield from self._go_back(figures)
                state, stream = self.state, self._stream()
                clock = time.perf_counter()
                started, reported, images = clock - state.elapsed, clock, 0
                continue
            clock = time.perf_counter()
            state.elapsed = clock - started
            if clock - reported >= REPORT_EVERY:
                left = state.elapsed * (1 / max(progress, 1e-6) - 1)
                yield self._event("step", **{k: float(v) for k, v in figures.items()}, seconds_left=left,
                                  images_per_second=images / (clock - reported), seconds=state.elapsed)  # fmt: skip
                reported, images = clock, 0
            if clock - evaluated >= recipe.evaluate_every:
                yield self._event("evaluate", **self._quick_look(), seconds=state.elapsed)
                evaluated = time.perf_counter()
                started, reported = started + evaluated - clock, reported + evaluated - clock
            if self.stopped():
                self.save()
                yield self._event("stopped", reason="asked to stop")
                return
            if clock - saved >= recipe.checkpoint_every:
                self.save()
                saved = time.perf_counter()
                yield self._event("checkpoint", path=str(self.checkpoints.last))
        self.save()
        yield self._event("leg", steps=state.step, seconds=state.elapsed)

    def _quick_look(self) -> Metrics:
        """The figures of the moving average on a few images."""
        return self.task.evaluate(self.ema.module, reference=self.reference, limit=self.task.quick)

    def _stream(self) -> Stream:
        """The batches from the present step on; after going back, others than before."""
        return self.source(derive(self.recipe.seed, "data", self.state.retries), self.state.step)

    @staticmethod
    def _finite(figures: Mapping[str, Tensor | float]) -> bool:
        """Whether the loss is a number, and those of the critics are."""
        judged = [value for key, value in figures.items() if key == "loss" or key.endswith("_critic")]
        return all(math.isfinite(float(value)) for value in judged)

    def _go_back(self, figures: Mapping[str, Tensor | float]) -> Iterator[Event]:
        """After a loss that is not finite: the last good state, half the learning rate, other batches."""
        at = self.state.step
        names = ", ".join(key for key, value in figures.items() if not math.isfinite(float(value)))
        self.state.retries += 1
        if self.state.retries > RETRIES:
            raise UserError(
                f"the loss ({names}) is not finite at step {at}, after going back {RETRIES} times with half the "
                "learning rate each time: lower stages.0.lr, or look for NaN in the images; "
                f"the last good state is {self.checkpoints.last}"
            )
        self.restore()
        message = (f"the loss ({names}) was not finite at step {at}: back to step {self.state.step} "
                   f"with the learning rate times {0.5**self.state.retries:g}")  # fmt: skip
        yield self._event("warning", message=message)

    def _event(self, kind: Any, **data: Any) -> Event:
        progress = self.length.progress(self.state.step, self.state.elapsed)
        return Event(kind=kind, leg=self.leg, step=self.state.step, progress=progress, data=data)
