"""Do in one step what the teacher does in two."""

import torch
from torch import Tensor

from kdgen.diffusion.few_steps import Table, euler_step, trailing_sigmas
from kdgen.methods.few_step.rollout import check_diffusion, conditions, denoise, noised
from kdgen.models.sampling import few_levels
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.types.arguments import Count


@register("method")
class Progressive(Method):
    """Progressive distillation, Salimans & Ho 2022 (arXiv 2202.00512), algorithm 2.

    A student of ``steps`` steps is at level ``t``, its next level is ``s`` and ``m`` the teacher's between them. Two
    DDIM steps of the teacher lead from ``x_t`` by ``x_m`` to ``x_s``; what a student has to say for its one step to
    lead there is ``(x_s - (s / t) x_t) / (1 - s / t)``. The loss is ``max(1 / t^2, 1)`` times the mean squared
    distance: their truncated SNR weight (section 4). Levels are ``kdgen.diffusion.few_steps.trailing_sigmas(steps)``,
    one drawn for each image.

    A ladder is a chain: an assistant for each number of steps, each from the weights of the one before.

    The loss begins near the squared distance between one step and two and falls by a factor of 3 to 30; at one or two
    steps it stays higher, where it blurs what the teacher would have decided.

    Args:
        steps: the student's; its teacher is taken to be good at twice as many.
        table: of the noise levels, ``linear``, ``cosine`` or ``karras``.

    Raises:
        UserError: for arguments that do not fit; in ``attach`` where batches have no noise level or no clean images.
    """

    reads = frozenset()
    lives = (0.0005, 0.05)

    def __init__(self, steps: Count = 1, table: Table = "linear") -> None:
        super().__init__()
        self.steps, self.table = steps, table
        self.halves = trailing_sigmas(2 * steps, table).float()

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Check that batches are of diffusion. Raises UserError where they are not."""
        check_diffusion("progressive", student, teacher, batch)
        self.halves = few_levels(student, 2 * self.steps, self.table).float()

    @torch.no_grad()
    def target(self, teacher: Net, x: Tensor, step: Tensor, cond: dict[str, Tensor]) -> Tensor:
        """What the student has to say, ``(B, C, H, W)``, at ``x`` of that shape and step number ``step`` ``(B,)``."""
        levels = self.halves.to(x.device)
        t, middle, s = levels[2 * step], levels[2 * step + 1], levels[2 * step + 2]
        x_m = euler_step(x, denoise(teacher, x, t, cond), t, middle)
        x_s = euler_step(x_m, denoise(teacher, x_m, middle, cond), middle, s)
        ratio = (s / t).view(-1, 1, 1, 1)
        return (x_s - ratio * x) / (1 - ratio)

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``max(1 / t^2, 1) * mean (f(x_t, t) - target)^2``, ``(B,)``; draws from the global generator."""
        batch, cond = inputs.batch, conditions(inputs.batch)
        assert batch.y is not None
        step = torch.randint(self.steps, (len(batch.y),), device=batch.y.device)
        t = self.halves.to(batch.y.device)[2 * step]
        x = noised(batch.y.float(), t, torch.randn_like(batch.y, dtype=torch.float32))
        target = self.target(inputs.teacher_net, x, step, cond)
        error = (denoise(inputs.student_net, x, t, cond) - target).square().flatten(1).mean(1)
        return (t**-2).clamp_min(1) * error
