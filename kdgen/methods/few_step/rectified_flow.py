"""Straight lines between noise and the images that the teacher makes of it."""

from torch import Tensor

from kdgen.diffusion import prediction_weight
from kdgen.diffusion.few_steps import Table, trailing_sigmas
from kdgen.methods.few_step.rollout import check_diffusion, conditions, denoise
from kdgen.models.sampling import few_levels
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.utils.distance import Distance, distance


@register("method", handle="reflow")
class RectifiedFlow(Method):
    """Reflow, and distillation to one step: Liu et al. 2022 (arXiv 2209.03003), section 2.

    For the task ``few_steps`` with ``rollouts`` as images and ``coupled``: the noise ``n`` of a batch is then what the
    teacher's ODE made ``y`` of. Flow matching on such pairs, ``|(n - y) - v|^2``, which for the denoised image is
    ``((1 + sigma) / sigma)^2 |D - y|^2``, makes trajectories straight, so that few of Euler's steps do. With
    ``one_step`` the student learns ``n -> y`` from the highest level alone (the paragraph "Distillation" there).

    Both losses fall to a floor that is the curvature left. With pairs that are not coupled it is plain flow matching
    and the floor is higher.

    Args:
        one_step: learn from the highest level alone.
        loss: of one step: ``l1``, ``l2``, ``charbonnier`` or ``huber``; reflow is always ``l2``.
        table: the highest level is its last, ``linear``, ``cosine`` or ``karras``.

    Raises:
        UserError: for arguments that do not fit; in ``attach`` where batches have no noise level or no clean images.
    """

    def __init__(self, one_step: bool = False, loss: Distance = "l2", table: Table = "linear") -> None:
        super().__init__()
        self.one_step, self.kind, self.table = one_step, loss, table
        self.lives = (0.01, 0.5) if one_step else (0.1, 3.0)
        self.reads = frozenset() if one_step else frozenset({"student"})
        self.highest = trailing_sigmas(1, table)[0].item()

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Check that batches are of diffusion. Raises UserError where they are not."""
        check_diffusion("rectified_flow", student, teacher, batch)
        self.highest = few_levels(student, 1, self.table)[0].item()

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """The flow's squared error, or the distance of the one-step image to the teacher's, ``(B,)``."""
        batch = inputs.batch
        assert batch.y is not None
        y, sigma = batch.y.float(), batch.cond["sigma"]
        if not self.one_step:
            return prediction_weight("flow", sigma.clamp_min(0.01)) * distance("l2", inputs.student, y)
        noise = (batch.x.float() - y) / sigma.view(-1, 1, 1, 1)
        x, highest = y + self.highest * noise, sigma.new_full(sigma.shape, self.highest)
        return distance(self.kind, denoise(inputs.student_net, x, highest, conditions(batch)), y)
