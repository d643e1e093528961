"""The own loss of tasks whose truth is an image: how far an answer is from that."""

from typing import Literal

import torch
from torch import Tensor

from kdgen.types import Batch, Task
from kdgen.utils.distance import distance

Loss = Literal["charbonnier", "l1", "l2"]


class NearTruth(Task):
    """A task whose nets make images, each of which is to be near to one.

    Attributes:
        loss_name: by which distance.
        gaps: whether readings of the truth may be missing, which are NaN there and count for nothing.
    """

    loss_name: Loss
    gaps = False

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """The distance to the ground truth per image, ``(B,)``, averaged over channels and pixels; None without truth.

        Charbonnier is ``sqrt(d^2 + eps^2)`` with eps 1e-3, Charbonnier et al., ICIP 1994; l1 is ``|d|``, l2 ``d^2``.
        """
        if batch.y is None:
            return None
        return distance(self.loss_name, out, without_gaps(batch.y, out) if self.gaps else batch.y)


def without_gaps(truth: Tensor, out: Tensor) -> Tensor:
    """The truth, and the answer itself where a reading of the truth is missing."""
    return torch.where(truth.isnan(), out.detach().to(truth.dtype), truth)
