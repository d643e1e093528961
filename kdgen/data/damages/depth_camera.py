"""What a depth camera makes of a depth map."""

from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register

Near = Annotated[float, Field(gt=0, lt=1, description="a number above 0 and below 1")]
STEP = 0.1
"""Difference of depth between neighbours, in the units of images, from which on there is an edge."""


@register("damage")
class DepthCamera(Damage):
    """Noise and steps that grow with the square of depth, and readings that are missing at edges and by chance.

    A camera that triangulates measures disparity, ``1 / z``: noise and steps of disparity that are the same everywhere
    are in depth in proportion to ``z^2`` (Khoshelham and Elberink 2012, Sensors 12(2), equation 10). Images are depths
    in [-1, 1], from the nearest reading to the farthest. Missing readings become 0, and ``cond["mask"]``,
    ``(B, 1, H, W)``, is 1 where they are missing and 0 elsewhere.

    Args:
        noise: standard deviation of the depth at the farthest, as a share of that, 0 to 0.2.
        steps: of disparity from the nearest to the farthest, 8 to 4096. A ``share`` of its range counts from the most.
        missing: share of readings that are missing by chance, 0 to 0.9.
        edges: share of readings beside edges of depth that are missing, 0 to 1.
        near: depth of the nearest reading as a share of the farthest.
    """

    def __init__(
        self, noise: Amount = (0.005, 0.03), steps: Amount = (128.0, 512.0), missing: Amount = (0.02, 0.2),
        edges: Amount = (0.3, 0.9), near: Near = 0.2,
    ) -> None:  # fmt: skip
        check_amount("depth_camera", "noise", noise, 0, 0.2)
        check_amount("depth_camera", "steps", steps, 8, 4096)
        check_amount("depth_camera", "missing", missing, 0, 0.9)
        check_amount("depth_camera", "edges", edges, 0, 1)
        self.noise, self.steps, self.missing, self.edges, self.near = noise, steps, missing, edges, near

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base; clipped to [-1, 1], as a camera does that reads nothing beyond."""
        count = len(images)
        noise, missing, edges = (_maps(amounts(each, count, random, share))
                                 for each in (self.noise, self.missing, self.edges))  # fmt: skip
        step = (1 / self.near - 1) / _maps(amounts(self.steps, count, random, None if share is None else 1 - share))
        depth = self.near + (1 - self.near) * (images.clamp(-1, 1) + 1) / 2
        disparity = 1 / depth + noise * torch.randn(images.shape, generator=random)
        measured = 1 / ((disparity / step).round() * step).clamp(1, 1 / self.near)
        seen = (2 * (measured - self.near) / (1 - self.near) - 1).clamp(-1, 1)
        chance = torch.rand(count, 1, *images.shape[2:], generator=random)
        mask = (chance < torch.where(_beside_edges(images), torch.maximum(edges, missing), missing)).float()
        return seen * (1 - mask), {"mask": mask}

    def nothing(self, images: Tensor) -> Mapping[str, Tensor]:
        """See the base."""
        return {"mask": torch.zeros(len(images), 1, *images.shape[2:])}


def _maps(amount: Tensor) -> Tensor:
    return amount[:, None, None, None]


def _beside_edges(images: Tensor) -> Tensor:
    """Where the depth of a neighbour, up to diagonal ones, is another: bool ``(B, 1, H, W)``."""
    around = F.pad(images, (1, 1, 1, 1), mode="replicate")
    spread = F.max_pool2d(around, 3, 1) + F.max_pool2d(-around, 3, 1)
    return spread.amax(1, keepdim=True) > STEP
