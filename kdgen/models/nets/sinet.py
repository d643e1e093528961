"""SINet, a tiny segmenter of portraits (Park et al. 2020, arXiv 1911.09099)."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.espnet import Values
from kdgen.models.nets.inputs import bgr, pad_to_multiple
from kdgen.registry import register
from kdgen.types.arguments import Count

STRIDE = 32
"""Eighths of the height and width are shrunk by 4 once more."""

Branch = tuple[int, int]
"""The kernel of a branch, and how many times smaller its input is made."""

SECOND: tuple[tuple[Branch, Branch], ...] = (((3, 1), (5, 1)), ((3, 1), (3, 1)))
THIRD: tuple[tuple[Branch, Branch], ...] = (
    ((3, 1), (5, 1)), ((3, 1), (3, 1)), ((5, 1), (3, 2)), ((5, 2), (3, 4)),
    ((3, 1), (3, 1)), ((5, 1), (5, 1)), ((3, 2), (3, 4)), ((3, 1), (5, 2)),
)  # fmt: skip
"""The branches of the modules at a quarter and at an eighth of the height and width."""


class Squeeze(nn.Module):
    """Channels weighted by what the image holds of them on the whole (Hu et al. 2018, arXiv 1709.01507)."""

    def __init__(self, width: int, divide: int) -> None:
        super().__init__()
        inner = width // divide
        layers: list[nn.Module] = [nn.Linear(width, inner), nn.PReLU(inner)]
        self.dense = nn.Sequential(*layers, *([nn.Linear(inner, width), nn.PReLU(width)] if divide > 1 else []))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        weights: Tensor = self.dense(x.mean((2, 3)))
        return x * weights[..., None, None]


class Spatial(nn.Module):
    """A branch of an S2 module (section 3.1): a convolution by channels of an input that is made smaller before."""

    def __init__(self, width: int, branch: Branch) -> None:
        super().__init__()
        kernel, self.shrink = branch
        by_channels = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.conv = nn.Sequential(by_channels, _norm(width))
        self.act_conv1x1 = nn.Sequential(nn.PReLU(width), nn.Conv2d(width, width, 1, bias=False))
        self.bn = _norm(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        h = F.avg_pool2d(x, self.shrink) if self.shrink > 1 else x
        h = self.act_conv1x1(self.conv(h))
        out: Tensor = self.bn(_enlarged(h, self.shrink) if self.shrink > 1 else h)
        return out


class Module(nn.Module):
    """An S2 module: halved channels, shuffled, through two branches side by side."""

    def __init__(self, wide: int, deep: int, branches: tuple[Branch, Branch]) -> None:
        super().__init__()
        width, self.residual = deep // 2, wide == deep
        self.c1 = nn.Sequential(OrderedDict(conv=nn.Conv2d(wide, width, 1, groups=2, bias=False)))
        self.shuffle = nn.ChannelShuffle(2)
        self.d1, self.d2 = (Spatial(width, branch) for branch in branches)
        self.BR = _activated(deep)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, wide, H, W)`` to ``(B, deep, H, W)``."""
        h = self.shuffle(self.c1(x))
        h = torch.cat([self.d1(h), self.d2(h)], 1)
        out: Tensor = self.BR(x + h if self.residual else h)
        return out


class Encoder(nn.Module):
    """Logits at an eighth of the height and width."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.level1 = _activated(12, conv=nn.Conv2d(3, 12, 3, 2, 1, bias=False))
        self.level2_0 = _down(12, 16, divide=1)
        self.level2 = nn.Sequential(*(Module(48 if i else 16, 48, pair) for i, pair in enumerate(SECOND)))
        self.BR2 = _activated(64)
        self.level3_0 = _down(64, 48, divide=2)
        self.level3 = nn.Sequential(*(Module(96 if i else 48, 96, pair) for i, pair in enumerate(THIRD)))
        self.BR3 = _activated(144)
        self.classifier = nn.Sequential(OrderedDict(conv=nn.Conv2d(144, classes, 1, bias=False)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(B, 48, H / 4, W / 4)``, and logits ``(B, K, H / 8, W / 8)``."""
        below = self.level2_0(self.level1(x))
        second = self.level2(below)
        deepest = self.level3_0(self.BR2(torch.cat([below, second], 1)))
        return second, self.classifier(self.BR3(torch.cat([deepest, self.level3(deepest)], 1)))


class SINet(nn.Module):
    """The net of ``sinet``."""

    conditions: frozenset[str] = frozenset()
    channels = 3

    def __init__(self, classes: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean, self.std = tuple(mean), tuple(std)
        self.encoder = Encoder(classes)
        self.bn_3, self.bn_2 = _norm(classes), _norm(classes)
        self.level2_C = _activated(classes, conv=nn.Conv2d(48, classes, 1, bias=False))
        self.classifier = nn.Sequential(
            nn.UpsamplingBilinear2d(scale_factor=2), nn.Conv2d(classes, classes, 3, padding=1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K, H, W)`` of images ``(B, 1 or 3, H, W)`` in [-1, 1] of any size.

        Of the finer features counts what the coarser logits are unsure of (information blocking, section 3.2).
        """
        height, width = x.shape[-2:]
        finer, coarse = self.encoder(bgr(pad_to_multiple(x, STRIDE), self.mean, self.std))
        coarse = self.bn_3(_enlarged(coarse, 2))
        unsure = 1 - coarse.softmax(1).amax(1, keepdim=True)
        logits: Tensor = self.classifier(self.bn_2(_enlarged(self.level2_C(finer) * unsure + coarse, 2)))
        return logits[..., :height, :width]


def _enlarged(x: Tensor, times: int) -> Tensor:
    return F.interpolate(x, scale_factor=times, mode="bilinear", align_corners=True)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


def _activated(width: int, **before: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(**before, bn=_norm(width), act=nn.PReLU(width)))


def _down(wide: int, deep: int, *, divide: int) -> nn.Sequential:
    by_channels = nn.Conv2d(wide, wide, 3, 2, 1, groups=wide, bias=False)
    squeezed = nn.Sequential(by_channels, Squeeze(wide, divide), nn.Conv2d(wide, deep, 1, bias=False))
    return _activated(deep, conv=squeezed)


@register("net")
def sinet(
    classes: Count = 2, mean: Values = (107.304565, 115.69884, 132.35703), std: Values = (63.97182, 65.1337, 68.29726)
) -> SINet:
    """SINet (Park et al. 2020, arXiv 1911.09099): a tiny segmenter of portraits, its layers named as by its authors.

    Args:
        classes: K, how many logits each place has; of portraits 0 is the background and 1 the person.
        mean: of the channels of the images that it was trained on, blue, green and red, in 8-bit units.
        std: their standard deviations.
    """
    return SINet(classes, mean, std)
