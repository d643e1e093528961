"""A small net for styles, in a few lines."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.registry import register


class Block(nn.Module):
    """``x + conv(relu(norm(conv(x))))``; the norm over each image lets a style depend on the picture as a whole."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        self.norm = nn.InstanceNorm2d(width, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        out: Tensor = x + self.second(F.relu(self.norm(self.first(x))))
        return out


@register("net")
class StyleNet(nn.Module):
    """Residual blocks with instance norm on images whose 4x4 pixels became channels."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int = 3, width: int = 16, blocks: int = 4) -> None:
        super().__init__()
        self.channels = channels
        self.head, self.tail = (
            nn.Conv2d(16 * channels, width, 3, padding=1),
            nn.Conv2d(width, 16 * channels, 3, padding=1),
        )
        self.body = nn.Sequential(*(Block(width) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to the same."""
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        out = F.pixel_shuffle(self.tail(self.body(self.head(F.pixel_unshuffle(padded, 4)))), 4)
        return (padded + out)[..., :height, :width]
