"""Give unlike images for unlike latents."""

import torch
from torch import Tensor

from kdgen.registry import register
from kdgen.types import Batch, LossInputs, Net, Objective, UserError, text
from kdgen.types.arguments import Positive


@register("objective")
class Diversity(Objective):
    """Mode seeking: Mao et al. 2019 (arXiv 1903.05628), eq. 3.

    The paper maximises ``d(G(z1), G(z2)) / d(z1, z2)`` over pairs of latents, ``d`` the mean absolute difference; the
    loss is ``1 / (ratio + epsilon)``. The pairs are neighbours in the batch, each image with the next one and
    the last with the first; where there are labels, the batch is sorted by them first, so that most pairs share one.

    Args:
        epsilon: bounds the loss of a collapsed net at ``1 / epsilon``.

    Raises:
        UserError: for an epsilon of 0; in ``attach`` for a batch of one image.
    """

    def __init__(self, epsilon: Positive = 1e-2) -> None:
        super().__init__()
        self.epsilon = epsilon

    def attach(self, student: Net, batch: Batch) -> None:
        """Check that there are pairs. Raises UserError where there are none."""
        if len(batch.x) < 2:
            raise UserError(text("diversity_batch", "diversity compares the images of a batch: set batch_size to 2 "
                                 "or more"))  # fmt: skip

    def loss(self, inputs: LossInputs) -> Tensor:
        """``1 / (ratio + epsilon)``, ``(B,)``, for each image and its neighbour."""
        batch = inputs.batch
        order = torch.arange(len(batch.x), device=batch.x.device)
        if "label" in batch.cond:
            order = torch.argsort(batch.cond["label"].flatten(), stable=True)
        neighbour = torch.empty_like(order).scatter_(0, order, order.roll(-1))

        def distance(values: Tensor) -> Tensor:
            return (values.float() - values[neighbour].float()).flatten(1).abs().mean(1)

        outputs, latents = distance(inputs.student), distance(batch.x)
        return latents / (outputs + self.epsilon * latents).clamp_min(1e-12)
