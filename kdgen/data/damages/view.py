"""How somebody sees images, whoever else sees them otherwise."""

import zlib

import torch
from torch import Tensor

from kdgen.data.damages.damage import Damage, Damaged
from kdgen.utils.seed import generator


class View(Damage):
    """How images are seen, and what another view would tell of them, had it left them as they are.

    Args:
        damage: what they are seen through; None shows them as they are.
        others: damages whose conditions are told too, as of images that they left as they are.
    """

    def __init__(self, damage: Damage | None, others: Damage | None = None) -> None:
        self.damage, self.others, self.scale = damage, others, 1 if damage is None else damage.scale

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        seen, told = (images, {}) if self.damage is None else self.damage(images, random, share)
        return seen, {**(self.others.nothing(images) if self.others else {}), **told}

    def each(self, images: Tensor, seed: int) -> Damaged:
        """Images ``(B, C, H, W)`` on any device, each seen by its own content and the seed alone, whoever looks."""
        seen = [self(image, generator(seed, "seen", _content(image))) for image in torch.split(images.cpu(), 1)]
        told = {key: torch.cat([cond[key] for _, cond in seen]).to(images.device) for key in seen[0][1]}
        return torch.cat([image for image, _ in seen]).to(images.device), told

    def num_channels(self, given: int) -> int:
        """See the base."""
        return given if self.damage is None else self.damage.num_channels(given)


def _content(image: Tensor) -> int:
    return zlib.crc32(image.contiguous().numpy().tobytes())
