"""A small student of another net's features: separable convolutions down to their stride."""

from collections.abc import Iterator

from torch import Tensor, nn

from kdgen.models.nets.efficientnet_lite import Stride
from kdgen.models.scaling import Args, Family, Shapes, scaled, scaled_width
from kdgen.registry import register
from kdgen.types.arguments import Channels, Count, CountOrZero


class Separable(nn.Sequential):
    """By place, then by channel (Howard et al. 2017, arXiv 1704.04861): ``(B, wide, H, W)`` to ``(B, deep, ...)``."""

    def __init__(self, wide: int, deep: int, stride: int = 1) -> None:
        by_place = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)
        by_channel = nn.Conv2d(wide, deep, 1, bias=False)
        super().__init__(by_place, nn.BatchNorm2d(wide), nn.ReLU(), by_channel, nn.BatchNorm2d(deep), nn.ReLU())


class PatchFeatures(nn.Module):
    """The net of ``patch_features``."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, features: int, width: int, depth: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks: list[nn.Module] = []
        while stride > 2:
            blocks.append(Separable(width, 2 * width, 2))
            width, stride = 2 * width, stride // 2
        self.body = nn.ModuleList([*blocks, *(Separable(width, width) for _ in range(depth))])
        self.head = nn.Conv2d(width, features, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, D, H / stride, W / stride)``, rounded up, of images ``(B, C, H, W)`` in [-1, 1]."""
        h = self.stem(x.expand(-1, self.channels, -1, -1))
        for block in self.body:
            h = block(h)
        features: Tensor = self.head(h)
        return features

    def feature_layers(self) -> list[str]:
        """The stem and the blocks, in order of use."""
        return ["stem", *(f"body.{i}" for i in range(len(self.body)))]


def _scale(args: Args, scale: float) -> Iterator[Args]:
    wide = {**args, "width": scaled_width(args["width"], scale, 4)}
    yield from ({**wide, "depth": depth} for depth in range(args["depth"], -1, -1))


def _fit(shapes: Shapes) -> Args:
    stride = max(round(shapes.inputs[-1] / shapes.outputs[-1]), 2)
    return {"channels": shapes.inputs[0], "features": shapes.outputs[0], "stride": 1 << (stride - 1).bit_length()}


@register("net")
@scaled(Family(scale=_scale, fit=_fit, does={"gives": "features"}))
def patch_features(
    channels: Channels = 3, features: Count = 40, width: Count = 16, depth: CountOrZero = 2, stride: Stride = 8
) -> PatchFeatures:
    """A small student of a net's features: separable convolutions, each place of which sees a patch of the image.

    By default 16,200 parameters and, for a colour image of 128x128, 6.1 million multiply-accumulates.

    Args:
        channels: channels C of its images.
        features: channels D of the features.
        width: channels at half the size; they double each time that the size is halved.
        depth: separable convolutions at the last size.
        stride: pixels of the image to a side of a place of the features.
    """
    return PatchFeatures(channels, features, width, depth, stride)


__all__ = ["PatchFeatures", "patch_features"]
