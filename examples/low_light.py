"""Two nets that brighten photographs: Zero-DCE, by curves, and IAT, by a transformer of 91,154 parameters.

Both read and give images ``(B, 3, H, W)`` in [0, 1].
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen import register


@register("net")
class ZeroDce(nn.Module):
    """Zero-DCE (Guo et al. 2020, arXiv 2001.06826): every pixel passes curves that a small net draws for it.

    Args:
        width: channels between its convolutions.
        curves: how many each pixel passes, one after another.
    """

    def __init__(self, width: int = 32, curves: int = 8) -> None:
        super().__init__()
        inputs = (3, width, width, width, 2 * width, 2 * width, 2 * width)
        for number, each in enumerate(inputs, start=1):
            self.add_module(f"e_conv{number}", nn.Conv2d(each, width if number < 7 else 3 * curves, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Brighten: ``x - a x (1 - x)`` for each ``a`` of the curves, equation 2."""
        *layers, last = self.children()
        seen, h = list[Tensor](), x
        for number, layer in enumerate(layers):
            h = F.relu(layer(h if number < 4 else torch.cat([seen[6 - number], h], 1)))
            seen.append(h)
        curves: Tensor = last(torch.cat([seen[0], h], 1)).tanh()
        for a in curves.split(3, 1):
            x = x - a * x * (1 - x)
        return x


class ColourNorm(nn.Module):
    """A matrix, scale and shift of the channels in the place of a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha, self.beta = nn.Parameter(torch.ones(1, 1, width)), nn.Parameter(torch.zeros(1, 1, width))
        self.color = nn.Parameter(torch.eye(width))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        weight = self.alpha.view(-1, 1) * self.color
        return F.conv2d(x, weight[..., None, None], self.beta.flatten())


class Layers(nn.Module):
    """Two layers with a GELU between."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.fc1, self.fc2 = first, second

    def forward(self, x: Tensor) -> Tensor:
        """As the layers do."""
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class LocalBlock(nn.Module):
    """A transformer's block whose attention is a 5x5 convolution of each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pos_embed, self.attn = (nn.Conv2d(width, width, n, padding=n // 2, groups=width) for n in (3, 5))
        self.norm1, self.norm2 = ColourNorm(width), ColourNorm(width)
        self.conv1, self.conv2 = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.gamma_1, self.gamma_2 = (nn.Parameter(torch.full((1, width, 1, 1), 1e-4)) for _ in range(2))
        self.mlp = Layers(nn.Conv2d(width, 4 * width, 1), nn.Conv2d(4 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        x = x + self.pos_embed(x)
        x = x + self.gamma_1 * self.conv2(self.attn(self.conv1(self.norm1(x))))
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class Local(nn.Module):
    """What each pixel is multiplied by, and what is added to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 3, padding=1)
        self.mul_blocks, self.add_blocks = (nn.Sequential(*(LocalBlock(width) for _ in range(3))) for _ in range(2))
        self.mul_end, self.add_end = (
            nn.Sequential(nn.Conv2d(width, 3, 3, padding=1), last) for last in (nn.ReLU(), nn.Tanh())
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of ``(B, 3, H, W)``, both as large."""
        h = F.leaky_relu(self.conv1(x), 0.2)
        return self.mul_end(self.mul_blocks(h) + h), self.add_end(self.add_blocks(h) + h)


class Asking(nn.Module):
    """Attention of ten learnt questions to all places."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.q = heads, nn.Parameter(torch.ones(1, 10, width))
        self.k, self.v = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, N, width)`` to ``(B, 10, width)``."""
        asked = (self.q.expand(len(x), -1, -1), self.k(x), self.v(x))
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in asked)
        out: Tensor = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return out


class GlobalBlock(nn.Module):
    """The answers to ten questions about the whole image."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pos_embed = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.norm1, self.norm2, self.attn = nn.LayerNorm(width), nn.LayerNorm(width), Asking(width)
        self.mlp = Layers(nn.Linear(width, 4 * width), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to ``(B, 10, width)``."""
        x = x + self.pos_embed(x)
        h = self.attn(self.norm1(x.flatten(2).transpose(1, 2)))
        return h + self.mlp(self.norm2(h))


class Global(nn.Module):
    """The gamma and the colour matrix of an image, from the whole of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.gamma_base, self.color_base = nn.Parameter(torch.ones(1)), nn.Parameter(torch.eye(3))
        steps = [nn.Conv2d(3, half, 3, 2, 1), nn.BatchNorm2d(half), nn.GELU(),
                 nn.Conv2d(half, width, 3, 2, 1), nn.BatchNorm2d(width)]  # fmt: skip
        self.conv_large = nn.ModuleDict({"proj": nn.Sequential(*steps)})
        self.generator = GlobalBlock(width)
        self.gamma_linear, self.color_linear = nn.Linear(width, 1), nn.Linear(width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of ``(B, 3, H, W)``: gamma ``(B, 1, 1, 1)`` and matrix ``(B, 3, 3)``."""
        answers = self.generator(self.conv_large["proj"](x))
        gamma = self.gamma_linear(answers[:, :1]) + self.gamma_base
        return gamma[..., None], self.color_linear(answers[:, 1:]).view(-1, 3, 3) + self.color_base


@register("net")
class Iat(nn.Module):
    """IAT (Cui et al. 2022, arXiv 2205.14871): pixels are scaled and shifted, then colours mixed and gamma applied.

    What it does to the whole image depends on all of it: tiles of a larger one differ.

    Args:
        width: channels of what is done pixel by pixel.
        wide: channels of what is seen of the whole image.
    """

    def __init__(self, width: int = 16, wide: int = 64) -> None:
        super().__init__()
        self.local_net, self.global_net = Local(width), Global(wide)

    def forward(self, x: Tensor) -> Tensor:
        """Brighten."""
        multiplied, added = self.local_net(x)
        gamma, matrix = self.global_net(x)
        colours = torch.einsum("boc,bchw->bohw", matrix, x * multiplied + added)
        return colours.clamp(1e-8, 1) ** gamma
