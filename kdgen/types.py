"""The data that flows between layers, and the legend of dimensions.

Dimension legend, used by every docstring of the package:

====  ==========================================================
B     batch
C     channels (1 grey, 3 colour)
H, W  height and width in pixels
K     classes
====  ==========================================================

Images are float tensors ``(B, C, H, W)`` in [-1, 1]. Noise levels called ``sigma`` in a recipe or on the command
line are standard deviations in 8-bit units (0 to 255); in ``Batch.cond`` they are in units of the image range,
that is ``2 * sigma / 255``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from pydantic import JsonValue
from torch import Tensor, device, nn

Metrics = Mapping[str, float]
"""Figures by name: ``psnr`` in dB, ``ssim`` in [-1, 1], ``sharpness`` as a ratio to the truth's."""

Net = nn.Module
"""A module called as ``net(x, **cond) -> image (B, C, H, W) in [-1, 1]``; it ignores conditions it has no use for."""


class UserError(ValueError):
    """A mistake the user can mend. Its message is one line that says what to do; the command line exits with 2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One batch of a task.

    Attributes:
        x: what the student sees, ``(B, C, H, W)`` in [-1, 1] before noise.
        teacher_x: what the teacher sees, where it differs: a cleaner, larger or other-modality view.
        y: the ground truth, ``(B, C, H, W)`` in [-1, 1], where there is any.
        cond: conditions for both nets by keyword, each ``(B, ...)``: ``sigma``, ``label``, ``mask``.
    """

    x: Tensor
    teacher_x: Tensor | None = None
    y: Tensor | None = None
    cond: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, where: device) -> "Batch":
        """The same batch on another device."""

        def move(t: Tensor | None) -> Tensor | None:
            return None if t is None else t.to(where, non_blocking=True)

        cond = {k: v.to(where, non_blocking=True) for k, v in self.cond.items()}
        return Batch(x=self.x.to(where, non_blocking=True), teacher_x=move(self.teacher_x), y=move(self.y), cond=cond)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the teacher said to a batch: its output ``(B, C, H, W)``, and its taps by dotted path where asked for."""

    output: Tensor
    taps: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One training step as a method sees it.

    Tensors are float32 on the training device except taps, which keep the dtype the nets compute in.

    Attributes:
        batch: the inputs and, where there is any, the ground truth.
        student, teacher: the two outputs, ``(B, C, H, W)``; ``teacher`` carries no gradient.
        student_taps, teacher_taps: intermediate outputs by dotted path, those that some method asked for.
        student_net, teacher_net: the nets themselves, for Jacobians, trajectories and inputs of a method's own.
        student_ema: the moving average of the student.
        progress: the share of the run that is done, in [0, 1].
    """

    batch: Batch
    student: Tensor
    teacher: Tensor
    student_taps: Mapping[str, Tensor]
    teacher_taps: Mapping[str, Tensor]
    student_net: Net
    teacher_net: Net
    student_ema: Net
    progress: float = 0.0


class Task(Protocol):
    """Where batches come from, what the ground truth is, how a result is measured."""

    channels: int

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches on the CPU. Batch number ``start + i`` depends on ``seed`` and its number alone."""
        ...

    def renewed(self, batch: Batch, *, seed: int) -> Batch:
        """The same ground truth with the task's own randomness drawn anew: fresh noise, say."""
        ...

    def fingerprint(self) -> str:
        """Changes whenever the task's batches would: the arguments, and the files behind them."""
        ...

    def describe(self) -> Mapping[str, JsonValue]:
        """What a published model says of the task it was made for."""
        ...

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """The task's own loss per image, ``(B,)``; None where there is no ground truth: alpha is then 1."""
        ...

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        """The evaluation images by name, each a batch of one with its truth; the first ``limit`` if given."""
        ...

    def evaluate(self, net: Net, *, seed: int = 0, limit: int | None = None) -> Metrics:
        """Quality of a net on the task's evaluation images, the first ``limit`` of them if given."""
        ...


class Method(nn.Module):
    """One way to move knowledge. It owns its regressors, which never ship with the student.

    Attributes:
        student_taps, teacher_taps: dotted paths of the modules whose outputs the method wants in its ``View``.
    """

    student_taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the taps and make the regressors for this pair of nets, probing shapes on ``batch``. Called once.

        Raises:
            UserError: for a tap that a net does not have.
        """

    def loss(self, view: View) -> Tensor:
        """The transfer loss per image, ``(B,)``, float32."""
        raise NotImplementedError


Kind = Literal["start", "answers", "step", "evaluate", "checkpoint", "warning", "leg", "report", "stopped", "done"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a run; the stream of them is all that the command line and the app see.

    Attributes:
        kind: ``start`` and ``leg`` open and close a leg; ``answers`` counts the teacher's cached answers; ``step``,
            ``evaluate``, ``checkpoint`` and ``warning`` come from the training loop; ``report``, ``stopped`` and
            ``done`` end a run.
        leg: which net is being trained: ``student``, ``control_steps``, ``control_seconds``.
        step: optimiser steps done in this leg.
        progress: share of the leg that is done, in [0, 1].
        data: figures of this kind of event, all JSON values.
    """

    kind: Kind
    leg: str = "student"
    step: int = 0
    progress: float = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)
