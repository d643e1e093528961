"""SPAN: attention without parameters, trained by wider convolutions than it has in use (Wan et al. 2024)."""

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdgen.models.scaling import Family, fit_enlarging, scale_widths, scaled
from kdgen.registry import register
from kdgen.types.arguments import Channels, Count

BLOCKS = 6
"""As many as published ones have, which programs that open these rely on."""


class Conv3XC(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a 1x1 one, which add up to a 3x3 convolution: section 3.2.

    Nothing lies between them, so that their kernels are merged at every step and images pass the one convolution that
    these are, as in Bhardwaj et al. 2022 (arXiv 2103.09404), section 3.3: training costs little more than use.

    Attributes:
        gain: how many times as many channels there are within.
        eval_conv: the merged kernel, in ``state_dict`` alone, where published files have it.
    """

    def __init__(self, inputs: int, outputs: int, gain: int = 2) -> None:
        super().__init__()
        self.gain = gain
        self.sk = nn.Conv2d(inputs, outputs, 1)
        wide = (nn.Conv2d(inputs, gain * inputs, 1), nn.Conv2d(gain * inputs, gain * outputs, 3),
                nn.Conv2d(gain * outputs, outputs, 1))  # fmt: skip
        self.conv = nn.Sequential(*wide)
        self.eval_conv = nn.Module()
        for name, merged in zip(("weight", "bias"), self.merged(), strict=True):
            self.eval_conv.register_buffer(name, merged.detach())
        self.register_state_dict_pre_hook(_merge)  # type: ignore[no-untyped-call]

    def merged(self) -> tuple[Tensor, Tensor]:
        """The kernel ``(outputs, inputs, 3, 3)`` and the bias ``(outputs,)`` of the one convolution."""
        device = self.sk.weight.device.type
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            (w1, b1), (w2, b2), (w3, b3), (skip, b) = ((each.weight, each.bias) for each in (*self.conv, self.sk))
            inner = torch.einsum("oi,ijhw->ojhw", w3[..., 0, 0], w2)
            weight = torch.einsum("ojhw,ji->oihw", inner, w1[..., 0, 0]) + F.pad(skip, [1] * 4)
            return weight, inner.sum((2, 3)) @ b1 + w3[..., 0, 0] @ b2 + b3 + b

    def forward(self, x: Tensor) -> Tensor:
        """``(B, inputs, H, W)`` to ``(B, outputs, H, W)``."""
        return F.conv2d(x, *self.merged(), padding=1)

    @torch.no_grad()
    def folded(self) -> nn.Module:
        """The one convolution."""
        weight, bias = self.merged()
        out = nn.Conv2d(weight.shape[1], len(weight), 3, padding=1).to(weight)
        out.weight.copy_(weight)
        assert out.bias is not None
        out.bias.copy_(bias)
        return out


@torch.no_grad()
def _merge(module: nn.Module, prefix: str, keep: bool) -> None:
    """Have the merged kernel say what the others do, before it is read."""
    assert isinstance(module, Conv3XC)
    for name, merged in zip(("weight", "bias"), module.merged(), strict=True):
        module.eval_conv.get_buffer(name).copy_(merged)


class SPAB(nn.Module):
    """Three convolutions whose answer weighs itself and its input: equations 4 and 5."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.c1_r, self.c2_r, self.c3_r = (Conv3XC(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, width, H, W)`` to the same."""
        return self.rest(x, self.first(x))

    def first(self, x: Tensor) -> Tensor:
        """What its first activation says of ``x``."""
        return F.silu(self.c1_r(x))

    def rest(self, x: Tensor, first: Tensor) -> Tensor:
        """Its answer to ``x``, of which ``first`` is known."""
        h: Tensor = self.c3_r(F.silu(self.c2_r(first)))
        return (h + x) * (h.sigmoid() - 0.5)


class SPAN(nn.Module):
    """The net of ``span``; its keys are those of the published checkpoints, ``block_1.c1_r.sk.weight`` and so on."""

    conditions: frozenset[str] = frozenset()

    def __init__(self, channels: int, width: int, scale: int) -> None:
        super().__init__()
        self.conv_1, self.conv_2 = Conv3XC(channels, width), Conv3XC(width, width)
        for number in range(1, BLOCKS + 1):
            self.add_module(f"block_{number}", SPAB(width))
        self.conv_cat = nn.Conv2d(4 * width, width, 1)
        enlarging = nn.Conv2d(width, channels * scale**2, 3, padding=1)
        self.upsampler = nn.Sequential(enlarging, nn.PixelShuffle(scale))
        self.register_buffer("no_norm", torch.zeros(1))  # that values are read as they are, by the published layout
        self._begin(enlarging, min(channels, width), scale**2)

    @torch.no_grad()
    def _begin(self, enlarging: nn.Conv2d, kept: int, pixels: int) -> None:
        """Begin as little more than the image enlarged by repeating pixels, whose channels the first features are."""
        enlarging.weight.mul_(0.1)
        enlarging.weight[:, :kept] = 0
        for part in (self.conv_1.conv[2], self.conv_1.sk, self.conv_cat):
            for values in part.parameters():
                values[:kept] = 0
        for i in range(kept):
            self.conv_1.sk.weight[i, i] = self.conv_cat.weight[i, i] = 1
            enlarging.weight[i * pixels : (i + 1) * pixels, i, 1, 1] = 1

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, C, H, W)`` in [-1, 1] to ``(B, C, scale H, scale W)``; within, values lie in [0, 1]."""
        start = h = self.conv_1((x + 1) / 2)
        *blocks, last = (self.get_submodule(f"block_{number}") for number in range(1, BLOCKS + 1))
        early = h = blocks[0](h)
        for block in blocks[1:]:
            h = block(h)
        assert isinstance(last, SPAB)
        first = last.first(h)
        seen = [start, self.conv_2(last.rest(h, first)), early, first]
        out: Tensor = self.upsampler(self.conv_cat(torch.cat(seen, dim=1)))
        return 2 * out - 1

    def feature_layers(self) -> list[str]:
        """The blocks that are called as a whole, and what follows them."""
        return [*(f"block_{number}" for number in range(1, BLOCKS)), "conv_2"]


@register("net")
@scaled(Family(scale=scale_widths("width"), fit=fit_enlarging))
def span(channels: Channels = 3, width: Count = 24, scale: Count = 4) -> SPAN:
    """Swift parameter-free attention (Wan et al. 2024, arXiv 2311.12770), by 3x3 convolutions at low resolution.

    It is trained with five times the weights that it has in use; figures of its cost are those of use.

    Args:
        channels: channels C of its images.
        width: channels between convolutions.
        scale: how many times higher and wider images become; 1 restores images as they are.
    """
    return SPAN(channels, width, scale)
