"""The generator of PyTorch's DCGAN example (Radford et al. 2016, arXiv 1511.06434)."""

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn

from kdgen.registry import register


class Dcgan(nn.Module):
    """The net of ``dcgan``."""

    def __init__(self, latent: int, channels: int, width: int, doublings: int) -> None:
        super().__init__()
        widths = [latent, *(width << i for i in reversed(range(doublings)))]
        layers: list[nn.Module] = []
        for number, (wide, slim) in enumerate(pairwise(widths)):
            stride, padding = (2, 1) if number else (1, 0)
            conv = nn.ConvTranspose2d(wide, slim, 4, stride, padding, bias=False)
            layers += [conv, nn.BatchNorm2d(slim), nn.ReLU()]
        last = nn.ConvTranspose2d(width, channels, 4, 2, 1, bias=False)
        self.main = nn.Sequential(OrderedDict((str(i), layer) for i, layer in enumerate([*layers, last, nn.Tanh()])))

    def forward(self, x: Tensor, **cond: Tensor) -> Tensor:
        """Standard normal latents ``(B, Z)`` to images ``(B, C, H, W)`` in [-1, 1]."""
        image: Tensor = self.main(x.flatten(1)[..., None, None])
        return image


@register("net")
def dcgan(latent: int = 100, channels: int = 3, width: int = 64, doublings: int = 4) -> Dcgan:
    """The generator of PyTorch's DCGAN example: transposed convolutions of 4x4.

    Args:
        latent: size Z of its latents.
        channels: channels C of its images.
        width: channels of the last feature map; each one before it has twice as many.
        doublings: feature maps; images are 4 pixels doubled so often.
    """
    return Dcgan(latent, channels, width, doublings)
