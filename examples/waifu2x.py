"""Two nets of waifu2x that undo JPEG in drawings (github.com/nagadomi/waifu2x; weights of the Python package, MIT).

Their convolutions use up a border, so that images are continued first, by repeating their edge.
"""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kdgen import register

SLOPE = 0.1


def shrinking(*widths: int) -> list[nn.Conv2d]:
    """3x3 convolutions from each width to the next, each of which uses up a pixel at every border."""
    return [nn.Conv2d(inputs, outputs, 3) for inputs, outputs in pairwise(widths)]


@register("net")
class Vgg7(nn.Module):
    """Seven convolutions, ``(B, 3, H, W)`` in [0, 1] to the same."""

    def __init__(self) -> None:
        super().__init__()
        for number, layer in enumerate(shrinking(3, 32, 32, 64, 64, 128, 128, 3), start=1):
            self.add_module(f"conv{number}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """Undo JPEG."""
        *inner, last = self.children()
        x = F.pad(x, [7] * 4, "replicate")
        for layer in inner:
            x = F.leaky_relu(layer(x), SLOPE)
        out: Tensor = last(x)
        return out


class ResBlock(nn.Module):
    """Two convolutions beside the middle of their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = shrinking(width, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to ``(B, width, H - 4, W - 4)``."""
        h = F.leaky_relu(self.conv1(x), SLOPE)
        return F.leaky_relu(self.conv2(h), SLOPE) + x[..., 2:-2, 2:-2]


@register("net")
class Resnet10(nn.Module):
    """Five residual blocks within another, ``(B, 3, H, W)`` in [0, 1] to the same."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.conv_pre, self.conv_bridge, self.conv_post = shrinking(3, width, width, 3)
        self.res1, self.res2, self.res3, self.res4, self.res5 = (ResBlock(width) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        """Undo JPEG."""
        first = h = F.leaky_relu(self.conv_pre(F.pad(x, [13] * 4, "replicate")), SLOPE)
        for block in (self.res1, self.res2, self.res3, self.res4, self.res5):
            h = block(h)
        out: Tensor = self.conv_post(F.leaky_relu(self.conv_bridge(h), SLOPE) + first[..., 11:-11, 11:-11])
        return out
