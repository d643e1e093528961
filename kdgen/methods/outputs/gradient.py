"""Match the image gradients of the outputs: edges and texture rather than brightness."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.methods.layer_matching import outputs
from kdgen.methods.validation import check_outputs
from kdgen.registry import register
from kdgen.types import Batch, DistillationInputs, Method, Net
from kdgen.utils.distance import Distance, distance, resample

HORIZONTAL = {
    "sobel": [[-0.125, 0.0, 0.125], [-0.25, 0.0, 0.25], [-0.125, 0.0, 0.125]],
    "difference": [[0.0, 0.0, 0.0], [0.0, -1.0, 1.0], [0.0, 0.0, 0.0]],
}
"""Horizontal derivatives per pixel, as 3x3 correlation kernels; the vertical ones are their transposes."""


@register("method")
class Gradient(Method):
    """Distance between the image gradients of the outputs, after Eigen & Fergus 2015 (arXiv 1411.4734), eq. 1.

    Edge pixels are repeated outwards, so that images of any size have a gradient everywhere.

    Args:
        operator: ``sobel`` (the 3x3 kernels over 8, so that a ramp of 1 per pixel has gradient 1) or ``difference``
            (next pixel minus this one; with ``l2`` exactly the paper's term up to a factor of 2).
        distance: ``l1``, ``l2``, ``charbonnier`` or ``huber``, a mean over both directions, channels and pixels.

    Raises:
        UserError: for an unknown operator or distance; in ``attach`` for outputs that are not images of like channels.
    """

    kernels: Tensor

    def __init__(self, operator: Literal["sobel", "difference"] = "sobel", distance: Distance = "l1") -> None:
        super().__init__()
        self.distance = distance
        horizontal = torch.tensor(HORIZONTAL[operator])
        self.register_buffer("kernels", torch.stack([horizontal, horizontal.T])[:, None], persistent=False)

    def attach(self, student: Net, teacher: Net, batch: Batch) -> None:
        """Check that the outputs can be compared. Raises UserError where they are no images of like channels."""
        check_outputs("gradient", *outputs(student, teacher, batch), images=True)

    def gradients(self, image: Tensor) -> Tensor:
        """Horizontal and vertical derivatives of an image ``(B, C, H, W)``, as ``(B, 2 * C, H, W)``, float32."""
        padded = F.pad(image.float(), (1, 1, 1, 1), mode="replicate")
        channels = image.shape[1]
        kernels = self.kernels.to(padded.device).repeat(channels, 1, 1, 1)
        return F.conv2d(padded, kernels, groups=channels).float()

    def loss(self, inputs: DistillationInputs) -> Tensor:
        """``d(gradient of student, gradient of teacher)``, ``(B,)``."""
        teacher = resample(inputs.teacher, inputs.student)
        return distance(self.distance, self.gradients(inputs.student), self.gradients(teacher))
