"""Be taken for the data by a critic that learns alongside."""

from collections.abc import Iterator

from torch import Tensor, nn

from kdgen.models.discriminators import Discriminator, GanKind, GanLoss, known_labels
from kdgen.objectives.probe import probe
from kdgen.registry import register
from kdgen.types import Batch, LossInputs, Net, Objective, UserError, text
from kdgen.types.arguments import Count, CountOrZero, NonNegative


@register("objective")
class Adversarial(Objective):
    """Look like real images to a critic that learns alongside: a GAN (Goodfellow et al. 2014, arXiv 1406.2661).

    The critic is a convolutional one (``kdgen.models.discriminators.Discriminator``), spectrally normalised for
    ``hinge`` and plain for ``relativistic``; the game is ``kdgen.models.discriminators.GanLoss``. Real images are the
    batch's own ``real``, else the truth ``y``; where they are of another size they are resampled to the student's.

    Args:
        width: of the critic's first layer.
        loss: ``hinge`` or ``relativistic``.
        penalty: weight of the critic's squared gradient, in units of images in [-1, 1]; 0 for none, which suits
            ``hinge`` alone: ``relativistic`` wants about 1.
        every: steps from one penalty to the next.
        augment: show the critic augmented images, which helps where data are few.
        classes: number of classes of the labels in the batches' ``label``: the critic then judges images of a class
            (projection discriminator, Miyato & Koyama 2018, arXiv 1802.05637); 0 has no regard to labels.
            Real images that are the batch's own ``real`` have no labels: then it is 0.

    Raises:
        UserError: for numbers out of range; in ``attach`` for batches without real images, and for labels without a
            number of classes.
    """

    game: GanLoss

    def __init__(
        self,
        width: Count = 32,
        loss: GanKind = "hinge",
        penalty: NonNegative = 0.0,
        every: Count = 8,
        augment: bool = False,
        classes: CountOrZero | None = None,
    ) -> None:
        super().__init__()
        self.width, self.kind = width, loss
        self.penalty, self.every, self.augment, self.classes = penalty, every, augment, classes

    def attach(self, student: Net, batch: Batch) -> None:
        """Make a critic for the student's images. Raises UserError where there are none, or no real ones."""
        out, real = probe("adversarial", student, batch), _real(batch)
        if out.shape[1] != real.shape[1]:
            raise UserError(text("adversarial_channels", "adversarial: the student's images have {student} channels, "
                                 "the real ones {real}: choose a student with {real}", student=out.shape[1],
                                 real=real.shape[1]))  # fmt: skip
        if known_labels("adversarial", batch, self.classes) is not None and batch.real is not None:
            raise UserError(text("adversarial_labels", "adversarial: the real images of this task have no labels to "
                                 "judge them by: set `classes` to 0 for a critic that has no regard to the "
                                 "class"))  # fmt: skip
        size = (out.shape[2], out.shape[3])
        critic = Discriminator(
            out.shape[1], size, self.width, normalized=self.kind == "hinge", classes=self.classes or 0
        )
        game = GanLoss(critic, loss=self.kind, penalty=self.penalty, every=self.every, augment=self.augment)
        self.game = game.to(real.device)

    def loss(self, inputs: LossInputs) -> Tensor:
        """What the student wants small: ``(B,)``, below zero where the critic of ``hinge`` is taken in."""
        return self.game.student_loss(inputs.student, _real(inputs.batch), self._label(inputs))

    def discriminator_loss(self, inputs: LossInputs) -> Tensor:
        """What the critic wants small, ``(B,)``."""
        return self.game.discriminator_loss(inputs.student, _real(inputs.batch), self._label(inputs))

    def critics(self) -> Iterator[nn.Parameter]:
        """The critic's parameters."""
        return self.game.learning()

    def _label(self, inputs: LossInputs) -> Tensor | None:
        return known_labels("adversarial", inputs.batch, self.classes)


def _real(batch: Batch) -> Tensor:
    real = batch.y if batch.real is None else batch.real
    if real is None or real.dim() != 4:
        raise UserError(text("adversarial_images", "adversarial needs real images, and this task's batches have "
                             "none: give the task images, or use the method adversarial, for which the teacher's are "
                             "the real ones"))  # fmt: skip
    return real
