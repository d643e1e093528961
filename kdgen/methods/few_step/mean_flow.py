"""Learn the average velocity of a trajectory from the velocity at each of its points."""

from collections.abc import Callable
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from kdgen.diffusion import append_dims, flow_sigma, flow_time
from kdgen.methods.few_step.rollout import (
    check_diffusion,
    conditions,
    denoise,
    remembered,
)
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net, text
from kdgen.types.arguments import Share
from kdgen.utils.conditions import check_reads


@register("method")
class MeanFlow(Method):
    """Average velocity, MeanFlow: Geng et al. 2025 (arXiv 2505.13447), eq. 6, with the teacher's velocity for data's.

    In the time ``t = sigma / (1 + sigma)`` of a flow ``z = (1 - t) y + t n``, the average velocity from ``t`` down to
    ``r`` obeys the identity ``u = v - (t - r) du/dt`` along the trajectory. The student gives ``u = (z - D) / t``, so
    what it has to say is ``sg(v - (t - r) du/dt)``, where ``v = (z - teacher) / t``. The loss is ``|u - target|^2 /
    sg(|u - target|^2 + c)^power``.

    The derivative is forward-mode (``torch.func.jvp``), or a difference over a step ``h`` down the trajectory, with the
    same dropout. Where the trajectory is straight over ``h``, ``(t - r) u(t) = h v + (t - h - r) u(t - h)``, so that a
    difference obeys ``u = v - (t - h - r) (u(t) - u(t - h)) / h`` exactly, however long the step; that is what is used.
    ``h`` is a share of ``t - r`` at every level: near ``t = 1``, where sigma is thousands, a step as short as ``1 - t``
    would divide what is rough in the net by almost nothing, and so does forward mode.

    A net without a second time has ``r = 0``: every step is one to the end, and the student is drawn as a consistency
    model. With ``until``, nets are told the noise level at which a step ends, as ``until`` ``(B,)``, and are drawn by
    the sampler ``average``; ``instant`` is then the share of images with ``r = t``, whose target is the velocity, and
    of the others a fifth have ``r = 0`` and the rest any between.

    The loss lives in [0, 1] with ``power`` 1, near 1 for most of a run; with 0 it is the squared error of a velocity,
    0.01 to 1, and noisy.

    Args:
        derivative: ``forward`` or ``difference``; the latter for nets that forward mode cannot pass.
        step: of a difference, as a share of ``t - r``: the error of the teacher's step grows with it, and the net's
            rounding with its inverse; bfloat16 wants no less than 0.1.
        until: whether the student reads ``until``.
        instant: share of images at which student and teacher have one velocity, in [0, 1].
        power: of the adaptive weight, in [0, 1].
        c: what keeps that weight finite.
        warmup: share of the run over which the derivative's weight grows from 0 to 1, which tames it (sCM, Lu & Song
            2025, arXiv 2410.11081, section 4.2).

    Raises:
        UserError: for arguments that do not fit; in ``attach`` where batches have no noise level or no clean images,
            and with ``until`` for a student that does not read it.
    """

    reads = frozenset()
    lives = (0.0, 1.0)

    def __init__(
        self,
        derivative: Literal["forward", "difference"] = "difference",
        step: Annotated[float, Field(ge=1e-6, le=0.5)] = 0.05,
        until: bool = False,
        instant: Share = 0.5,
        power: Annotated[float, Field(ge=0, le=1)] = 1.0,
        c: Annotated[float, Field(ge=1e-12)] = 1e-3,
        warmup: Share = 0.2,
    ) -> None:
        super().__init__()
        self.derivative, self.step, self.until, self.instant = derivative, step, until, instant
        self.power, self.c, self.warmup = power, c, warmup

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Check batches and student. Raises UserError for those of no diffusion, and one that reads no ``until``."""
        if self.until:
            check_reads(text("mean_flow_until", "mean_flow with until"), student, {"until"})
        check_diffusion("mean_flow", student, teacher, batch)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """The adaptively weighted squared error of the average velocity, ``(B,)``; draws from the global generator."""
        batch, cond = inputs.batch, conditions(inputs.batch)
        x, sigma = batch.x.float(), batch.cond["sigma"]
        t = flow_time(sigma)
        z = append_dims(1 - t, x) * x
        with torch.no_grad():
            teacher_denoised = denoise(inputs.teacher_net, x, sigma, cond)
        velocity = (z - teacher_denoised) / append_dims(t, z)
        r = self._ends(t)
        if self.until:
            cond["until"] = flow_sigma(r)

        def average(z: Tensor, t: Tensor) -> Tensor:
            denoised = denoise(inputs.student_net, z / append_dims(1 - t, z), t / (1 - t), cond)
            return (z - denoised) / append_dims(t, z)

        restore = remembered(x.device)
        u = average(z, t)
        restore()
        correction = self._bend(average, z, t, r, velocity, u.detach())
        weight = min(inputs.progress / self.warmup, 1.0) if self.warmup else 1.0
        target = velocity - weight * correction
        error = (u - target.detach()).square().flatten(1).mean(1)
        return error / (error.detach() + self.c) ** self.power

    def _ends(self, t: Tensor) -> Tensor:
        if not self.until:
            return torch.zeros_like(t)
        r = t * (1.25 * torch.rand_like(t) - 0.25).clamp_min(0)
        return torch.where(torch.rand_like(t) < self.instant, t, r)

    @torch.no_grad()
    def _bend(
        self, average: Callable[[Tensor, Tensor], Tensor], z: Tensor, t: Tensor, r: Tensor, velocity: Tensor, u: Tensor
    ) -> Tensor:
        """``(t - r) du/dt`` along the teacher's trajectory, ``(B, C, H, W)``."""
        if self.derivative == "forward":
            with sdpa_kernel(SDPBackend.MATH):
                slope: Tensor = torch.func.jvp(average, (z, t), (velocity, torch.ones_like(t)))[1]
            return append_dims(t - r, z) * slope
        h = self.step * torch.where(t > r, t - r, t)
        earlier = average(z - append_dims(h, z) * velocity, t - h)
        return append_dims((t - r - h).clamp_min(0) / h, z) * (u - earlier)
