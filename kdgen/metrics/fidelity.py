"""How close an image is to the truth."""

import torch
import torch.nn.functional as F
from torch import Tensor

RANGE = 2.0
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
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
    from skimage.metrics import structural_similarity

    _check(out, truth)
    height, width = (max(SSIM_WINDOW - extent, 0) for extent in truth.shape[-2:])
    margin = (width // 2, width - width // 2, height // 2, height - height // 2)
    both = (F.pad(x.float(), margin, mode="replicate").cpu().numpy() for x in (out, truth))
    values = [structural_similarity(*pair, data_range=RANGE, channel_axis=0, gaussian_weights=True, sigma=SSIM_SIGMA,
                                    use_sample_covariance=False) for pair in zip(*both, strict=True)]  # fmt: skip
    return torch.tensor(values, dtype=torch.float32, device=truth.device)


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
