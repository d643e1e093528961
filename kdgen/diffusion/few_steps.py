"""Images in one to a few calls of a net: the noise levels of such a student, and how it goes from one to the next."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from kdgen.diffusion.prediction import Timesteps, append_dims
from kdgen.diffusion.schedules import alphas_cumprod, cosine_betas, karras_sigmas, linear_betas
from kdgen.types import Net, UserError, text
from kdgen.utils.conditions import call, check_reads

FewSampler = Literal["consistency", "euler", "average"]
"""How a student of few steps draws.

``consistency``: denoise, then add fresh noise of the next level (Song et al. 2023, arXiv 2303.01469, algorithm 1).
``euler``: Euler's steps on the ODE, which are those of DDIM (Song et al. 2021, arXiv 2010.02502, eq. 12).
``average``: the same for a net that knows average velocities, which is told by ``until`` ``(B,)`` where each step ends
(Geng et al. 2025, arXiv 2505.13447, eq. 12).
"""

ImageSampler = Literal["consistency", "euler"]
"""Those of a student that denoises, whose every answer is an image."""

Table = Literal["linear", "cosine", "karras"]
"""A table of 1000 noise levels: DDPM's or Nichol & Dhariwal's, as ``beta_schedule`` of a net says, or EDM's, up to 80.

The last suits nets that EDM preconditions, and consistency models.
"""

NUM_TIMESTEPS = 1000

_MAKERS: dict[str, Callable[[], Tensor]] = {
    "linear": lambda: alphas_cumprod(linear_betas(NUM_TIMESTEPS)),
    "cosine": lambda: alphas_cumprod(cosine_betas(NUM_TIMESTEPS)),
    "karras": lambda: 1 / (1 + karras_sigmas(NUM_TIMESTEPS)[:-1].flip(0).square()),
}
_TABLES: dict[str, Timesteps] = {}


def trailing_sigmas(num_steps: int, table: Table | Timesteps = "linear") -> Tensor:
    """The noise levels of a student of ``num_steps`` steps: those at equal distances in its table, from the last.

    Of ``T`` timesteps, step ``i`` of ``k`` has timestep ``round(T (k - i) / k) - 1``, the ``trailing`` spacing of
    diffusers (Lin et al. 2024, arXiv 2305.08891, table 2). For 1, 2, 4 and 8 steps of 1000 its DDIMScheduler, and its
    LCMScheduler with ``original_inference_steps`` 1000, step through exactly these. The levels of ``k`` steps are
    among those of ``2k``. In the linear table 1, 2 and 4 steps are at 157, at 157 and 3.4, at 157, 17, 3.4 and 0.96.

    Args:
        num_steps: number of steps k, at least 1.
        table: by name, or a net's own.

    Returns:
        ``(num_steps + 1,)`` in float64, falling to 0.

    Raises:
        UserError: for an unknown table, and for no steps or more than the table has.
    """
    levels = timesteps_of(table)
    count = len(levels)
    if not 1 <= num_steps <= count:
        raise UserError(text("student_steps", "a student takes from 1 to {count} steps, not {steps}", count=count,
                             steps=num_steps))  # fmt: skip
    places = [round(count * (num_steps - i) / num_steps) - 1 for i in range(num_steps)]
    return torch.cat([levels.sigma(torch.tensor(places, dtype=torch.float64)), torch.zeros(1, dtype=torch.float64)])


def timesteps_of(table: Table | Timesteps) -> Timesteps:
    """A table by name. Raises UserError for an unknown one."""
    if isinstance(table, Timesteps):
        return table
    if table not in get_args(Table):
        raise UserError(text("no_noise_table", "a table of noise levels is one of {names:, }, not {table}",
                             names=[*get_args(Table)], table=repr(table)))  # fmt: skip
    if table not in _TABLES:
        _TABLES[table] = Timesteps(_MAKERS[table]())
    return _TABLES[table]


def euler_step(x: Tensor, denoised: Tensor, sigma: Tensor, to: Tensor) -> Tensor:
    """Where the straight line from ``x`` at level ``sigma`` to the denoised image is at level ``to``.

    Karras et al. 2022, eq. 3 by Euler's method: ``x + (to - sigma) * (x - denoised) / sigma``.

    Args:
        x: ``(B, C, H, W)``.
        denoised: ``(B, C, H, W)``.
        sigma: ``(B,)``, above 0.
        to: ``(B,)``, at least 0.
    """
    return torch.lerp(denoised, x, append_dims(to / sigma, x))


def sample_few(
    net: Net,
    noise: Tensor,
    *,
    sigmas: Tensor,
    sampler: FewSampler = "consistency",
    cond: Mapping[str, Tensor] | None = None,
    fresh: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Tensor:
    """Images from noise in as many calls as there are noise levels above 0.

    Args:
        net: called as ``net(x, sigma=(B,), **cond)``; returns the denoised images.
        noise: standard normal, ``(B, C, H, W)``.
        sigmas: noise levels, ``(k + 1,)``, falling to 0, see ``trailing_sigmas``.
        sampler: how to go from one level to the next.
        cond: further conditions for the net, each ``(B, ...)``.
        fresh: given images, standard normal noise of their shape, for ``consistency``.

    Returns:
        ``(B, C, H, W)``, not clamped. Gradients flow.

    Raises:
        UserError: for an unknown sampler, and for ``average`` of a net that does not read ``until``.
    """
    x = noise * sigmas[0].item()
    for sigma, following in pairwise(sigmas.tolist()):
        x = few_step(net, x, sigma, following, sampler=sampler, cond=cond, fresh=fresh)
    return x


def few_step(
    net: Net,
    x: Tensor,
    sigma: float,
    following: float,
    *,
    sampler: FewSampler = "consistency",
    cond: Mapping[str, Tensor] | None = None,
    fresh: Callable[[Tensor], Tensor] = torch.randn_like,
) -> Tensor:
    """One step of ``sample_few``: from images at level ``sigma`` to those at level ``following``."""
    if sampler not in get_args(FewSampler):
        raise UserError(text("no_few_sampler", "a sampler of few steps is one of {names:, }, not {sampler}",
                             names=[*get_args(FewSampler)], sampler=repr(sampler)))  # fmt: skip
    if sampler == "average":
        check_reads(text("sampler_average", "the sampler average"), net, {"until"})
    level, to = (torch.full((len(x),), value, dtype=x.dtype, device=x.device) for value in (sigma, following))
    kwargs = {**(cond or {}), "sigma": level} | ({"until": to} if sampler == "average" else {})
    denoised = call(net, x, kwargs).to(x.dtype)
    if following == 0:
        return denoised
    if sampler == "consistency":
        return denoised + following * fresh(x)
    return euler_step(x, denoised, level, to)
