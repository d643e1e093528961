"""ESPNet, a segmenter of pyramids of dilated convolutions (Mehta et al. 2018, arXiv 1803.06815)."""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from kdgen.models.nets.inputs import bgr, pad_to_multiple
from kdgen.registry import register
from kdgen.types.arguments import Count, CountOrZero

DILATIONS = (1, 2, 4, 8, 16)
STRIDE = 8
Values = Annotated[Sequence[float], Field(min_length=3, max_length=3, description="three numbers: blue, green, red")]
"""A number for each channel."""


class Pyramid(nn.Module):
    """What a narrow convolution gives, seen at five dilations; each but the first is added to all smaller ones.

    ``(B, wide, H, W)`` to ``(B, deep, H / stride, W / stride)``, before the norm (section 3.1, hierarchical fusion).
    """

    def __init__(self, wide: int, deep: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        width = deep // len(DILATIONS)
        self.c1 = _conv(wide, width, kernel, stride)
        for dilation in DILATIONS:
            rest = deep - (len(DILATIONS) - 1) * width if dilation == 1 else width
            self.add_module(f"d{dilation}", _conv(width, rest, 3, dilation=dilation))

    def seen(self, x: Tensor) -> Tensor:
        """The five, side by side."""
        h = self.c1(x)
        nearest, *others = (self.get_submodule(f"d{dilation}")(h) for dilation in DILATIONS)
        return torch.cat([nearest, *accumulate(others)], 1)


class Down(Pyramid):
    """A pyramid at half the height and width."""

    def __init__(self, wide: int, deep: int) -> None:
        super().__init__(wide, deep, kernel=3, stride=2)
        self.bn, self.act = _norm(deep), nn.PReLU(deep)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, wide, H, W)`` to ``(B, deep, H / 2, W / 2)``."""
        out: Tensor = self.act(self.bn(self.seen(x)))
        return out


class Block(Pyramid):
    """A pyramid at the same height and width, which is added to its input where it has as many channels."""

    def __init__(self, wide: int, deep: int) -> None:
        super().__init__(wide, deep)
        self.bn, self.residual = _activated(deep), wide == deep

    def forward(self, x: Tensor) -> Tensor:
        """``(B, wide, H, W)`` to ``(B, deep, H, W)``."""
        out: Tensor = self.bn(x + self.seen(x) if self.residual else self.seen(x))
        return out


class Encoder(nn.Module):
    """ESPNet-C: logits at an eighth of the height and width."""

    def __init__(self, classes: int, second: int, third: int) -> None:
        super().__init__()
        self.level1 = _activated(16, conv=_conv2d(3, 16, 3, 2))
        self.shrunk = nn.AvgPool2d(3, 2, 1)
        self.b1 = _activated(16 + 3)
        self.level2_0 = Down(16 + 3, 64)
        self.level2 = nn.Sequential(*(Block(64, 64) for _ in range(second)))
        self.b2 = _activated(128 + 3)
        self.level3_0 = Down(128 + 3, 128)
        self.level3 = nn.Sequential(*(Block(128, 128) for _ in range(third)))
        self.b3 = _activated(256)
        self.classifier = _conv(256, classes, 1)

    def levels(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What is seen at a half (16 channels), a quarter (131) and, as logits, an eighth of the height and width."""
        half = self.shrunk(x)
        first = self.level1(x)
        below = self.level2_0(self.b1(torch.cat([first, half], 1)))
        second = self.b2(torch.cat([self.level2(below), below, self.shrunk(half)], 1))
        deepest = self.level3_0(second)
        return first, second, self.classifier(self.b3(torch.cat([deepest, self.level3(deepest)], 1)))


class ESPNet(nn.Module):
    """The net of ``espnet``."""

    conditions: frozenset[str] = frozenset()
    channels = 3

    def __init__(self, classes: int, second: int, third: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = tuple(mean), tuple(std)
        self.encoder = Encoder(classes, second, third)
        self.level3_C = _conv(128 + 3, classes, 1)
        self.br = _norm(classes)
        self.up_l3 = nn.Sequential(_doubled(classes))
        self.combine_l2_l3 = nn.Sequential(_activated(2 * classes), Block(2 * classes, classes))
        self.up_l2 = nn.Sequential(_doubled(classes), _activated(classes))
        self.conv = _activated(classes, conv=_conv2d(16 + classes, classes, 3))
        self.classifier = _doubled(classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K, H, W)`` of images ``(B, 1 or 3, H, W)`` in [-1, 1] of any size."""
        height, width = x.shape[-2:]
        first, second, deepest = self.encoder.levels(bgr(pad_to_multiple(x, STRIDE), self.mean, self.std))
        both = torch.cat([self.level3_C(second), self.up_l3(self.br(deepest))], 1)
        h = torch.cat([self.up_l2(self.combine_l2_l3(both)), first], 1)
        logits: Tensor = self.classifier(self.conv(h))
        return logits[..., :height, :width]


class ESPNetC(Encoder):
    """The net of ``espnet_c``."""

    conditions: frozenset[str] = frozenset()
    channels = 3

    def __init__(self, classes: int, second: int, third: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(classes, second, third)
        self.mean, self.std = tuple(mean), tuple(std)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K, H / 8, W / 8)``, rounded up, of images ``(B, 1 or 3, H, W)`` in [-1, 1]."""
        return self.levels(bgr(pad_to_multiple(x, STRIDE), self.mean, self.std))[2]


def _conv2d(wide: int, deep: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(wide, deep, kernel, stride, dilation * (kernel // 2), dilation, bias=False)


def _conv(wide: int, deep: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(OrderedDict(conv=_conv2d(wide, deep, kernel, stride, dilation)))


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


def _activated(width: int, **before: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(**before, bn=_norm(width), act=nn.PReLU(width)))


def _doubled(width: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(width, width, 2, 2, bias=False)


MEAN, STD = (72.3923111, 82.90893555, 73.15840149), (45.3192215, 46.15289307, 44.91483307)
"""Of Cityscapes, blue, green and red in 8-bit units."""


@register("net")
def espnet(
    classes: Count = 20, second: CountOrZero = 2, third: CountOrZero = 8, mean: Values = MEAN, std: Values = STD
) -> ESPNet:
    """ESPNet (Mehta et al. 2018, arXiv 1803.06815): a segmenter of streets, its layers named as those of its authors.

    Args:
        classes: K, how many logits each place has.
        second: blocks at a quarter of the height and width, the paper's alpha_2, in names of files ``p``.
        third: blocks at an eighth, alpha_3, in names of files ``q``.
        mean: of the channels of the images that it was trained on, blue, green and red, in 8-bit units.
        std: their standard deviations.
    """
    return ESPNet(classes, second, third, mean, std)


@register("net")
def espnet_c(
    classes: Count = 20, second: CountOrZero = 2, third: CountOrZero = 3, mean: Values = MEAN, std: Values = STD
) -> ESPNetC:
    """The encoder of ``espnet`` alone, ESPNet-C, whose logits stand at an eighth of the height and width.

    Args:
        classes: K, how many logits each place has.
        second: blocks at a quarter of the height and width, ``p`` in names of files.
        third: blocks at an eighth, ``q`` in names of files.
        mean: of the channels of the images that it was trained on, blue, green and red, in 8-bit units.
        std: their standard deviations.
    """
    return ESPNetC(classes, second, third, mean, std)
