"""Models of latents that are preconditioned as EDM has it, by diffusers' EDM schedulers, as Playground 2.5 is."""

from typing import Any

from torch import Tensor

from kdgen.diffusion import append_dims, scale_in, to_denoised
from kdgen.models.adapters.pretrained import construct, public

EDM_SCHEDULERS = ("EDMDPMSolverMultistepScheduler", "EDMEulerScheduler")


class Preconditioning:
    """What a model is shown of a noisy latent, and what its answer stands for: Karras et al. 2022, table 1.

    In units of ``sigma_data`` the column EDM of that table (arXiv 2206.00364) is v-prediction of a process of constant
    variance, and diffusers' ``epsilon`` the same with the sign turned.

    Args:
        scheduler: one of ``EDM_SCHEDULERS``.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler = scheduler
        self.sigma_data: float = scheduler.config.sigma_data
        self.sign = -1.0 if scheduler.config.prediction_type == "epsilon" else 1.0

    def shown(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """``c_in x`` and ``c_noise`` of ``x = y + sigma * n``, ``(B, ...)``, and ``sigma`` ``(B,)``."""
        scaled = x / self.sigma_data
        return scaled * append_dims(scale_in("v", sigma / self.sigma_data), x), sigma.log() / 4

    def denoised(self, out: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """``c_skip x + c_out out``, ``(B, ...)``."""
        data = self.sigma_data
        return data * to_denoised("v", self.sign * out, x / data, sigma / data)

    def levels(self, num_steps: int) -> Tensor:
        """The noise levels at which its scheduler steps, ``(num_steps,)`` in float64, falling."""
        own = construct(type(self.scheduler).__name__, public(self.scheduler.config))
        own.set_timesteps(num_steps)
        levels: Tensor = own.sigmas[:num_steps].double()
        return levels


__all__ = ["EDM_SCHEDULERS", "Preconditioning"]
