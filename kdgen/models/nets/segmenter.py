"""A small segmenter: separable convolutions at a fraction of the height and width, from coarse to fine."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.inputs import pad_to_multiple
from kdgen.models.nets.wnet import fit_places
from kdgen.models.scaling import Family, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import AnyChannels, Count, Counts

EACH_PLACE = {"reads": "images", "gives": "logits", "dense": True}
"""Tasks that say something of each place of an image."""

DILATIONS = (1, 2, 4)


class Separable(nn.Module):
    """``relu(x + block(x))`` of a dilated convolution by channels and one of single places (Howard et al. 2017)."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        by_channels = nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, groups=width, bias=False)
        places = nn.Conv2d(width, width, 1, bias=False)
        self.block = nn.Sequential(by_channels, nn.BatchNorm2d(width), nn.ReLU(), places, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        return F.relu(x + self.block(x))


class Segmenter(nn.Module):
    """The net of ``segmenter``."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, classes: int, widths: Sequence[int], blocks: int, stride: int) -> None:
        super().__init__()
        self.channels, self.blocks = channels, blocks
        halvings = stride.bit_length() - 1
        narrow = [max(widths[0] >> left, 1) for left in reversed(range(max(halvings, 1)))]
        steps = pairwise([channels, *narrow])
        self.stem = nn.Sequential(*(_conv(wide, deep, 2 if halvings else 1) for wide, deep in steps))
        self.levels = nn.ModuleList(
            nn.Sequential(*(Separable(width, DILATIONS[i % len(DILATIONS)]) for i in range(blocks))) for width in widths
        )
        self.down = nn.ModuleList(_conv(wide, deep, 2) for wide, deep in pairwise(widths))
        self.across = nn.ModuleList(nn.Conv2d(deep, wide, 1) for wide, deep in pairwise(widths))
        self.head = nn.Conv2d(widths[0], classes, 1)
        self.multiple = stride * 2 ** (len(widths) - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K, H, W)`` of images ``(B, 1 or C, H, W)`` in [-1, 1] of any size, bilinear between places."""
        height, width = x.shape[-2:]
        inner = pad_to_multiple(x, self.multiple).expand(-1, self.channels, -1, -1)
        h = self.levels[0](self.stem(inner))
        seen = []
        for down, level in zip(self.down, list(self.levels)[1:], strict=True):
            seen.append(h)
            h = level(down(h))
        for across in reversed(self.across):
            finer = seen.pop()
            h = finer + F.interpolate(across(h), scale_factor=2, mode="bilinear")
        logits = F.interpolate(self.head(h), inner.shape[-2:], mode="bilinear")
        return logits[..., :height, :width]

    def feature_layers(self) -> list[str]:
        """The stem and the blocks, in order of use."""
        return ["stem", *(f"levels.{i}.{j}" for i in range(len(self.levels)) for j in range(self.blocks))]


def _conv(wide: int, deep: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, deep, 3, stride, 1, bias=False), nn.BatchNorm2d(deep), nn.ReLU())


@register("net")
@scaled(Family(scale=scale_widths("widths", "blocks"), fit=fit_places, does=EACH_PLACE))
def segmenter(
    channels: AnyChannels = 3,
    classes: Count = 2,
    widths: Counts = (16, 32, 48),
    blocks: Count = 2,
    stride: Literal[1, 2, 4] = 4,
) -> Segmenter:
    """A small segmenter: logits for each place from separable convolutions at a fraction of the height and width.

    A U-Net (Ronneberger et al. 2015) of residual blocks of depthwise and pointwise convolutions, dilated in turn by 1,
    2 and 4, whose skips are sums.

    Args:
        channels: channels C of its images; with 3 it also reads grey ones.
        classes: K, how many logits each place has.
        widths: channels of the levels, each half as high and wide as the one before.
        blocks: of each level.
        stride: how many times smaller the first level is than the image; 1 or 2 for what is thin, vessels say.
    """
    return Segmenter(channels, classes, widths, blocks, stride)
