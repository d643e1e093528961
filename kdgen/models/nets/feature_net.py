"""A small residual classifier whose features compare images of 32x32."""

import torch
from torch import Tensor, nn

from kdgen.registry import register
from kdgen.types.arguments import AnyChannels, Count, CountOrZero


class Stage(nn.Module):
    """Half the size, then a residual block: ``(B, wide, H, W)`` to ``(B, deep, H/2, W/2)``."""

    def __init__(self, wide: int, deep: int) -> None:
        super().__init__()
        self.down = _conv(wide, deep, stride=2)
        self.block = nn.Sequential(_conv(deep, deep), nn.ReLU(), _conv(deep, deep))

    def forward(self, x: Tensor) -> Tensor:
        """``relu(h + block(h))`` of the halved input."""
        h = torch.relu(self.down(x))
        return torch.relu(h + self.block(h))


class FeatureNet(nn.Module):
    """The net of ``feature_net``: a residual net (He et al. 2016, arXiv 1512.03385) of three stages.

    Attributes:
        classes: number of logits; 0 for a net without a head, whose answer are the features.
    """

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, width: int, classes: int) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes
        self.stem = _conv(channels, width)
        self.stages = nn.ModuleList([Stage(width, width), Stage(width, 2 * width), Stage(2 * width, 4 * width)])
        self.head = nn.Linear(4 * width, classes) if classes else nn.Identity()

    def maps(self, x: Tensor) -> list[Tensor]:
        """The outputs of the stages for images ``(B, 1 or C, H, W)`` in [-1, 1], each ``(B, width, h, w)``."""
        h = torch.relu(self.stem(x.expand(-1, self.channels, -1, -1)))
        outputs = []
        for stage in self.stages:
            h = stage(h)
            outputs.append(h)
        return outputs

    def features(self, x: Tensor) -> Tensor:
        """The last map averaged over positions, ``(B, D)`` with D four times the width."""
        return self.maps(x)[-1].mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(B, K)`` of images ``(B, 1 or C, H, W)`` in [-1, 1], at least 8x8."""
        logits: Tensor = self.head(self.features(x))
        return logits

    def feature_layers(self) -> list[str]:
        """The stages, in order of use."""
        return [f"stages.{i}" for i in range(len(self.stages))]


def _conv(wide: int, deep: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, deep, 3, stride, 1, bias=False), nn.BatchNorm2d(deep))


@register("net")
def feature_net(channels: AnyChannels = 3, width: Count = 24, classes: CountOrZero = 10) -> FeatureNet:
    """A small residual classifier, the architecture of the bundled features.

    Args:
        channels: channels C of its images; with 3 it also reads grey ones.
        width: channels of the first stage; the last has four times as many.
        classes: number of logits; 0 leaves the head out, and the answer are the features.
    """
    return FeatureNet(channels, width, classes)
