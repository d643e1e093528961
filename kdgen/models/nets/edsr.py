"""An upscaler of residual blocks without normalisation: EDSR (Lim et al. 2017, arXiv 1707.02921)."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.chain import initialise
from kdgen.models.scaling import Family, fit_enlarging, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import Channels, Count


class EDSR(nn.Module):
    """The net of ``edsr``; its tail enlarges by one shuffle, whatever the scale, as small nets do."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, width: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.body = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))
            for _ in range(blocks)
        )
        self.join = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, channels * scale**2, 3, padding=1)
        self.scale = scale
        for part in (nn.Sequential(self.head, self.join, self.tail), *self.body):
            initialise(part)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to ``(B, C, scale H, scale W)``."""
        first: Tensor = self.head(x)
        h = first
        for block in self.body:
            h = h + block(h)
        out = F.pixel_shuffle(self.tail(first + self.join(h)), self.scale)
        return out + F.interpolate(x, scale_factor=self.scale, mode="bilinear")

    def feature_layers(self) -> list[str]:
        """The branches of the residual blocks."""
        return [f"body.{i}" for i in range(len(self.body))]


@register("net")
@scaled(Family(scale=scale_widths("width", "blocks"), fit=fit_enlarging))
def edsr(channels: Channels = 3, width: Count = 64, blocks: Count = 16, scale: Count = 4) -> EDSR:
    """Residual blocks at low resolution that give the difference to the image enlarged bilinearly.

    Args:
        channels: channels C of its images.
        width: channels between convolutions.
        blocks: residual blocks of two convolutions each.
        scale: how many times higher and wider images become; 1 restores images as they are.
    """
    return EDSR(channels, width, blocks, scale)
