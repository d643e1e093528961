"""Procedural depth maps: planes of every slope and shape that hide one another, near and far."""

import hashlib
from collections.abc import Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdgen.data.dead_leaves import CANVAS, SUPERSAMPLING, DeadLeaves, paint
from kdgen.registry import register
from kdgen.types.arguments import Count, Share
from kdgen.utils.seed import derive, generator


@register("images")
class DepthScenes(DeadLeaves):
    """Depth maps of dead leaves: each is a plane at a depth of its own, the nearer ones before the others; endless.

    A value is a depth in [-1, 1], from the nearest that a sensor reads to the farthest. Edges are sharp: a pixel is of
    one plane. Each map takes a part of the range, at least half of it.

    Args:
        smallest: radius of the smallest planes in pixels; each map multiplies it by 1 to 12, as if seen from nearer.
        cover: area of all planes together, as a multiple of the map.
        slope: the most that depth changes across a plane, as a share of the whole range.
        num_images: how many whole maps of 256x256 there are to evaluate on.

    Raises:
        UserError: for a number that is out of range.
    """

    def __init__(
        self,
        smallest: Annotated[float, Field(ge=0.5, le=64)] = 3.0,
        cover: Annotated[float, Field(gt=0, le=20)] = 2.0,
        slope: Share = 0.3,
        num_images: Count = 8,
    ) -> None:
        super().__init__(smallest, cover, slope, 0.0)
        self.num_images = num_images

    def canvas(self, extent: int, *, channels: int, seed: int) -> Tensor:
        """One whole depth map ``(channels, extent, extent)`` float32 in [-1, 1], the same in every channel."""
        random = generator(seed, "canvas")
        leaves = self._leaves(extent * SUPERSAMPLING, random)
        top = paint(leaves, extent * SUPERSAMPLING)[::SUPERSAMPLING, ::SUPERSAMPLING]
        part, offset = torch.rand(2, generator=random).tolist()
        reach = 1 + part
        far = -1 + reach + (2 - reach) * offset
        rank = torch.arange(len(leaves.x) + 1) / len(leaves.x)
        depth = far - reach * rank + 0.1 * (torch.rand(rank.shape, generator=random) - 0.5)
        sloped: Tensor = depth[top] + self._relief(leaves, top, random)
        return sloped.clamp(-1, 1).expand(channels, -1, -1).contiguous()

    def images(self, channels: int) -> Iterator[tuple[str, Tensor]]:
        """Whole depth maps of a fixed order, apart from those to train on, each ``(1, channels, 256, 256)``."""
        for number in range(self.num_images):
            seed = derive(number, "depth map to evaluate on")
            yield f"depth map {number}", self.canvas(CANVAS, channels=channels, seed=seed)[None]

    def fingerprint(self) -> str:
        """The arguments, and a hash of one map, which changes with the way that they are made."""
        sample = hashlib.sha256(self.canvas(64, channels=1, seed=0).numpy().tobytes()).hexdigest()
        return f"depth_scenes{(self.smallest, self.cover, self.shading, self.num_images)}{sample}"


__all__ = ["DepthScenes"]
