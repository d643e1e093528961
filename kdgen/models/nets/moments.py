"""Means and logarithms of variances of Gaussian latents, which autoencoders give."""

import torch
from torch import Tensor, nn

FIRST_LOG_VARIANCE = -6.0
"""Where logarithms of variances start: deviations of 0.05, so that the first steps see images through little noise.

At 0 the noise is larger than what an untrained encoder says, and decoders learn to ignore some of the latents.
"""


class Moments(nn.Module):
    """Means and logarithms of variances ``(B, 2Z, ...)`` of Gaussian latents, the logarithms kept in [-30, 20].

    A module without weights, there for hooks to read.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(B, 2Z, ...)`` to the same."""
        mean, log_variance = x.chunk(2, dim=1)
        return torch.cat([mean, log_variance.clamp(-30, 20)], dim=1)


class Means(nn.Module):
    """Means ``(B, Z, ...)`` of Gaussian latents by their moments: what is decoded in use.

    A module without weights, there for hooks to read: beside logarithms of variances, which are larger, errors of means
    would not show.
    """

    def forward(self, moments: Tensor) -> Tensor:
        """``(B, 2Z, ...)`` to ``(B, Z, ...)``."""
        return moments.chunk(2, dim=1)[0]


def draw(moments: Tensor, *, sampled: bool) -> Tensor:
    """A sample of latents by their moments, or their mean: Kingma & Welling 2014 (arXiv 1312.6114), eq. 10.

    Args:
        moments: ``(B, 2Z, ...)``, means and then logarithms of variances.
        sampled: whether to sample.

    Returns:
        latents ``(B, Z, ...)``.
    """
    mean, log_variance = moments.chunk(2, dim=1)
    return mean + (log_variance / 2).exp() * torch.randn_like(mean) if sampled else mean
