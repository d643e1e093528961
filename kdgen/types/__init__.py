"""The data that flows between layers, and the legend of dimensions.

Dimension legend, used by every docstring of the package:

====  ==========================================================
B     batch
C     channels (1 grey, 3 colour, or as many as a sensor gives)
H, W  height and width in pixels
K     classes
Z     size of a latent
D     size of a feature vector
====  ==========================================================

Images are float tensors ``(B, C, H, W)`` in [-1, 1]. Noise levels called ``sigma`` in a recipe or on the command
line are standard deviations in 8-bit units (0 to 255); in ``Batch.cond`` they are in units of the image range,
that is ``2 * sigma / 255``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from kdgen.types.batch import Batch as Batch
from kdgen.types.task import DEFAULT_TASK as DEFAULT_TASK
from kdgen.types.task import Task as Task
from kdgen.types.text import Text as Text
from kdgen.types.text import text as text

Metrics = Mapping[str, float]
"""Figures by name: ``psnr`` in dB, ``ssim`` in [-1, 1], ``sharpness`` as a ratio to the truth's, and so on."""

Both = tuple[Metrics, Metrics]
"""Figures of a net and of what was made of it, by the same names."""

Net = nn.Module
"""A module called as ``net(x, **cond)`` with the conditions that it reads, and those alone.

It declares these in ``conditions: frozenset[str]``, else they are what its ``forward`` names behind ``x``. To leave one
unread that a task, method or sampler needs is an error; ``kdgen.utils.conditions.call`` leaves out what is merely
offered.

A restorer maps an image to an image, a generator latents ``(B, Z)`` to images, a diffusion model a noisy image and its
``sigma`` to the denoised image, an encoder an image to latents, a classifier an image to logits ``(B, K)``.
"""


ROLE_WORDS = {"student": text("role_student", "student"), "teacher": text("role_teacher", "teacher")}
"""The two nets that a method moves knowledge between, in words."""


class UserError(ValueError):
    """A mistake the user can mend. Its message is one line that says what to do; the command line exits with 2."""

    @property
    def text(self) -> Text:
        """The message, with its key and figures where it was made with them."""
        message = self.args[0] if self.args else ""
        return message if isinstance(message, Text) else Text(str(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherOutput:
    """What the teacher says to a batch: its output ``(B, C, H, W)``, and its features by dotted path if asked for."""

    output: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)

    def split(self, parts: int) -> "list[TeacherOutput]":
        """The answers to the batch's parts, as ``Batch.split`` makes them."""
        pieces = {path: value.tensor_split(parts) for path, value in self.features.items()}
        outputs = self.output.tensor_split(parts)
        return [
            TeacherOutput(output=out, features={k: v[i] for k, v in pieces.items()}) for i, out in enumerate(outputs)
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossInputs:
    """One training step as the student's own objective sees it.

    Tensors are float32 on the training device except features, which keep the dtype the nets compute in. What no term
    of the stage reads is not computed, and is absent.

    Attributes:
        batch: the inputs and, where there are any, the ground truth and images of the data.
        student_output: what the student gives, ``(B, C, H, W)``, or None where it was not asked; see ``student``.
        student_features: intermediate outputs by dotted path, those that some term of the loss asked for.
        student_net: the net itself, for inputs of a term's own.
        progress: the share of the run that is done, in [0, 1].
    """

    batch: Batch
    student_output: Tensor | None = None
    student_features: Mapping[str, Tensor]
    student_net: Net
    progress: float = 0.0

    @property
    def student(self) -> Tensor:
        """The student's output, ``(B, C, H, W)``. Raises UserError where it was not computed."""
        return _computed("student", self.student_output)


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillationInputs(LossInputs):
    """One training step as a method sees it: ``LossInputs``, and the teacher.

    Attributes:
        teacher_output: what the teacher says, ``(B, C, H, W)``, without gradient, or None where it was not asked; see
            ``teacher``.
        teacher_features: its intermediate outputs by dotted path.
        teacher_net: the net itself, for Jacobians, trajectories and inputs of a method's own.
        student_ema: the moving average of the student.
    """

    teacher_output: Tensor | None = None
    teacher_features: Mapping[str, Tensor]
    teacher_net: Net
    student_ema: Net

    @property
    def teacher(self) -> Tensor:
        """The teacher's output, ``(B, C, H, W)``, without gradient. Raises UserError where it was not computed."""
        return _computed("teacher", self.teacher_output)


def _computed(role: str, output: Tensor | None) -> Tensor:
    if output is None:
        raise UserError(text("output_not_computed", "a term of the loss reads the {role}'s output, which was not "
                             'computed, since no term names "{name}" in its `reads`: name it there',
                             role=ROLE_WORDS[role], name=role))  # fmt: skip
    return output


class LossTerm(nn.Module):
    """What methods and objectives share. They own regressors and critics, which never ship with the student.

    Attributes:
        student_layers: dotted paths of the student's modules whose outputs the term wants to see.
        lives: between what its loss normally lies during a run, for one that says little by its value; else None.
        reads: which outputs it reads of what it is shown, ``student`` and ``teacher``; what no term of a stage reads is
            not computed.
        weighted: whether a batch's weights count in its loss. They are for squared errors of outputs on the batch's own
            inputs, which grow with the square of a diffusion model's noise level; for nothing else.
    """

    student_layers: tuple[str, ...] = ()
    weighted: bool = False
    lives: tuple[float, float] | None = None
    reads: frozenset[str] = frozenset()

    def critics(self) -> Iterator[nn.Parameter]:
        """Those of its parameters that learn from ``discriminator_loss``; all others learn with the student."""
        return iter(())


class Objective(LossTerm):
    """A term of the student's own objective, beside its distance to the truth: it knows no teacher."""

    reads = frozenset({"student"})

    def attach(self, student: Net, batch: Batch) -> None:
        """Settle the layers and make what learns, probing shapes on ``batch``. Called once.

        Raises:
            UserError: for a layer that the net does not have, or a batch that lacks what the term needs.
        """

    def loss(self, inputs: LossInputs) -> Tensor | None:
        """The loss per image, ``(B,)``, float32.

        None says that the student is not to learn from this step, in which critics may catch up, say. Where all terms
        agree, nothing of the student moves: its optimiser, whose averages do not age, and its moving average rest.
        """
        raise NotImplementedError

    def discriminator_loss(self, inputs: LossInputs) -> Tensor | None:
        """The loss per image of its critics on the same step, ``(B,)``, without gradient to the student."""
        return None


class Method(LossTerm):
    """One way to move knowledge.

    Attributes:
        student_layers, teacher_layers: dotted paths of the modules whose outputs the method wants in its
            ``DistillationInputs``.
    """

    teacher_layers: tuple[str, ...] = ()
    reads = frozenset({"student", "teacher"})

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Settle the layers and make what learns for this pair of nets, probing shapes on ``batch``. Called once.

        Raises:
            UserError: for a layer that a net does not have.
        """

    def loss(self, inputs: DistillationInputs) -> Tensor | None:
        """The transfer loss per image, ``(B,)``, float32; None as for an ``Objective``."""
        raise NotImplementedError

    def discriminator_loss(self, inputs: DistillationInputs) -> Tensor | None:
        """The loss per image of its critics on the same step, ``(B,)``, without gradient to the student."""
        return None


Kind = Literal[
    "images", "start", "teacher", "answers", "part", "step", "evaluate", "checkpoint", "warning", "phase", "report",
    "stopped", "refused", "done",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened in a run; the stream of them is all that the command line and the app see.

    Attributes:
        kind: ``images`` counts those that a model draws to be trained on, before anything; ``start`` opens a run;
            ``phase`` closes a phase; ``teacher`` tells whether it was found to answer in 8-bit integers, in how many
            seconds; ``answers`` counts the teacher's cached answers; ``part`` opens one of the parts that a phase
            without steps consists of: the report, and what goes before a first step; ``step``, ``evaluate``,
            ``checkpoint`` and ``warning`` come from the training loop; ``report``, ``stopped`` and ``done`` end a run,
            and so does ``refused``, a mistake to be mended, which the command line alone tells of.
        phase: which net is being trained: ``assistant_1`` and so on, ``student``, ``control_steps``,
            ``control_seconds``; ``report`` after them.
        step: optimiser steps done in this phase.
        progress: share of the phase that is done, in [0, 1].
        data: figures of this kind of event, all JSON values.
    """

    kind: Kind
    phase: str = "student"
    step: int = 0
    progress: float = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)
