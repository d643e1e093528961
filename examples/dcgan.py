"""The generator of DCGAN (Radford et al. 2016, arXiv 1511.06434), with the keys that most published weights have."""

from torch import Tensor, nn

from kdgen import register


@register("net")
class Dcgan(nn.Module):
    """Transposed convolutions from a latent ``(B, Z)`` or ``(B, Z, 1, 1)`` to images ``(B, C, 64, 64)`` in [-1, 1].

    Args:
        latent: size Z of its latents.
        channels: channels C of its images.
        width: channels of the last feature map, of 32x32; each one before it has twice as many.
    """

    def __init__(self, latent: int = 100, channels: int = 3, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        last, wide = latent, 8 * width
        while wide >= width:
            stride, margin = (2, 1) if layers else (1, 0)
            layers += [nn.ConvTranspose2d(last, wide, 4, stride, margin, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            last, wide = wide, wide // 2
        self.main = nn.Sequential(*layers, nn.ConvTranspose2d(last, channels, 4, 2, 1, bias=False), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        """Draw."""
        image: Tensor = self.main(x.view(len(x), -1, 1, 1))
        return image
