"""What methods share that compare the teacher's score with that of the student's images."""

import copy
import math
from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from kdgen.diffusion import edm_weight, unguided
from kdgen.diffusion.few_steps import ImageSampler, Table, trailing_sigmas
from kdgen.methods.few_step.rollout import (
    backward_simulation,
    check_diffusion,
    computing_like,
    conditions,
    denoise,
    noised,
)
from kdgen.models.discriminators import Discriminator, GanLoss, frozen
from kdgen.models.nets.fold import copied
from kdgen.models.sampling import few_levels
from kdgen.types import Batch, DistillationInputs, Method, Net, UserError, text

Critic = Literal["teacher", "student"]
"""Whose copy the critic starts as."""

Level = Annotated[float, Field(ge=1e-6)]
"""A standard deviation in units of images in [-1, 1]."""


class Scores(Method):
    """A student that draws in ``steps`` calls, and a second diffusion net, the critic, trained on what it draws.

    A score is ``(D(x; sigma) - x) / sigma^2`` (Karras et al. 2022, eq. 3). The critic is the fake score of Yin et al.
    2024 (DMD2, arXiv 2405.14867): it starts from the teacher, or from the student where the teacher is large, and
    learns to denoise the student's images by ``discriminator_loss``, weighted as Karras et al. do. It must keep up with
    the student: two time scales are ``every``, steps of the critic for one of the student, and ``discriminator_lr`` of
    the stage. In the critic's own steps the student rests.

    Args:
        method: its name, for messages.
        steps: calls that make an image.
        table: of the student's noise levels, ``linear``, ``cosine`` or ``karras``.
        sampler: how the student draws, ``consistency`` or ``euler``.
        every: steps of the critic for one of the student.
        critic: whose copy it starts as, ``teacher`` or ``student``.
        sigma_min, sigma_max: noise levels at which scores are compared, log-uniform between them.
        shift: in place of that, of levels whose flow times are uniform, by how much these are moved towards noise: the
            level ``shift * u / (1 - u)`` (Esser et al. 2024, arXiv 2403.03206, eq. 23), cut to the same bounds.
        sigma_data: standard deviation of the data, which balances the critic's levels.
        adversarial: weight of an adversarial head, 0 for none: images of the data against the student's.
        width: of the head's first layer.

    Raises:
        UserError: for arguments that do not fit.
    """

    fake: nn.Module

    reads = frozenset()

    def __init__(
        self,
        method: str,
        *,
        steps: int,
        table: Table,
        sampler: ImageSampler,
        every: int,
        critic: Critic,
        sigma_min: float,
        sigma_max: float,
        sigma_data: float,
        adversarial: float,
        width: int,
        shift: float | None,
    ) -> None:
        super().__init__()
        if sigma_max < sigma_min:
            raise UserError(text("sigma_max_least", "{method}: sigma_max is a number of at least {least:g}, not "
                                 "{given}", method=method, least=sigma_min, given=repr(sigma_max)))  # fmt: skip
        self.name, self.sigmas, self.sampler = method, trailing_sigmas(steps, table), sampler
        self.steps, self.table = steps, table
        self.every, self.starts, self.shift = every, critic, shift
        self.range, self.sigma_data = (math.log(sigma_min), math.log(sigma_max)), sigma_data
        self.adversarial, self.width = adversarial, width
        self.game: GanLoss | None = None
        self.count: Tensor
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self._made: Tensor | None = None

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Make the critic. Raises UserError where batches are of no diffusion, or its start has nothing to learn."""
        check_diffusion(self.name, student, teacher, batch, truth=self.adversarial > 0)
        self.sigmas = few_levels(student, self.steps, self.table)
        made = copy.deepcopy(unguided(teacher)).requires_grad_(True) if self.starts == "teacher" else copied(student)
        self.fake = made.eval()
        if not any(True for _ in self.fake.parameters()):
            raise UserError(text("critic_from_teacher", "{name}: the teacher has no weights for a critic to start "
                                 'from: set critic "student"', name=self.name))  # fmt: skip
        if self.adversarial > 0:
            height, width = batch.x.shape[2:]
            self.game = GanLoss(Discriminator(batch.x.shape[1], (height, width), self.width)).to(batch.x.device)

    def of_student(self, teacher: Net, x: Tensor, sigma: Tensor, noise: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """The loss of the student's images ``x`` ``(B, C, H, W)`` under ``noise`` of levels ``sigma``, ``(B,)``."""
        raise NotImplementedError

    def loss(self, inputs: DistillationInputs) -> Tensor | None:
        """``of_student`` for images drawn anew, ``(B,)``; None in the critic's own steps."""
        student_step = int(self.count) % self.every == 0
        self.count += 1
        if not student_step:
            return None
        cond, batch = conditions(inputs.batch), inputs.batch
        x, _ = backward_simulation(inputs.student_net, batch.x, cond, self.sigmas, self.sampler)
        self._made = x.detach()
        with frozen(self.fake), computing_like(inputs.student_net):
            loss = self.of_student(inputs.teacher_net, x, self._levels(x), torch.randn_like(x), cond)
        if self.game is not None:
            assert batch.y is not None
            loss = loss + self.adversarial * self.game.student_loss(x, batch.y)
        return loss

    def discriminator_loss(self, inputs: DistillationInputs) -> Tensor:
        """How far the critic is from denoising the student's images, and the head's loss, ``(B,)``."""
        cond, batch = conditions(inputs.batch), inputs.batch
        x, self._made = self._made, None
        if x is None:
            with torch.no_grad():
                x, _ = backward_simulation(inputs.student_net, batch.x, cond, self.sigmas, self.sampler)
        sigma = self._levels(x)
        with computing_like(inputs.student_net):
            denoised = denoise(self.fake, noised(x, sigma, torch.randn_like(x)), sigma, cond)
        loss = edm_weight(sigma, self.sigma_data) * (denoised - x).square().flatten(1).mean(1)
        if self.game is not None:
            assert batch.y is not None
            loss = loss + self.game.discriminator_loss(x, batch.y)
        return loss

    def critics(self) -> Iterator[nn.Parameter]:
        """The critic's parameters, and the adversarial head's."""
        yield from (p for p in self.fake.parameters() if p.requires_grad)
        if self.game is not None:
            yield from self.game.learning()

    def scale(self, x: Tensor, teacher: Tensor, sigma: Tensor) -> Tensor:
        """What a difference of scores is divided by, ``(B, 1, 1, 1)``: ``mean |x - teacher|`` of each image.

        It is at least a quarter of the deviation that Karras et al. 2022 give the net's part of the answer (table 1,
        ``c_out``), so that no image that happens to be met exactly outweighs all others.
        """
        floor = 0.25 * sigma * self.sigma_data * (sigma**2 + self.sigma_data**2).rsqrt()
        return torch.maximum((x - teacher).abs().mean((1, 2, 3)), floor).view(-1, 1, 1, 1).detach()

    def _levels(self, like: Tensor) -> Tensor:
        low, high = self.range
        if self.shift is not None:
            u = torch.rand(len(like), device=like.device)
            return (self.shift * u / (1 - u)).clamp(math.exp(low), math.exp(high))
        return (low + (high - low) * torch.rand(len(like), device=like.device)).exp()
