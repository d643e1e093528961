"""A distribution whose diffusion is known exactly: what samplers and few-step methods are tested against."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from kdgen.diffusion.prediction import append_dims


class GaussianMixture(nn.Module):
    """The exact denoiser of data drawn from a mixture of isotropic Gaussians, as a net in the internal form.

    Noise of level ``sigma`` widens each component to ``v_k = std_k^2 + sigma^2``. The denoised image is the mean of
    what the components say, weighted by how likely each made ``x``::

        D(x; sigma) = sum_k r_k * (mean_k + std_k^2 / v_k * (x - mean_k)),   r_k ~ weight_k * N(x; mean_k, v_k)

    Given labels, it is class-conditional: label ``k`` is component ``k`` alone, and label ``K`` is the whole mixture,
    which makes it the null label of ``Guidance``. For a single component the probability-flow ODE is solved by
    ``x(sigma) - mean ~ sqrt(std^2 + sigma^2)``; for images of one pixel it preserves ``cdf(x, sigma)``.

    Args:
        means: ``(K, C, H, W)``; their dtype is that of the buffers.
        std: standard deviation of every pixel within a component, one for all or one for each.
        weights: shares of the components, normalised here; equal if not given.
    """

    def __init__(
        self, means: Tensor, std: float | Sequence[float] = 0.1, weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        shares = torch.as_tensor(weights or [1.0] * len(means), dtype=torch.float64)
        self.means: Tensor
        self.std: Tensor
        self.weights: Tensor
        self.register_buffer("means", means)
        self.register_buffer("std", torch.as_tensor(std, dtype=means.dtype).expand(len(means)).contiguous())
        self.register_buffer("weights", (shares / shares.sum()).to(means.dtype))
        assert len(self.weights) == len(means)

    def forward(self, x: Tensor, *, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        """The denoised image.

        Args:
            x: noisy images, ``(B, C, H, W)``.
            sigma: noise level, ``(B,)``.
            label: components, ``(B,)`` in 0 to K; the whole mixture if not given.

        Returns:
            ``(B, C, H, W)`` in the dtype of ``x``.
        """
        means, std, weights = self.means.to(x), self.std.to(x), self.weights.to(x)
        offset = (x[:, None] - means).flatten(2)
        widened = std**2 + sigma[:, None].to(x) ** 2
        likely = weights.log() - offset.square().sum(2) / (2 * widened) - offset.shape[2] / 2 * widened.log()
        if label is not None:
            count = len(means)
            others = label[:, None] != torch.arange(count, device=x.device)
            likely = likely.masked_fill(others & (label[:, None] != count), -torch.inf)
        posterior = means.flatten(1) + (std**2 / widened)[..., None] * offset
        mean = (likely.softmax(1)[..., None] * posterior).sum(1)
        return mean.view_as(x)

    def draw(self, count: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Data: images ``(count, C, H, W)`` and the components ``(count,)`` they come from."""
        component = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        centre = self.means[component]
        noise = torch.randn(centre.shape, generator=generator, dtype=centre.dtype, device=centre.device)
        return centre + append_dims(self.std[component], centre) * noise, component

    def cdf(self, x: Tensor, sigma: float) -> Tensor:
        """The share of noisy data under each value of ``x``, pixel by pixel, in the shape ``(B, C, H, W)`` of ``x``."""
        means, weights = self.means.to(x), append_dims(self.weights, self.means).to(x)
        widened = append_dims((self.std**2 + sigma**2).sqrt(), self.means).to(x)
        under: Tensor = torch.special.ndtr((x[:, None] - means) / widened)
        return (weights * under).sum(1)
