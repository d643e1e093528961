"""Noise levels to sample and to train at, and how much the loss counts at each.

Draws are ``(count,)`` in float32, on the device of their generator. Weights are for the squared error of the denoised
image, given ``sigma`` ``(B,)``; they come as ``(B,)`` in its dtype.
"""

import math

import torch
from torch import Generator, Tensor

from kdgen.diffusion.prediction import Prediction, Timesteps, from_denoised
from kdgen.types import UserError, text


def karras_sigmas(num_steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """The noise levels of a sampler, Karras et al. 2022 (arXiv 2206.00364), eq. 5.

    Returns:
        ``(num_steps + 1,)`` in float64, falling from ``sigma_max`` by ``sigma_min`` to 0. A single step goes from
        ``sigma_max`` to 0.

    Raises:
        UserError: for no steps, or a range that is none.
    """
    if num_steps < 1 or not 0 < sigma_min < sigma_max:
        raise UserError(text("sampling_range", "sample with one step or more and 0 < sigma_min < sigma_max, not "
                             "{steps} steps from {high:g} to {low:g}", steps=num_steps, high=sigma_max,
                             low=sigma_min))  # fmt: skip
    ramp = torch.linspace(0, 1, num_steps, dtype=torch.float64)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])


def linear_betas(num_timesteps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """The variances added at each step of DDPM, Ho et al. 2020 (arXiv 2006.11239), section 4: ``(T,)`` in float64."""
    return torch.linspace(first, last, num_timesteps, dtype=torch.float64)


def cosine_betas(num_timesteps: int = 1000, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """The variances of the cosine schedule, Nichol & Dhariwal 2021 (arXiv 2102.09672), eq. 17: ``(T,)`` in float64."""
    t = torch.linspace(0, 1, num_timesteps + 1, dtype=torch.float64)
    left = torch.cos((t + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - left[1:] / left[:-1]).clamp_max(largest)


def alphas_cumprod(betas: Tensor) -> Tensor:
    """The share of the image's variance that is left after each step, ``(T,)``: what ``Timesteps`` is made of."""
    return torch.cumprod(1 - betas, 0)


def log_normal(count: int, generator: Generator, mean: float = -1.2, std: float = 1.2) -> Tensor:
    """Noise levels with ``ln sigma ~ N(mean, std^2)``, Karras et al. 2022, table 1."""
    return (mean + std * _normal(count, generator)).exp().float()


def log_uniform(count: int, generator: Generator, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Tensor:
    """Noise levels whose logarithm is uniform in ``[ln sigma_min, ln sigma_max]``."""
    low, high = math.log(sigma_min), math.log(sigma_max)
    share = torch.rand(count, generator=generator, device=generator.device, dtype=torch.float64)
    return (low + share * (high - low)).exp().float()


def discrete(count: int, generator: Generator, timesteps: Timesteps) -> Tensor:
    """Noise levels of timesteps drawn uniformly from a table, as DDPM is trained."""
    return timesteps.sigma(torch.randint(len(timesteps), (count,), generator=generator, device=generator.device))


def logit_normal(count: int, generator: Generator, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Noise levels of flow times with ``logit t ~ N(mean, std^2)``, Esser et al. 2024 (arXiv 2403.03206), section 3.1.

    Since ``sigma = t / (1 - t)``, these are log-normal levels of the same mean and deviation.
    """
    return log_normal(count, generator, mean, std)


def edm_weight(sigma: Tensor, sigma_data: float = 0.5) -> Tensor:
    """``(sigma^2 + sigma_data^2) / (sigma * sigma_data)^2``, Karras et al. 2022, table 1.

    The preconditioned net then has the same error at every noise level when it knows nothing.
    """
    level = sigma.double()
    return ((level**2 + sigma_data**2) / (level * sigma_data) ** 2).to(sigma.dtype)


def min_snr_weight(sigma: Tensor, gamma: float = 5.0) -> Tensor:
    """``min(1 / sigma^2, gamma)``, Hang et al. 2023 (arXiv 2303.09556), as it is for nets that predict the image."""
    return (sigma.double() ** -2).clamp_max(gamma).to(sigma.dtype)


def prediction_weight(kind: Prediction, sigma: Tensor) -> Tensor:
    """The weight that makes the error of the denoised image that of another prediction.

    ``1 / sigma^2`` for epsilon, ``(1 + sigma^2) / sigma^2`` for v, ``((1 + sigma) / sigma)^2`` for a flow, 1 for the
    image: a loss on the denoised image so weighted is a loss on ``kind``, uniform over noise levels.

    Raises:
        UserError: for an unknown kind.
    """
    one = torch.ones_like(sigma)
    return from_denoised(kind, one, torch.zeros_like(one), sigma).square().to(sigma.dtype)


def _normal(count: int, generator: Generator) -> Tensor:
    return torch.randn(count, generator=generator, device=generator.device, dtype=torch.float64)
