"""What learns in a phase, a student and what learns beside it, and how it takes one step. The only optimiser code."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import Tensor, nn
from torch.autograd import backward

from kdgen.models.adapters.recompute import recompute_blocks
from kdgen.models.nets.fold import copied
from kdgen.recipe import Recipe
from kdgen.training.loss import make_losses
from kdgen.training.masters import Masters
from kdgen.training.optimizers import MovingAverage, Optimizer, discriminator_optimizer, int8_adamw, set_rate
from kdgen.training.schedule import learning_rate, stage_at
from kdgen.training.slices import (
    Whole,
    backward_past,
    check_sliceable,
    held_state,
    load_held_state,
    out_of_memory,
    sliced,
)
from kdgen.training.teacher import Teacher
from kdgen.types import Batch, DistillationInputs, LossInputs, Net, Task, TeacherOutput, UserError
from kdgen.utils.conditions import call, read_of
from kdgen.utils.devices import Autocast, lay_out
from kdgen.utils.distributed import Team
from kdgen.utils.hooks import capture_outputs, last_weights
from kdgen.utils.seed import derive

Figures = Mapping[str, Tensor | float]
"""The terms of the loss, detached, alpha and the learning rate."""


class Learner:
    """A student, the loss of its present stage, their optimisers and the moving average.

    A step whose batch does not fit into memory can be taken in ``parts``: their gradients are summed before the
    optimisers step. Since losses are means over examples, that gives the same step, but for what looks at a batch as a
    whole: the statistics of batch norm, a critic's spread over the batch, and noise that a method draws for itself. In
    a team each process takes its slice in the same way, and the gradients are averaged.

    Args:
        recipe: what to do.
        task: its own loss.
        student: the net to train; changed in place.
        teacher: who is imitated, or None.
        probe: a batch to probe shapes on.
        device: where to train.
        dtype: what the student computes in, under autocast unless float32.
        team: the processes that share each batch.

    Attributes:
        losses: those of all stages.
        stage: number of the present stage, -1 before the first.
        parts: how many parts this process takes its share of a batch in.
        exhausted: whether a step failed for want of memory since the last ``load_state_dict``.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        task: Task,
        student: Net,
        teacher: Teacher | None,
        probe: Batch,
        device: torch.device,
        dtype: torch.dtype,
        team: Team,
    ) -> None:
        self.recipe, self.task, self.teacher, self.device, self.team = recipe, task, teacher, device, team
        memory = recipe.memory
        dtype = torch.bfloat16 if memory.weights == "bfloat16" else dtype
        student = student.to(device).train()
        self.student = student if recipe.shard_student else lay_out(student, dtype)
        self.autocast = Autocast(self.student, device, dtype)
        self.probe = probe.to(device)
        self.losses = make_losses(recipe, task, self.student, teacher.net if teacher else None, self.probe)
        terms = {key: term for loss in self.losses for key, term in loss.own.items()}
        self.module = nn.ModuleDict({key.replace(".", "/"): term for key, term in terms.items()}).to(device)
        self.whole: Whole | None = None
        if recipe.shard_student:
            check_sliceable(self.student, self.losses)
            self.whole = sliced(self.student, team)
        self.average = MovingAverage(self.student, recipe.ema, average=self.whole.net if self.whole else None)
        self.masters = Masters(self.student, getattr(torch, memory.weights))
        if memory.checkpointing:
            recompute_blocks(self.student)
        self.int8 = memory.optimizer_states == "int8"
        if self.int8:
            int8_adamw()
        self.stage, self.parts, self.exhausted = -1, 1, False
        self.optimizer: Optimizer | None = None
        self.critics: torch.optim.Optimizer | None = None
        self._shown: dict[str, Tensor | float] = {}

    def averaged(self) -> Net:
        """The moving average of the student; where it lies in slices, put together in the first process by all."""
        return self.average.net if self.whole is None else self.whole.gathered()

    @property
    def teacher_paths(self) -> set[str]:
        """The teacher's layers that the methods of all stages want, those with no weight too."""
        return {path for loss in self.losses for path in loss.all_teacher_paths}

    @property
    def reads_outputs(self) -> bool:
        """Whether some stage reads what the teacher gives, and none what its layers give."""
        return any("teacher" in loss.reads for loss in self.losses) and not self.teacher_paths

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        assert self.optimizer is not None
        return {
            "stage": self.stage, "parts": self.parts, "statistics": self.loss.statistics.state_dict(),
            "dtype": str(self.autocast.dtype).removeprefix("torch."),
            "processes": self.team.size if self.whole else 1,
            "student": held_state(self.student), "masters": self.masters.state_dict(),
            "average": self.average.state_dict(),
            "methods": self.module.state_dict(), "optimizer": self.optimizer.state_dict(),
            "critics": self.critics.state_dict() if self.critics else None,
        }  # fmt: skip

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from what ``state_dict`` gave."""
        self.autocast.dtype = getattr(torch, saved["dtype"])
        load_held_state(self.student, saved["student"])
        self.masters.load_state_dict(saved.get("masters", ()))
        self.average.load_state_dict(saved["average"])
        self.module.load_state_dict(saved["methods"])
        self.enter(saved["stage"])
        self.loss.statistics.load_state_dict(saved["statistics"])
        assert self.optimizer is not None
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.critics is not None:
            self.critics.load_state_dict(saved["critics"])
        self.parts, self.exhausted = max(self.parts, saved.get("parts", 1)), False

    def enter(self, index: int) -> None:
        """Begin a stage: its loss, and new optimisers over the student, the loss's regressors and its critics."""
        stage = self.recipe.stages[index]
        self.stage, self._shown = index, {}
        self.loss = self.losses[index]
        x, cond = self.probe.x, read_of(self.student, self.probe.cond)
        with self.autocast.computing():
            self.loss.begin(
                last_weights(self.student, x, cond, self.loss.student_paths) if self.loss.ratio.adaptive else ()
            )
            last = last_weights(self.student, x, cond) if stage.optimizer == "muon" else []
        self.optimizer = Optimizer(stage, self.student, self.loss.regressors, last, masters=self.masters,
                                   int8=self.int8)  # fmt: skip
        critics, rate = self.loss.critics, stage.discriminator_lr
        self.critics = discriminator_optimizer(critics, rate, int8=self.int8) if critics else None

    def step(
        self, batch: Batch, answer: TeacherOutput | None, *, number: int, progress: float, retries: int
    ) -> Figures:
        """One step of all optimisers.

        Args:
            batch: of all processes.
            answer: of the teacher to it, where there is one already.
            number: of the step, for its randomness and for ratios that measure every few steps.
            progress: of the phase, in [0, 1].
            retries: how often the phase went back; each halves the learning rates.

        Returns:
            the figures of this process's share, of each term as it was computed last in this stage; empty where memory
            did not suffice: then ``exhausted`` is set, and what was learnt since the last state is not to be kept.
        """
        index, within = stage_at(self.recipe.stages, progress)
        if index != self.stage:
            self.enter(index)
        assert self.optimizer is not None
        stage, team = self.recipe.stages[index], self.team
        rate = learning_rate(stage, within) * 0.5**retries
        _seed(derive(self.recipe.seed, "step", retries, number, *([team.rank] if team.rank else [])), self.device)
        size = len(batch.x)
        batch = batch.split(team.size)[team.rank].to(self.device)
        answer = answer.split(team.size)[team.rank] if answer is not None else None
        figures: dict[str, Tensor | float] = {}
        try:
            figures = self._learn(batch, answer, size=size, number=number, within=within, progress=progress)
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            if self.whole is not None:
                raise UserError(out_of_memory(len(batch.x), self.device)) from None
            self.exhausted = True
        if self.exhausted:
            self.optimizer.drop_gradients()
            if self.critics is not None:
                self.critics.zero_grad()
            clear_device_cache(garbage_collection=True)
            if team.size == 1:
                return {}
        team.average_gradients(self.optimizer.parameters)
        if "loss" in figures:
            if stage.clip:
                team.clip_gradients(self.optimizer.parameters, stage.clip)
            self.optimizer.step(rate)
            self.average.update()
        if self.critics is not None:
            team.average_gradients(self.loss.critics)
            set_rate(self.critics, stage.discriminator_lr * rate / stage.lr)
            self.critics.step()
            self.critics.zero_grad()
        self._shown |= figures
        return {**self._shown, "lr": rate}

    def _learn(
        self, batch: Batch, answer: TeacherOutput | None, *, size: int, number: int, within: float, progress: float
    ) -> dict[str, Tensor | float]:
        """The gradients of this process's share of a batch of ``size`` images, and the means of its losses.

        There is no ``loss`` among these where the student is not to learn from this step.
        """
        assert self.optimizer is not None
        answers = [None] * self.parts if answer is None else answer.split(self.parts)
        counters = [buffer for buffer in self.module.buffers() if not buffer.is_floating_point()]
        before = [counter.clone() for counter in counters] if self.parts > 1 else []
        totals: dict[str, Tensor | float] = {}
        alpha = 0.0
        for part, (piece, cached) in enumerate(zip(batch.split(self.parts), answers, strict=True)):
            for counter, count in zip(counters, before, strict=False) if part else ():
                counter.copy_(count)  # what counts steps counts this one once
            share = len(piece.x) * self.team.size / size
            inputs = self._look(piece, self._answer(piece, cached), progress)
            loss, shown, alpha = self.loss(inputs, within, number, measure=part == 0)
            if loss is not None:
                if self.whole is None:
                    backward(_scaled(loss, share), inputs=self.optimizer.parameters)
                else:
                    backward_past(self.loss.critics, _scaled(loss, share))
                shown = {"loss": loss, **shown}
            if criticism := self.loss.discriminator_losses(inputs, alpha):
                backward(_scaled(torch.stack(list(criticism.values())).sum(), share), inputs=self.loss.critics)
                shown |= criticism
            for key, term in shown.items():
                totals[key] = totals.get(key, 0.0) + _scaled(term.detach(), share)
        return {**totals, "alpha": alpha}

    def agree(self) -> None:
        """Take the mean over the team of the gradient norms that an adaptive ratio measured."""
        norms = self.loss.statistics.norms
        if self.loss.ratio.adaptive:
            self.loss.statistics.settle(dict(zip(norms, self.team.mean(list(norms.values())), strict=True)))

    @property
    def asks(self) -> bool:
        """Whether the present stage reads what the teacher answers to a batch, beside what the student does."""
        loss = self.loss
        return bool(self.teacher and loss.methods and ("teacher" in loss.reads or loss.teacher_paths))

    def ask(self, batch: Batch) -> TeacherOutput | None:
        """The teacher's answer to a batch as the present stage reads it, if it does."""
        return self._answer(batch, None)

    def rehearsal(self, batch: Batch) -> Callable[[], None]:
        """What runs a copy of the student forward and backward on a batch, to no effect."""
        student = copied(self.autocast)
        return lambda: backward(call(student, batch.x, batch.cond).square().mean())

    def _answer(self, batch: Batch, answer: TeacherOutput | None) -> TeacherOutput | None:
        """The teacher's output for a batch where that is read, cached or asked for."""
        if self.teacher is None or not self.asks:
            return None
        return self.teacher.answer(batch, self.loss.teacher_paths, cached=answer)

    def _look(self, batch: Batch, answer: TeacherOutput | None, progress: float) -> LossInputs:
        """The student's answer as the terms of the loss see it, beside the teacher's, each where it is read."""
        with capture_outputs(self.student, self.loss.student_paths) as outputs:
            out = call(self.autocast, batch.x, batch.cond) if "student" in self.loss.reads else None
        if self.teacher is None:
            return LossInputs(
                batch=batch, student_output=out, student_features=outputs, student_net=self.autocast, progress=progress,
            )  # fmt: skip
        return DistillationInputs(
            batch=batch, student_output=out, teacher_output=answer.output if answer else None, student_features=outputs,
            teacher_features=answer.features if answer else {}, student_net=self.autocast, teacher_net=self.teacher,
            student_ema=self.average.net, progress=progress,
        )  # fmt: skip


def _seed(seed: int, device: torch.device) -> None:
    """Seed what the nets draw from; ``torch.manual_seed`` notes a traceback for each kind of device that is unused."""
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def _scaled(loss: Tensor, share: float) -> Tensor:
    return loss if share == 1 else share * loss
