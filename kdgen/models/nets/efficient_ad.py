"""A student of another net's features beside an autoencoder of them, whose answer it predicts."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.efficientnet_lite import Stride
from kdgen.models.nets.patch_features import PatchFeatures
from kdgen.registry import register
from kdgen.types.arguments import Channels, Count, CountOrZero

SIDE = 4
"""Height and width of what the bottleneck reads and gives, whatever the size of the image."""


class Autoencoder(nn.Module):
    """Features of an image, said through a bottleneck that all of the image passes.

    Batzner et al. 2024 (arXiv 2303.14535), section 3.3: it sees what belongs together, and nothing finer. As theirs it
    halves the image five times and keeps a single vector of it; its layers are fewer and narrower, and normalised.

    Args:
        channels: channels C of its images.
        features: channels D of the features.
        width: channels at half the size; twice as many from an eighth on.
        latents: numbers Z that pass.
        stride: pixels of the image to a side of a place of the features.
    """

    def __init__(self, channels: int, features: int, width: int, latents: int, stride: int) -> None:
        super().__init__()
        self.channels, self.stride = channels, stride
        deep = 2 * width
        widths = (channels, width, width, deep, deep, deep)
        self.encoder = nn.Sequential(*(_convolution(*pair, 2) for pair in pairwise(widths)))
        self.squeeze = nn.Conv2d(deep, latents, SIDE)
        self.spread = nn.Sequential(nn.ConvTranspose2d(latents, deep, SIDE), nn.ReLU())
        self.decoder = nn.ModuleList(_convolution(deep, deep) for _ in range(2))
        self.head = nn.Conv2d(deep, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, D, H / stride, W / stride)``, rounded up, of images ``(B, C, H, W)`` in [-1, 1]."""
        height, width = (-(-side // self.stride) for side in x.shape[-2:])
        h = self.squeeze(_resized(self.encoder(x.expand(-1, self.channels, -1, -1)), SIDE, SIDE))
        h = self.spread(h)
        for block, shrunk in zip(self.decoder, (2, 1), strict=True):
            h = block(_resized(h, -(-height // shrunk), -(-width // shrunk)))
        features: Tensor = self.head(h)
        return features


class Together(nn.Module):
    """A student with twice its teacher's channels, and an autoencoder, asked together."""

    def __init__(self, student: PatchFeatures, autoencoder: Autoencoder) -> None:
        super().__init__()
        self.student, self.autoencoder = student, autoencoder

    def forward(self, x: Tensor) -> Tensor:
        """What ``Autoencoded.together`` gives of images ``(B, C, H, W)``: ``(B, 3 D, h, w)``."""
        return torch.cat([self.student(x), self.autoencoder(x)], dim=1)


class EfficientAD(nn.Module):
    """The net of ``efficient_ad``; an ``Autoencoded`` one."""

    conditions: frozenset[str] = frozenset()
    together = "parts"

    def __init__(self, channels: int, features: int, parts: Together) -> None:
        super().__init__()
        self.channels, self.features, self.parts = channels, features, parts

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, D, H / stride, W / stride)``, rounded up, of images ``(B, C, H, W)`` in [-1, 1]."""
        features: Tensor = self.parts(x)[:, : self.features]
        return features

    def feature_layers(self) -> list[str]:
        """Those of the student, in order of use."""
        return [f"parts.student.{path}" for path in self.parts.student.feature_layers()]


def _convolution(wide: int, deep: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(wide, deep, 3, stride, 1, bias=False), nn.BatchNorm2d(deep), nn.ReLU())


def _resized(h: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(h, (height, width), mode="bilinear", align_corners=False)


@register("net")
def efficient_ad(
    channels: Channels = 3,
    features: Count = 40,
    width: Count = 16,
    depth: CountOrZero = 2,
    stride: Stride = 8,
    latents: Count = 64,
) -> EfficientAD:
    """A small student of a net's features that also predicts an autoencoder of them, which it holds.

    Batzner et al. 2024 (arXiv 2303.14535), section 3.3. Its answer is as that of ``patch_features``; the method
    ``global_feature`` teaches the rest, of which the task ``anomaly`` makes a second map. That answer does not
    depend on the autoencoder, which is computed with it all the same: the method finds it there, and for the second map
    a detector needs it, see ``fault_detector``. By default 140,584 parameters and, for a colour image of 128x128, 18.8
    million multiply-accumulates.

    Args:
        channels: channels C of its images.
        features: channels D of the features.
        width: of the student and of the autoencoder: channels at half the size.
        depth: separable convolutions of the student at the last size.
        stride: pixels of the image to a side of a place of the features.
        latents: numbers through which the autoencoder says all of an image.
    """
    student = PatchFeatures(channels, 2 * features, width, depth, stride)
    return EfficientAD(channels, features, Together(student, Autoencoder(channels, features, width, latents, stride)))


__all__ = ["Autoencoder", "EfficientAD", "Together", "efficient_ad"]
