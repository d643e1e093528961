"""A small net of two answers: the restored image, and logits of each pixel behind it."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.nets.inputs import pad_to_multiple
from kdgen.models.scaling import Args, Family, Shapes, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import Count, Counts


def _block(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1))


class TwoHeaded(nn.Module):
    """The net of ``two_headed``: one U-Net, whose finest level gives the image and whose every level gives logits."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, classes: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.channels, self.classes, self.widths, self.blocks = channels, classes, tuple(widths), blocks
        steps = list(pairwise(widths))

        def level(width: int) -> nn.ModuleList:
            return nn.ModuleList(_block(width) for _ in range(blocks))

        self.head = nn.Conv2d(4 * channels, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(level(width) for width in widths)
        self.down = nn.ModuleList(nn.Conv2d(wide, deep, 3, stride=2, padding=1) for wide, deep in steps)
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, wide, 2, 2) for wide, deep in steps)
        self.decoder = nn.ModuleList(level(width) for width in widths[:-1])
        self.tail = nn.Conv2d(widths[0], 4 * channels, 3, padding=1)
        self.tell = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in widths)
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """He et al. 2015, eq. 10, with zero biases; what is added to something, and the heads, a tenth of that."""
        added = (self.tail, *self.tell, *(block[-1] for block in self.modules() if isinstance(block, nn.Sequential)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        for module in added:
            assert isinstance(module, nn.Conv2d)
            module.weight.mul_(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """Restore, and say what is there.

        Args:
            x: ``(B, C, H, W)`` in [-1, 1], any size.

        Returns:
            ``(B, C + K, H, W)``: the image, and logits of each pixel, sums of those of all levels, each resampled to
            the size of the image (nearest): the skips of Long et al. 2015 (arXiv 1411.4038), section 4.2.
        """
        height, width = x.shape[-2:]
        inner = pad_to_multiple(x, 2 ** len(self.widths))
        h, levels = F.relu(self.head(F.pixel_unshuffle(inner, 2))), list[Tensor]()
        for number, blocks in enumerate(self.encoder):
            if number:
                h = F.relu(self.down[number - 1](h))
            h = self._through(blocks, h)
            levels.append(h)
        for number in reversed(range(len(self.up))):
            levels[number] = self._through(self.decoder[number], self.up[number](levels[number + 1]) + levels[number])
        logits = self.tell[0](levels[0])
        for number, deep in enumerate(levels[1:], start=1):
            logits = logits + F.interpolate(self.tell[number](deep), scale_factor=float(2**number), mode="nearest")
        logits = F.interpolate(logits, scale_factor=2.0, mode="nearest")[..., :height, :width]
        return torch.cat([x - F.pixel_shuffle(self.tail(levels[0]), 2)[..., :height, :width], logits], dim=1)

    @staticmethod
    def _through(blocks: nn.Module, h: Tensor) -> Tensor:
        for block in blocks.children():
            h = h + block(h)
        return h

    def feature_layers(self) -> list[str]:
        """The head and the branches of the residual blocks, in order of use."""
        deep = [f"encoder.{level}.{i}" for level in range(len(self.widths)) for i in range(self.blocks)]
        back = [f"decoder.{level}.{i}" for level in reversed(range(len(self.up))) for i in range(self.blocks)]
        return ["head", *deep, *back]


def _fit(shapes: Shapes) -> Args:
    return {"channels": shapes.inputs[0], "classes": shapes.task.get("num_classes") or 1}


@register("net")
@scaled(Family(scale=scale_widths("widths", "blocks"), fit=_fit))
def two_headed(channels: Count = 1, classes: Count = 10, widths: Counts = (16, 32, 64), blocks: Count = 1) -> TwoHeaded:
    """A small U-Net that restores an image and tells the class of each pixel, for two tasks in one pass.

    Args:
        channels: channels C of its images.
        classes: how many K it tells.
        widths: channels at half, a quarter... of the resolution.
        blocks: residual blocks at each level, on the way down and on the way up.
    """
    return TwoHeaded(channels, classes, widths, blocks)
