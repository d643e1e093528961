"""Schedulers of diffusers as tables of noise levels."""

from collections.abc import Mapping
from typing import Any

import torch

from kdgen.diffusion.prediction import Timesteps
from kdgen.models.adapters.pretrained import construct, public
from kdgen.types import UserError, text

SCHEDULERS = (
    "DDIMParallelScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDPMScheduler", "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
    "LCMScheduler", "LMSDiscreteScheduler", "PNDMScheduler", "SASolverScheduler", "TCDScheduler",
    "UniPCMultistepScheduler",
)  # fmt: skip
"""Schedulers whose table of noise levels is understood."""

STEPPED = ("DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "LCMScheduler")
"""Schedulers that DDPMPipeline drives rightly: they neither scale the net's input nor lack a generator."""


def make_scheduler(config: Mapping[str, Any], pipeline: str) -> Any:
    """A scheduler by its configuration, with its ``_class_name``, for a class of pipelines.

    Raises:
        UserError: for a class whose table is not understood, and a configuration that it refuses.
    """
    name = str(config.get("_class_name", "DDPMScheduler"))
    if name not in SCHEDULERS:
        raise UserError(text("no_scheduler", "a unet2d has one of the schedulers {names:, }, not {name}",
                             names=[*SCHEDULERS], name=str(name)))  # fmt: skip
    scheduler = construct_scheduler(name, config)
    if pipeline == "DDIMPipeline" and name != "DDIMScheduler":  # the same table, by the defaults of its own class
        scheduler = construct_scheduler("DDIMScheduler", public(scheduler.config))
    return scheduler


def construct_scheduler(name: str, config: Mapping[str, Any]) -> Any:
    """A scheduler by class name from its configuration, whose table is there where weights are to have shapes alone.

    Raises:
        UserError: for a configuration that the class refuses.
    """
    with torch.device("cpu"):
        return construct(name, config)


def timesteps_of(scheduler: Any) -> Timesteps:
    """The noise level of each timestep of a scheduler."""
    alphas = scheduler.alphas_cumprod
    if scheduler.config.get("rescale_betas_zero_snr"):  # some write a small number in the place of its last 0
        alphas = torch.cat([alphas[:-1], torch.zeros_like(alphas[-1:])])
    return Timesteps(alphas)
