"""Models of latents that are preconditioned as EDM has it, by diffusers' EDM schedulers, as Playground 2.5 is."""

from typing import Any

from torch import Tensor

from kdgen.diffusion import Preconditioning
from kdgen.models.adapters.pretrained import construct, public

EDM_SCHEDULERS = ("EDMDPMSolverMultistepScheduler", "EDMEulerScheduler")


class ScheduledPreconditioning(Preconditioning):
    """EDM's preconditioning as one of diffusers' schedulers has it, and the levels at which that steps.

    Diffusers' ``epsilon`` is EDM's own, its ``v_prediction`` the same with the sign turned.

    Args:
        scheduler: one of ``EDM_SCHEDULERS``.
    """

    def __init__(self, scheduler: Any) -> None:
        super().__init__(scheduler.config.sigma_data)
        self.scheduler = scheduler
        self.sign = 1.0 if scheduler.config.prediction_type == "epsilon" else -1.0

    def denoised(self, out: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """``c_skip x + c_out out``, or of v-prediction ``c_skip x - c_out out``, ``(B, ...)``."""
        return super().denoised(self.sign * out, x, sigma)

    def levels(self, num_steps: int) -> Tensor:
        """The noise levels at which its scheduler steps, ``(num_steps,)`` in float64, falling."""
        own = construct(type(self.scheduler).__name__, public(self.scheduler.config))
        own.set_timesteps(num_steps)
        levels: Tensor = own.sigmas[:num_steps].double()
        return levels


__all__ = ["EDM_SCHEDULERS", "ScheduledPreconditioning"]
