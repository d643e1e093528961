"""EDM2's U-Net, written from its paper (Karras et al. 2024, arXiv 2312.02696), that opens the weights of NVlabs/edm2.

Those are published as pickles under CC BY-NC-SA. Where its code and that licence suit you, turn one into safetensors in
an environment of its own, `save_file(pickle.load(file)["ema"].state_dict(), "edm2-img64-s.safetensors")`, and declare
that as `edm2.json` does. Magnitudes of features are kept by construction: equations are those of the paper.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen import register
from kdgen.diffusion import Preconditioning

HEAD = 64
"""Channels of a head of attention."""


def unit(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """The same at a root mean square of 1 along some dimensions."""
    norm = torch.linalg.vector_norm(x, dim=dim, keepdim=True)
    return x / (1e-4 + norm * math.sqrt(norm.numel() / x.numel()))


def silu(x: Tensor) -> Tensor:
    """SiLU of magnitude 1, eq. 81."""
    return F.silu(x) / 0.596


def blend(a: Tensor, b: Tensor, share: float) -> Tensor:
    """A sum of magnitude 1, a share of it ``b``, eq. 88."""
    return torch.lerp(a, b, share) / math.hypot(1 - share, share)


def joined(a: Tensor, b: Tensor) -> Tensor:
    """Both behind one another, each adding as much to the magnitude, eq. 103."""
    half = math.sqrt((a.shape[1] + b.shape[1]) / 2)
    return torch.cat([a * (half / math.sqrt(a.shape[1])), b * (half / math.sqrt(b.shape[1]))], 1)


class Fourier(nn.Module):
    """Cosines of a number ``(B,)`` at random frequencies and phases, ``(B, width)``, eq. 75."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("freqs", 2 * math.pi * torch.randn(width))
        self.register_buffer("phases", 2 * math.pi * torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        """Of magnitude 1."""
        return math.sqrt(2) * (x[:, None] * self.freqs + self.phases).cos()


class Mix(nn.Module):
    """A convolution, or a linear layer where no side is given, whose filters have length 1, eq. 47."""

    def __init__(self, inputs: int, outputs: int, *sides: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, *sides))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """Of the magnitude of ``x``, times a gain."""
        weight = unit(self.weight, tuple(range(1, self.weight.ndim))) * (gain / math.sqrt(self.weight[0].numel()))
        return F.linear(x, weight) if x.ndim == 2 else F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class Block(nn.Module):
    """A residual block of the way down or up, and its attention: figure 21."""

    def __init__(self, inputs: int, outputs: int, told: int, *, down: bool, attend: bool = False) -> None:
        super().__init__()
        self.down, self.outputs = down, outputs
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = Mix(outputs if down else inputs, outputs, 3, 3)
        self.emb_linear = Mix(told, outputs)
        self.conv_res1 = Mix(outputs, outputs, 3, 3)
        self.conv_skip = Mix(inputs, outputs, 1, 1) if inputs != outputs else nn.Identity()
        self.attn_qkv = Mix(outputs, 3 * outputs, 1, 1) if attend else None
        self.attn_proj = Mix(outputs, outputs, 1, 1) if attend else nn.Identity()

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        """Features ``(B, inputs, H, W)``, told ``(B, told)``, to ``(B, outputs, H, W)``."""
        x = unit(self.conv_skip(x), 1) if self.down else x
        scale = 1 + self.emb_linear(told, self.emb_gain)
        residual = self.conv_res1(silu(self.conv_res0(silu(x)) * scale[..., None, None]))
        x = blend(x if self.down else self.conv_skip(x), residual, 0.3)
        if self.attn_qkv is not None:
            heads = max(self.outputs // HEAD, 1)
            q, k, v = unit(self.attn_qkv(x).unflatten(1, (heads, -1, 3)).flatten(4), 2).movedim(2, 4).unbind(2)
            seen = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(x.shape)
            x = blend(x, self.attn_proj(seen), 0.3)
        return x.clamp(-256, 256)


class Unet(nn.Module):
    """``F(c_in x; c_noise, class)``, ``(B, C, H, W)``."""

    def __init__(
        self, size: int, channels: int, classes: int, widths: Sequence[int], depth: int, attend: Sequence[int]
    ):
        super().__init__()
        told = max(widths)
        self.emb_fourier, self.emb_noise = Fourier(widths[0]), Mix(widths[0], told)
        self.emb_label = Mix(classes, told) if classes else None
        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        self.enc[f"{size}x{size}_conv"] = Mix(channels + 1, width := widths[0], 3, 3)
        skips = [width]
        for level, wide in enumerate(widths):
            side, attention = size >> level, size >> level in attend
            if level:
                self.enc[f"{side}x{side}_down"] = Block(width, width, told, down=True)
                skips.append(width)
            for i in range(depth):
                self.enc[f"{side}x{side}_block{i}"] = Block(width, wide, told, down=True, attend=attention)
                skips.append(width := wide)
        for level, wide in reversed([*enumerate(widths)]):
            side, attention = size >> level, size >> level in attend
            for name in ("up",) if level < len(widths) - 1 else ("in0", "in1"):
                self.dec[f"{side}x{side}_{name}"] = Block(width, width, told, down=False, attend=name == "in0")
            for i in range(depth + 1):
                inputs = width + skips.pop()
                self.dec[f"{side}x{side}_block{i}"] = Block(inputs, width := wide, told, down=False, attend=attention)
        self.out_conv, self.out_gain = Mix(width, channels, 3, 3), nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        """Images ``(B, C, H, W)`` and ``noise`` ``(B,)`` as EDM shows them, and ``label`` ``(B,)`` to its answer."""
        told = self.emb_noise(self.emb_fourier(noise))
        if self.emb_label is not None and label is not None:
            classes = self.emb_label.weight.shape[1]
            one = F.one_hot(label, classes + 1)[:, :classes].to(x.dtype)
            told = blend(told, self.emb_label(one * math.sqrt(classes)), 0.5)
        told, skips = silu(told), list[Tensor]()
        x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        for name, block in self.enc.items():
            x = F.avg_pool2d(x, 2) if name.endswith("down") else x
            x = block(x) if name.endswith("conv") else block(x, told)
            skips.append(x)
        for name, block in self.dec.items():
            x = F.interpolate(x, scale_factor=2.0) if name.endswith("up") else x
            x = block(joined(x, skips.pop()) if "block" in name else x, told)
        return self.out_conv(x, self.out_gain)


@register("net")
class Edm2(nn.Module):
    """Noisy images ``(B, C, H, W)``, their ``sigma`` ``(B,)`` and, of one with classes, ``label`` ``(B,)`` to denoised.

    The label behind the last class is no class.

    Args:
        size: height and width of its images in pixels.
        channels: of its images.
        num_classes: 0 without.
        width: channels at full resolution.
        multiples: of these, at full, half, quarter... resolution.
        depth: blocks at each on the way down; one more on the way up.
        attend: heights at which blocks have attention.
        sigma_data: standard deviation of the data.
    """

    def __init__(
        self, size: int = 64, channels: int = 3, num_classes: int = 1000, width: int = 192,
        multiples: Sequence[int] = (1, 2, 3, 4), depth: int = 3, attend: Sequence[int] = (16, 8),
        sigma_data: float = 0.5,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conditions = frozenset({"sigma", "label"} if num_classes else {"sigma"})
        self.edm = Preconditioning(sigma_data)
        self.unet = Unet(size, channels, num_classes, [width * each for each in multiples], depth, attend)

    def forward(self, x: Tensor, *, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        """The denoised images, ``(B, C, H, W)``, of ``x = y + sigma * n``: Karras et al. 2022, eq. 7."""
        shown, noise = self.edm.shown(x, sigma)
        return self.edm.denoised(self.unet(shown, noise, label), x, sigma)
