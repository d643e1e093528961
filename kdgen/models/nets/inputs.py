"""What several nets do to their inputs: padding to a multiple, a map of the noise level, the class beside latents."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdgen.types import UserError, text

PULLS = 6
"""How often squares are doubled to fill holes: what squares of 64 pixels lack is the mean of all that is there."""


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """``(B, C, H, W)`` with its last row and column repeated until height and width divide by ``multiple``.

    An exported net always pads, by nothing where nothing is needed, so that it takes any size.
    """
    return _padded(x, multiple, mode="replicate")


def _padded(x: Tensor, multiple: int, *, mode: str) -> Tensor:
    bottom, right = ((n + multiple - 1) // multiple * multiple - n for n in x.shape[-2:])
    needed = torch.compiler.is_exporting() or right or bottom
    return F.pad(x, (0, right, 0, bottom), mode=mode) if needed else x


def level_map(sigma: Tensor | None, like: Tensor) -> Tensor:
    """The noise level ``sigma`` ``(B,)``, in units of the image range, as a constant map ``(B, 1, H, W)``.

    Raises:
        UserError: if there is no noise level.
    """
    if sigma is None:
        raise UserError(text("net_sigma", "this net is told the noise level: call it with sigma (B,), or pick a "
                             "blind net"))  # fmt: skip
    return sigma.to(like).view(-1, 1, 1, 1).expand(like.shape[0], 1, *like.shape[-2:])


def bgr(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """What nets read that were trained on images as OpenCV gives them: ``(v - mean) / std / 255``, blue first.

    Args:
        x: images ``(B, 1 or 3, H, W)`` in [-1, 1].
        mean: of each channel in 8-bit units ``v``, blue, green and red.
        std: likewise.
    """
    values = 127.5 * (x.expand(-1, 3, -1, -1).flip(1) + 1)
    return (values - values.new_tensor(mean).view(3, 1, 1)) / (255 * values.new_tensor(std).view(3, 1, 1))


def lit(x: Tensor, stops: Tensor) -> Tensor:
    """Images ``(B, C, H, W)`` whose light, 0 at -1, is doubled ``stops`` times ``(B,)``; what is beyond 1 stays."""
    return (x + 1) * stops.to(x).exp2().view(-1, 1, 1, 1) - 1


def filled(x: Tensor, mask: Tensor) -> Tensor:
    """Images with their holes filled from around, the farther the smoother.

    Pull and push of Gortler et al. 1996, "The Lumigraph", section 3.4.2: means of what is there over ever larger
    squares, of which each lends the next smaller ones what they lack.

    Args:
        x: ``(B, C, H, W)``.
        mask: ``(B, 1, H, W)``, 1 where pixels are missing and 0 elsewhere.
    """
    height, width = x.shape[-2:]
    present = 1 - mask.to(x)
    pulled = [_padded(torch.cat([x * present, present], 1), 2**PULLS, mode="constant")]
    for _ in range(PULLS):
        pulled.append(F.avg_pool2d(pulled[-1], 2))
    everywhere = pulled[-1].mean((-2, -1), keepdim=True)
    out = everywhere[:, :-1] / everywhere[:, -1:].clamp_min(2**-20)
    for part in reversed(pulled):
        out = part[:, :-1] + (1 - part[:, -1:]) * out
        out = out if part is pulled[0] else F.interpolate(out, scale_factor=2, mode="bilinear")
    return out[..., :height, :width]


def with_class(z: Tensor, label: Tensor | None, num_classes: int) -> Tensor:
    """Latents ``(B, Z)`` with the class behind them, ``num_classes`` entries of which one is 1; without classes as is.

    Mirza & Osindero 2014 (arXiv 1411.1784), section 3.2.

    Raises:
        UserError: if there are classes and no ``label`` ``(B,)``.
    """
    if not num_classes:
        return z
    if label is None:
        raise UserError(text("net_label", "this net is told the class, one of {classes}: call it with label (B,)",
                             classes=num_classes))  # fmt: skip
    return torch.cat([z, F.one_hot(label.long(), num_classes).to(z)], dim=1)
