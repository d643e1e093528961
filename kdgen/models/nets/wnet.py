"""Two small U-Nets one after another: the little W-Net (Galdran et al. 2020, arXiv 2009.01907)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.inputs import pad_to_multiple
from kdgen.models.scaling import Args, Family, Shapes, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import AnyChannels, Count, Counts


class Block(nn.Module):
    """Two convolutions beside a shortcut, ``(B, wide, H, W)`` to ``(B, deep, H, W)``, of an input halved before."""

    def __init__(self, wide: int, deep: int, *, halved: bool = False) -> None:
        super().__init__()
        self.halved = halved
        self.shortcut = nn.Sequential(nn.Conv2d(wide, deep, 1, bias=False), nn.BatchNorm2d(deep))
        self.block = nn.Sequential(*_layers(wide, deep), *_layers(deep, deep))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, wide, H, W)`` to ``(B, deep, ...)``, half as large where it is halved."""
        x = F.max_pool2d(x, 2) if self.halved else x
        out: Tensor = self.block(x) + self.shortcut(x)
        return out


class Doubled(nn.Module):
    """A transposed convolution to twice the height and width."""

    def __init__(self, deep: int, wide: int) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.ConvTranspose2d(deep, wide, 2, 2))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, deep, H, W)`` to ``(B, wide, 2H, 2W)``."""
        out: Tensor = self.block(x)
        return out


class Up(nn.Module):
    """A level of the way up, beside what was seen on the way down."""

    def __init__(self, deep: int, wide: int) -> None:
        super().__init__()
        self.up_layer = Doubled(deep, wide)
        self.conv_bridge_layer = nn.ModuleDict({"block": nn.Sequential(*_layers(wide, wide))})
        self.conv_layer = Block(2 * wide, wide)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """``(B, deep, H, W)`` and ``(B, wide, 2H, 2W)`` to the latter's shape."""
        out: Tensor = self.conv_layer(torch.cat([self.up_layer(x), self.conv_bridge_layer["block"](seen)], 1))
        return out


class SmallUNet(nn.Module):
    """One of the two: ``(B, channels, H, W)`` to ``(B, outputs, H, W)``, both sides a multiple of its stride."""

    def __init__(self, channels: int, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.first = Block(channels, widths[0])
        self.down_path = nn.ModuleList(Block(wide, deep, halved=True) for wide, deep in pairwise(widths))
        self.up_path = nn.ModuleList(Up(deep, wide) for deep, wide in pairwise(reversed(widths)))
        self.final = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        h = self.first(x)
        seen = []
        for down in self.down_path:
            seen.append(h)
            h = down(h)
        for up in self.up_path:
            h = up(h, seen.pop())
        out: Tensor = self.final(h)
        return out


class WNet(nn.Module):
    """The net of ``wnet``: the second U-Net reads the image beside what the first one says of it."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, classes: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.stride, self.binary = channels, 2 ** (len(widths) - 1), classes == 2
        outputs = 1 if self.binary else classes
        self.unet1 = SmallUNet(channels, outputs, widths)
        self.unet2 = SmallUNet(channels + outputs, outputs, widths)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K, H, W)`` of images ``(B, 1 or C, H, W)`` in [-1, 1] of any size.

        Of two classes they are 0 and ``l``, whose softmax is the sigmoid of the one ``l`` that it computes.
        """
        height, width = x.shape[-2:]
        unit = (pad_to_multiple(x, self.stride).expand(-1, self.channels, -1, -1) + 1) / 2
        out: Tensor = self.unet2(torch.cat([unit, self.unet1(unit)], 1))[..., :height, :width]
        return torch.cat([torch.zeros_like(out), out], 1) if self.binary else out


def _layers(wide: int, deep: int) -> list[nn.Module]:
    return [nn.Conv2d(wide, deep, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(deep)]


def fit_places(shapes: Shapes) -> Args:
    """The ``fit`` of a net that gives logits for each place of an image."""
    return {"channels": shapes.inputs[0], "classes": shapes.outputs[0]}


@register("net")
@scaled(Family(scale=scale_widths("widths"), fit=fit_places))
def wnet(channels: AnyChannels = 3, classes: Count = 2, widths: Counts = (8, 16, 32)) -> WNet:
    """Two small U-Nets, the second correcting the first (Galdran et al. 2020), layers named as those of its authors.

    Args:
        channels: channels C of its images.
        classes: K, how many logits each place has; of two it computes one, the other is 0.
        widths: channels at full, half, quarter... resolution.
    """
    return WNet(channels, classes, widths)
