"""Small published upscalers that are not told by their weights alone: IMDN, RLFN, SPAN as folded for use, SAFMN++.

All read images ``(B, 3, H, W)`` and give them ``scale`` times as high and wide. The parts are called as in the weights
of the challenges on efficient super-resolution, NTIRE 2022 (arXiv 2205.05675) and 2024 (arXiv 2404.10343).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen import register


def conv(inputs: int, outputs: int, size: int = 3, *, bias: bool = True) -> nn.Conv2d:
    """A convolution that keeps height and width."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=bias)


def enlarging(width: int, scale: int, *, bias: bool = True) -> list[nn.Module]:
    """From features to a larger image: a convolution whose channels become pixels."""
    return [conv(width, 3 * scale**2, bias=bias), nn.PixelShuffle(scale)]


class Distillation(nn.Module):
    """Three times a quarter of the channels is kept and the rest refined: Hui et al. 2019 (arXiv 1909.11856), 3.2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = (width // 4, width - width // 4)
        kept, rest = self.parts
        self.conv1, self.conv2, self.conv3 = (
            nn.Sequential(conv(inputs, width), nn.LeakyReLU(0.05)) for inputs in (width, rest, rest)
        )
        self.conv4, self.conv1x1 = conv(rest, kept), conv(4 * kept, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        kept, h = list[Tensor](), x
        for step in (self.conv1, self.conv2, self.conv3):
            part, h = step(h).split(self.parts, 1)
            kept.append(part)
        return x + self.conv1x1(torch.cat([*kept, self.conv4(h)], 1))


class Beside(nn.Module):
    """Layers, to whose output their input is added."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.sub = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Any shape that the layers keep."""
        return x + self.sub(x)


@register("net")
class Imdn(nn.Module):
    """IMDN (Hui et al. 2019, arXiv 1909.11856) without its attention, the baseline of NTIRE 2022.

    Args:
        width: channels between the blocks.
        blocks: how many there are.
        scale: how many times higher and wider images become.
    """

    def __init__(self, width: int = 64, blocks: int = 8, scale: int = 4) -> None:
        super().__init__()
        body = Beside(*(Distillation(width) for _ in range(blocks)), conv(width, width))
        self.model = nn.Sequential(conv(3, width), body, *enlarging(width, scale))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge."""
        out: Tensor = self.model(x)
        return out


class SpatialAttention(nn.Module):
    """Features weighed pixel by pixel by what is seen around them: Liu et al. 2020 (arXiv 2009.11551), section 3.3."""

    def __init__(self, width: int, inner: int = 16) -> None:
        super().__init__()
        self.conv1, self.conv_f, self.conv4 = conv(width, inner, 1), conv(inner, inner, 1), conv(inner, width, 1)
        self.conv2, self.conv3 = nn.Conv2d(inner, inner, 3, stride=2), conv(inner, inner)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` of 15 pixels or more to the same."""
        narrow = self.conv1(x)
        around = self.conv3(F.max_pool2d(self.conv2(narrow), 7, 3))
        around = F.interpolate(around, x.shape[-2:], mode="bilinear")
        return x * self.conv4(around + self.conv_f(narrow)).sigmoid()


class LocalBlock(nn.Module):
    """Three convolutions beside their input, and attention: Kong et al. 2022 (arXiv 2205.07514), section 3.1."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = conv(width, inner), conv(inner, inner), conv(inner, width)
        self.c5, self.esa = conv(width, width, 1), SpatialAttention(width)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        h = x
        for layer in (self.c1_r, self.c2_r, self.c3_r):
            h = F.leaky_relu(layer(h), 0.05)
        out: Tensor = self.esa(self.c5(h + x))
        return out


@register("net")
class Rlfn(nn.Module):
    """RLFN (Kong et al. 2022, arXiv 2205.07514), the fastest of NTIRE 2022. Its images are in [0, 255].

    Args:
        width: channels between the blocks.
        inner: channels within them.
        scale: how many times higher and wider images become.
    """

    def __init__(self, width: int = 46, inner: int = 48, scale: int = 4) -> None:
        super().__init__()
        self.fea_conv, self.LR_conv = conv(3, width), conv(width, width)
        self.B1, self.B2, self.B3, self.B4 = (LocalBlock(width, inner) for _ in range(4))
        self.upsampler = nn.Sequential(*enlarging(width, scale))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge."""
        first = self.fea_conv(x)
        out: Tensor = self.upsampler(self.LR_conv(self.B4(self.B3(self.B2(self.B1(first))))) + first)
        return out


class Folded(nn.Module):
    """A convolution under the name that it has where several were folded into one."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.eval_conv = conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H, W)``."""
        out: Tensor = self.eval_conv(x)
        return out


class SwiftBlock(nn.Module):
    """Attention without parameters: Wan et al. 2024 (arXiv 2311.12770), equations 4 and 5."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (Folded(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What it makes of ``(B, width, H, W)``, and what its first activation says, both as large."""
        first = F.silu(self.c1_r(x))
        h = self.c3_r(F.silu(self.c2_r(first)))
        return (h + x) * (h.sigmoid() - 0.5), first


@register("net")
class SpanFolded(nn.Module):
    """SPAN (Wan et al. 2024, arXiv 2311.12770) as its weights are after folding, the winner of NTIRE 2024.

    Args:
        width: channels between the blocks.
        scale: how many times higher and wider images become.
    """

    def __init__(self, width: int = 28, scale: int = 4) -> None:
        super().__init__()
        self.conv_1, self.conv_2, self.conv_cat = Folded(3, width), Folded(width, width), conv(4 * width, width, 1)
        for number in range(1, 7):
            self.add_module(f"block_{number}", SwiftBlock(width))
        self.upsampler = nn.Sequential(*enlarging(width, scale))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge images in [0, 1]."""
        mean = torch.tensor([0.4488, 0.4371, 0.4040]).to(x).view(1, 3, 1, 1)
        start = h = self.conv_1(255 * (x - mean))
        seen = []
        for number in range(1, 7):
            h, first = self.get_submodule(f"block_{number}")(h)
            seen.append((h, first))
        out: Tensor = self.upsampler(self.conv_cat(torch.cat([start, self.conv_2(h), seen[0][0], seen[5][1]], 1)))
        return out


class Modulation(nn.Module):
    """A third of the channels weighed by what is seen of them at an eighth of the size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = (width // 3, width - width // 3)
        self.proj, self.out = conv(width, width, bias=False), conv(width, width, 1, bias=False)
        self.dwconv = nn.Conv2d(width // 3, width // 3, 3, padding=1, groups=width // 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` of 8 pixels or more to the same."""
        height, width = x.shape[-2:]
        weighed, rest = self.proj(x).split(self.parts, 1)
        small = self.dwconv(F.adaptive_max_pool2d(weighed, (height // 8, width // 8)))
        weighed = F.gelu(F.interpolate(small, (height, width), mode="bilinear")) * weighed
        out: Tensor = self.out(F.gelu(torch.cat([rest, weighed], 1)))
        return out


class ModulationBlock(nn.Module):
    """Modulation, then a mix of neighbouring pixels."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        mix = nn.ModuleDict({"conv1": conv(width, inner, bias=False), "conv2": conv(inner, width, 1, bias=False)})
        self.conv1, self.conv2 = Modulation(width), mix

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        return x + self.conv2["conv2"](F.gelu(self.conv2["conv1"](self.conv1(x))))


@register("net")
class Safmnpp(nn.Module):
    """SAFMN++, which NTIRE 2024 describes, after SAFMN (Sun et al. 2023, arXiv 2302.13800).

    Args:
        width: channels between the blocks.
        blocks: how many there are.
        inner: channels within them.
        scale: how many times higher and wider images become.
    """

    def __init__(self, width: int = 36, blocks: int = 6, inner: int = 54, scale: int = 4) -> None:
        super().__init__()
        self.scale, self.to_feat = scale, conv(3, width, bias=False)
        self.feats = nn.Sequential(*(ModulationBlock(width, inner) for _ in range(blocks)))
        self.to_img = nn.Sequential(*enlarging(width, scale, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """Enlarge images of 8 pixels or more."""
        larger = F.interpolate(x, scale_factor=self.scale, mode="bilinear")
        return self.to_img(self.feats(self.to_feat(x))) + larger
