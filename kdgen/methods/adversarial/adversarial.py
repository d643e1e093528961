"""Be taken for the teacher by a critic that learns alongside."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from kdgen.methods.layer_matching import outputs
from kdgen.methods.validation import check_outputs
from kdgen.models.discriminators import (
    Discriminator,
    GanKind,
    GanLoss,
    ProjectedDiscriminator,
    known_labels,
)
from kdgen.models.model import load
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.types.arguments import Count, CountOrZero, NonNegative


@register("method")
class Adversarial(Method):
    """Look like the teacher's images to a critic that learns alongside, after Wang et al. 2018 (arXiv 1803.10750).

    The game is ``kdgen.models.discriminators.GanLoss`` with the teacher's images, resampled to the student's size, as
    the real ones. The critic looks at images (``kdgen.models.discriminators.Discriminator``) or at fixed features of
    them (``kdgen.models.discriminators.ProjectedDiscriminator``), spectrally normalised for ``hinge`` and plain for
    ``relativistic``.

    Args:
        width: of the critic's first layer.
        loss: ``hinge`` or ``relativistic``.
        penalty: weight of the critic's squared gradient, in units of images in [-1, 1]; 0 for none, which suits
            ``hinge`` alone: ``relativistic`` wants about 1.
        every: steps from one penalty to the next.
        augment: show the critic augmented images, which helps where they are few.
        projected: judge feature maps of the small net ``features32`` that ships with kdgen, not pixels.
        classes: number of classes of the labels in the batches' ``label``: the critic then judges images of a class
            (projection discriminator, Miyato & Koyama 2018, arXiv 1802.05637); 0 has no regard to labels.

    Raises:
        UserError: for numbers out of range; in ``attach`` for outputs that are not images of like channels, and for
            labels without a number of classes.
    """

    game: GanLoss

    def __init__(
        self,
        width: Count = 32,
        loss: GanKind = "hinge",
        penalty: NonNegative = 0.0,
        every: Count = 8,
        augment: bool = False,
        projected: bool = False,
        classes: CountOrZero | None = None,
    ) -> None:
        super().__init__()
        self.width, self.kind, self.projected = width, loss, projected
        self.penalty, self.every, self.augment, self.classes = penalty, every, augment, classes

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Make a critic for the student's images. Raises UserError where the outputs are no images of like channels."""
        student_out, teacher_out = outputs(student, teacher, batch)
        check_outputs("adversarial", student_out, teacher_out, images=True)
        known_labels("adversarial", batch, self.classes)
        normalized, classes = self.kind == "hinge", self.classes or 0
        critic: nn.Module
        if self.projected:
            critic = ProjectedDiscriminator(
                _maps(student_out), student_out, self.width, normalized=normalized, classes=classes
            )
        else:
            size = (student_out.shape[2], student_out.shape[3])
            critic = Discriminator(student_out.shape[1], size, self.width, normalized=normalized, classes=classes)
        game = GanLoss(critic, loss=self.kind, penalty=self.penalty, every=self.every, augment=self.augment)
        self.game = game.to(student_out.device)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """What the student wants small: ``(B,)``, below zero where the critic of ``hinge`` is taken in."""
        return self.game.student_loss(inputs.student, inputs.teacher, self._label(inputs))

    def discriminator_loss(self, inputs: DistillationInputs) -> Tensor:
        """What the critic wants small, ``(B,)``."""
        return self.game.discriminator_loss(inputs.student, inputs.teacher, self._label(inputs))

    def critics(self) -> Iterator[nn.Parameter]:
        """The critic's parameters; those of the feature net are fixed."""
        return self.game.learning()

    def _label(self, inputs: DistillationInputs) -> Tensor | None:
        return known_labels("adversarial", inputs.batch, self.classes)


def _maps(images: Tensor) -> Callable[[Tensor], Sequence[Tensor]]:
    """The feature maps of ``features32``, where the images are; grey ones are repeated to three channels."""
    net: Any = load("features32").net.requires_grad_(False).eval().to(images.device)
    return lambda x: net.maps(x.expand(-1, 3, -1, -1))
