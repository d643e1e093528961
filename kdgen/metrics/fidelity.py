"""How close an image is to the truth."""

import torch
import torch.nn.functional as F
from torch import Tensor

RANGE = 2.0
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_STEADY = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
"""What keeps the quotients of flat windows steady: C1 for brightness and C2 for contrast."""
FLAT = 1e-8
"""Gradient energy below which an image counts as flat: that of steps of 1/10,000 between neighbours."""


def psnr(out: Tensor, truth: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, ``10 log10(2^2 / MSE)``, at most 100 dB so that it stays finite.

    Args:
        out: ``(B, C, H, W)``, clamped to [-1, 1] by the caller.
        truth: ``(B, C, H, W)`` in [-1, 1].

    Returns:
        ``(B,)`` in dB.
    """
    _check(out, truth)
    mse = (out.float() - truth.float()).square().mean((1, 2, 3))
    return 10 * torch.log10(RANGE**2 / mse.clamp_min(RANGE**2 * 1e-10))


def ssim(out: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity, Wang, Bovik, Sheikh & Simoncelli, IEEE TIP 13(4), 2004, Gaussian window of 11x11.

    Windows that reach beyond the image do not count. An image smaller than the window is first extended by repeating
    its border.

    Args:
        out: ``(B, C, H, W)``, clamped to [-1, 1] by the caller.
        truth: ``(B, C, H, W)`` in [-1, 1].

    Returns:
        ``(B,)`` in [-1, 1].
    """
    _check(out, truth)
    height, width = (max(SSIM_WINDOW - extent, 0) for extent in truth.shape[-2:])
    margin = (width // 2, width - width // 2, height // 2, height - height // 2)
    out, truth = (F.pad(x.float(), margin, mode="replicate") for x in (out, truth))
    mean, truth_mean, square, truth_square, product = _windows(
        torch.stack([out, truth, out.square(), truth.square(), out * truth])
    )
    variance, truth_variance = (square - mean.square()).clamp_min(0), (truth_square - truth_mean.square()).clamp_min(0)
    brightness, contrast = SSIM_STEADY
    alike = (2 * mean * truth_mean + brightness) * (2 * (product - mean * truth_mean) + contrast)
    most = (mean.square() + truth_mean.square() + brightness) * (variance + truth_variance + contrast)
    values: Tensor = (alike / most).mean((1, 2, 3))
    return values


def _windows(x: Tensor) -> Tensor:
    """Means of ``(..., H, W)`` in Gaussian windows that lie within the image: ``(..., H - 10, W - 10)``."""
    offset = torch.arange(SSIM_WINDOW, device=x.device) - SSIM_WINDOW // 2
    weight = torch.softmax(-0.5 * (offset / SSIM_SIGMA).square(), 0)
    planes = x.flatten(0, -3)[None]  # as channels of their own, which is fastest
    count = planes.shape[1]
    for shape in ((1, SSIM_WINDOW), (SSIM_WINDOW, 1)):
        planes = F.conv2d(planes, weight.expand(count, -1).view(count, 1, *shape), groups=count)
    return planes.view(*x.shape[:-2], *planes.shape[-2:])


def sharpness(out: Tensor, truth: Tensor) -> Tensor:
    """An image's gradient energy as a share of the truth's, ``E(out) / E(truth)`` with E of ``gradient_energy``.

    1 is as sharp as the truth, below is blurred; noise that is left counts as sharpness, so read it beside the PSNR.
    It is 1 by definition where the truth is flat.

    Args:
        out: ``(B, C, H, W)``, any range.
        truth: ``(B, C, H, W)``.

    Returns:
        ``(B,)``, 0 and above.
    """
    _check(out, truth)
    energy, truth_energy = gradient_energy(out), gradient_energy(truth)
    return torch.where(truth_energy > FLAT, energy / truth_energy.clamp_min(FLAT), torch.ones_like(energy))


def gradient_energy(x: Tensor) -> Tensor:
    """The mean of ``dx^2 + dy^2`` over pixels and channels of images ``(B, C, H, W)``: ``(B,)``, float32.

    ``dx`` and ``dy`` are the next pixel minus this one, across and down; 0 at the border.
    """
    x = F.pad(x.float(), (0, 1, 0, 1), mode="replicate")
    across, down = x[..., :-1, 1:] - x[..., :-1, :-1], x[..., 1:, :-1] - x[..., :-1, :-1]
    return (across.square() + down.square()).mean((1, 2, 3))


def _check(out: Tensor, truth: Tensor) -> None:
    if out.shape != truth.shape:
        raise ValueError(f"the net gives images of shape {tuple(out.shape)} where the truth is {tuple(truth.shape)}")
