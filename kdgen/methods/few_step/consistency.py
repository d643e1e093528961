"""Say the same everywhere on a trajectory: from any noise to its end in one call."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from kdgen.diffusion import Timesteps, edm_weight, flow_sigma, flow_time
from kdgen.diffusion.few_steps import euler_step, timesteps_of
from kdgen.methods.few_step.rollout import (
    check_diffusion,
    conditions,
    denoise,
    draws_randomness,
    noised,
    remembered,
)
from kdgen.models.abilities import Timed
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.types.arguments import Count, CountOrZero, NonNegative

UNSEEN = 0.02
"""A noise level up to which the image itself is the target: what holds nets that say the image by themselves, whose
answers could otherwise all be the same (Song et al. 2023, arXiv 2303.01469, section 3: the boundary condition)."""

HIDDEN = 40.0
"""A level at which noise hides the image: from above it, ``r`` is at most this, whatever the schedule says."""


@register("method", handle="ect")
class Consistency(Method):
    """Easy consistency tuning (ECT, Geng et al. 2024, arXiv 2406.14548), or consistency distillation.

    The student at level ``t`` is to say what it says at a lower level ``r`` of the same trajectory::

        r = max(0, t * [1 - q^-(s + 1) * (1 + k * sigmoid(-b t))])
        loss = w * (sqrt(mean |f(x_t, t) - sg f(x_r, r)|^2 + c^2) - c),   w = 1 / (t - r)^power

    ``s`` grows from 0 to ``stages - 1`` over the run, so that ``r`` nears ``t``. Where ``r`` is 0 the target is the end
    of the trajectory itself: the clean image. With source ``truth``, ``x_r`` is the clean image under the same noise,
    and nobody asks the teacher, whose weights are the start; with ``teacher``, ``x_r`` is where Euler's step of the
    teacher leads from ``x_t`` (consistency distillation, Song et al. 2023, arXiv 2303.01469, algorithm 2) and the end
    of a step to 0 its denoised image. Both evaluations of the student share their noise and their dropout. Levels
    ``t`` are the batch's.

    The loss falls within each of the schedule's stages and jumps between them; it says little of quality.

    Args:
        source: ``truth`` or ``teacher``.
        q, k, b: shape of the schedule.
        skip: in place of that schedule, ``r`` is so many timesteps of the student's table below ``t``: a step of the
            latent consistency models' skipping solver, 20 of 1000 there (LCM, Luo et al. 2023, arXiv 2310.04378,
            section 4.3; with the teacher as source, guided, in algorithm 1); 0 for the schedule.
        stages: how often in a run ``r`` moves nearer to ``t``.
        start: the share of the run at which this begins, where other stages of training come first: a student that does
            not start as its teacher drifts if it is not held to the ends of trajectories at first.
        weight: ``interval`` for ``1 / (t - r)^power``; or ``edm`` for ``(t^2 + s^2) / (t s)^2`` with the deviation
            ``s`` of the data, as in the authors' code: it does not vanish at the highest levels, where one step starts.
        power: how the loss counts less where levels are far apart, in [0, 1].
        c: what rounds the norm off, in units of images in [-1, 1].
        sigma_data: standard deviation of the data.

    Raises:
        UserError: for arguments that do not fit; in ``attach`` where batches have no noise level or no clean images.
    """

    def __init__(
        self,
        source: Literal["truth", "teacher"] = "truth",
        q: Annotated[float, Field(ge=1 + 1e-6)] = 2.0,
        k: NonNegative = 8.0,
        b: NonNegative = 1.0,
        skip: CountOrZero = 0,
        stages: Count = 8,
        start: Annotated[float, Field(ge=0, le=0.99)] = 0.0,
        weight: Literal["interval", "edm"] = "interval",
        power: Annotated[float, Field(ge=0, le=1)] = 1.0,
        c: NonNegative = 0.0,
        sigma_data: Annotated[float, Field(ge=1e-6)] = 0.5,
    ) -> None:
        super().__init__()
        self.source, self.q, self.k, self.b = source, q, k, b
        self.skip, self.stages, self.start = skip, stages, start
        self.table: Timesteps | None = timesteps_of("linear")
        self.reads = frozenset({"student", "teacher"}) if source == "teacher" else frozenset({"student"})
        self.lives = (0.01, 3.0)
        if weight == "edm":
            self.lives = (0.1, 5.0) if source == "teacher" else (0.2, 20.0)
        self.weight, self.power, self.c, self.sigma_data = weight, power, c, sigma_data

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Check that batches are of diffusion. Raises UserError where they are not."""
        check_diffusion("consistency", student, teacher, batch)
        self.table = student.timesteps if isinstance(student, Timed) else self.table

    def earlier(self, t: Tensor, progress: float) -> Tensor:
        """The lower level ``r`` of ``t``, ``(B,)``, at a progress in [0, 1]."""
        if self.skip:
            return skipped(self.table, t, self.skip)
        progress_within = max(progress - self.start, 0.0) / (1 - self.start)
        stage = min(int(progress_within * self.stages), self.stages - 1)
        ratio = self.q ** -(stage + 1) * (1 + self.k * torch.sigmoid(-self.b * t))
        return (t * (1 - ratio)).clamp(0, HIDDEN)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``w * |f(x_t, t) - sg f(x_r, r)|``, ``(B,)``."""
        batch = inputs.batch
        assert batch.y is not None
        x, t, cond, student = batch.x.float(), batch.cond["sigma"], conditions(batch), inputs.student_net
        r = self.earlier(t, inputs.progress)
        if self.source == "truth":
            clean = batch.y.float()
            x_r = noised(clean, r / t, x - clean)
        else:
            clean = inputs.teacher.float()
            x_r = euler_step(x, clean, t, r)
        restore = remembered(x.device)
        # The view's own answer was given with dropout that nobody remembers.
        pred = denoise(student, x, t, cond) if draws_randomness(student) else inputs.student.float()
        restore_after = remembered(x.device)
        restore()
        with torch.no_grad():
            target = denoise(student, x_r, r.clamp_min(1e-4 * t), cond)
        restore_after()
        target = torch.where((r > UNSEEN).view(-1, 1, 1, 1), target, clean)
        error = (pred - target).square().flatten(1).mean(1)
        # The norm has no slope where the two agree.
        norm = (error + self.c**2).clamp_min(1e-12).sqrt() - self.c
        if self.weight == "edm":
            return edm_weight(t, self.sigma_data) * norm
        return norm / (t - r) ** self.power


def skipped(table: Timesteps | None, sigma: Tensor, skip: int) -> Tensor:
    """The noise levels ``(B,)`` so many of a table's timesteps, or thousandths of a flow's time, below ``sigma``.

    Below the first there is no noise, 0.
    """
    if table is None:
        return flow_sigma((flow_time(sigma) - skip / 1000).clamp_min(0))
    steps = table.timestep(sigma) - skip
    return torch.where(steps < 0, 0.0, table.sigma(steps.clamp_min(0)))
