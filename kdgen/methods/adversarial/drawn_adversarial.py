"""Be taken for the data when drawn in a few steps, by a critic that learns alongside."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from kdgen.diffusion.few_steps import ImageSampler, Table, trailing_sigmas
from kdgen.methods.few_step.rollout import backward_simulation, check_diffusion, conditions
from kdgen.models.discriminators import Discriminator, GanKind, GanLoss
from kdgen.models.sampling import few_levels
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.types.arguments import Count, NonNegative


@register("method")
class DrawnAdversarial(Method):
    """A GAN of the student's own images, as drawn in ``steps`` calls, against the clean images of the batch.

    With teacher's samples as images, this beside ``rectified_flow`` of one step (adversarial and output) is the plain
    way to few steps that others must beat. The game is ``kdgen.models.discriminators.GanLoss``, the images come by
    backward simulation (Yin et al. 2024, arXiv 2405.14867, section 4.5).

    With ``hinge`` the loss lives between -1 and 1 and the critic's near 2 where neither wins; a critic near 0 has won.

    Args:
        steps: calls that make an image.
        sampler: ``consistency`` or ``euler``.
        table: of the student's noise levels, ``linear``, ``cosine`` or ``karras``.
        width: of the critic's first layer.
        loss: ``hinge`` or ``relativistic``.
        penalty: weight of the critic's squared gradient; ``relativistic`` wants about 1.
        every: steps from one penalty to the next.
        augment: show the critic augmented images.

    Raises:
        UserError: for arguments that do not fit; in ``attach`` where batches have no noise level or no clean images.
    """

    game: GanLoss

    reads = frozenset()
    lives = (-1.0, 1.0)

    def __init__(
        self,
        steps: Count = 1,
        sampler: ImageSampler = "consistency",
        table: Table = "linear",
        width: Count = 32,
        loss: GanKind = "hinge",
        penalty: NonNegative = 0.0,
        every: Count = 8,
        augment: bool = False,
    ) -> None:
        super().__init__()
        self.sigmas, self.sampler, self.width, self.kind = trailing_sigmas(steps, table), sampler, width, loss
        self.steps, self.table = steps, table
        self.penalty, self.every, self.augment = penalty, every, augment
        self._made: Tensor | None = None

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Make the critic. Raises UserError where batches have no noise level or no clean images."""
        check_diffusion("drawn_adversarial", student, teacher, batch)
        self.sigmas = few_levels(student, self.steps, self.table)
        height, width = batch.x.shape[2:]
        critic = Discriminator(batch.x.shape[1], (height, width), self.width, normalized=self.kind == "hinge")
        game = GanLoss(critic, loss=self.kind, penalty=self.penalty, every=self.every, augment=self.augment)
        self.game = game.to(batch.x.device)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """What the student wants small, ``(B,)``; draws from the global generator."""
        assert inputs.batch.y is not None
        x, _ = backward_simulation(
            inputs.student_net, inputs.batch.x, conditions(inputs.batch), self.sigmas, self.sampler
        )
        self._made = x.detach()
        return self.game.student_loss(x, inputs.batch.y)

    def discriminator_loss(self, inputs: DistillationInputs) -> Tensor:
        """What the critic wants small, ``(B,)``."""
        assert inputs.batch.y is not None
        x, self._made = self._made, None
        if x is None:
            with torch.no_grad():
                x, _ = backward_simulation(
                    inputs.student_net, inputs.batch.x, conditions(inputs.batch), self.sigmas, self.sampler
                )
        return self.game.discriminator_loss(x, inputs.batch.y)

    def critics(self) -> Iterator[nn.Parameter]:
        """The critic's parameters."""
        return self.game.learning()
