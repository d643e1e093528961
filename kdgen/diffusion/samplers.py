"""Images from noise: Euler's and Heun's methods on the probability-flow ODE, with or without churn.

The ODE is ``dx/dsigma = (x - D(x; sigma)) / sigma``: Karras et al. 2022 (arXiv 2206.00364), eqs. 1 and 3, where noise
grows as ``sigma(t) = t``.
"""

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor

from kdgen.types import Net, UserError, text
from kdgen.utils.conditions import call

Solver = Literal["heun", "euler"]
"""How the ODE is solved: with error of second or of first order in the length of a step."""


class State(NamedTuple):
    """Where a trajectory is.

    Attributes:
        x: the noisy images, ``(B, C, H, W)``.
        sigma: their noise level.
        denoised: what the net makes of them, ``(B, C, H, W)``; at noise level 0 the images themselves.
    """

    x: Tensor
    sigma: float
    denoised: Tensor


def trajectory(
    net: Net,
    noise: Tensor,
    *,
    sigmas: Tensor,
    method: Solver = "heun",
    cond: Mapping[str, Tensor] | None = None,
    churn: float = 0.0,
    churn_range: tuple[float, float] = (0.0, math.inf),
    churn_noise: float = 1.0,
    generator: Generator | None = None,
    precise: bool = False,
) -> Iterator[State]:
    """Follow images from noise to the end, Karras et al. 2022, algorithm 1, and with churn algorithm 2.

    Of ``n`` steps, Heun's method calls the net ``2n - 1`` times and Euler's ``n`` times. Without churn the noise alone
    decides the images. Gradients flow; call under ``torch.inference_mode()`` where none are wanted.

    Args:
        net: called as ``net(x, sigma=(B,), **cond)`` in the dtype of ``noise``; returns the denoised images.
        noise: standard normal, ``(B, C, H, W)``. To start from images ``x`` of noise level ``sigmas[0]``, give
            ``x / sigmas[0]``.
        sigmas: noise levels, ``(n + 1,)``, falling to 0, for example ``karras_sigmas(n)``.
        method: ``heun`` or ``euler``.
        cond: further conditions for the net, each ``(B, ...)``.
        churn: how much fresh noise all steps together add; 0 adds none.
        churn_range: noise levels at which it is added.
        churn_noise: standard deviation of what is added, in units of what keeps the noise level true.
        generator: draws the fresh noise; PyTorch's own if not given.
        precise: keep the state in float64 between the calls of the net, whatever the dtype of ``noise``.

    Yields:
        the ``n + 1`` states at which a step begins or all ends; with churn, after the fresh noise of the step.

    Raises:
        UserError: for an unknown method, or noise levels that do not fall to 0.
    """
    if method not in get_args(Solver):
        raise UserError(text("no_solver", "a sampler's method is one of {names:, }, not {method}",
                             names=[*get_args(Solver)], method=repr(method)))  # fmt: skip
    levels: list[float] = sigmas.double().tolist()
    if len(levels) < 2 or levels[-1] != 0 or not all(high > low for high, low in pairwise(levels)):
        raise UserError(text("sigmas_fall", "give sigmas that fall from the highest noise level to 0, at least two "
                             "of them"))  # fmt: skip
    conditions = cond or {}

    def denoise(x: Tensor, sigma: float) -> Tensor:
        level = torch.full((len(x),), sigma, dtype=noise.dtype, device=x.device)
        return call(net, x.to(noise.dtype), {**conditions, "sigma": level}).to(x.dtype)

    x = noise.to(torch.float64 if precise else noise.dtype) * levels[0]
    for sigma, following in pairwise(levels):
        raised = sigma
        if churn > 0 and churn_range[0] <= sigma <= churn_range[1]:
            raised = sigma * (1 + min(churn / (len(levels) - 1), math.sqrt(2) - 1))
            x = x + churn_noise * math.sqrt(raised**2 - sigma**2) * _normal(noise, generator).to(x.dtype)
        denoised = denoise(x, raised)
        yield State(x, raised, denoised)
        x_next = denoised + (following / raised) * (x - denoised)
        if method == "heun" and following > 0:
            slope, next_slope = (x - denoised) / raised, (x_next - denoise(x_next, following)) / following
            x_next = x + (following - raised) * (slope + next_slope) / 2
        x = x_next
    yield State(x, 0.0, x)


def sample(
    net: Net,
    noise: Tensor,
    *,
    sigmas: Tensor,
    method: Solver = "heun",
    cond: Mapping[str, Tensor] | None = None,
    churn: float = 0.0,
    churn_range: tuple[float, float] = (0.0, math.inf),
    churn_noise: float = 1.0,
    generator: Generator | None = None,
    precise: bool = False,
) -> Tensor:
    """The images at the end of ``trajectory``, whose arguments these are.

    Returns:
        ``(B, C, H, W)`` in the dtype of ``noise``, not clamped.

    Raises:
        UserError: as ``trajectory`` does.
    """
    for state in trajectory(
        net,
        noise,
        sigmas=sigmas,
        method=method,
        cond=cond,
        churn=churn,
        churn_range=churn_range,
        churn_noise=churn_noise,
        generator=generator,
        precise=precise,
    ):
        x = state.x
    return x.to(noise.dtype)


def _normal(like: Tensor, generator: Generator | None) -> Tensor:
    where = like.device if generator is None else generator.device
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=where).to(like.device)
