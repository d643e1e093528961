"""Schedulers of models of latents: which are understood, usual ones, and the levels at which a flow steps."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from kdgen.models.adapters.edm import EDM_SCHEDULERS
from kdgen.models.adapters.pretrained import construct, public
from kdgen.models.adapters.schedulers import SCHEDULERS
from kdgen.models.adapters.unet2d_config import PREDICTIONS
from kdgen.types import UserError, text

FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler")
"""Schedulers of straight lines from image to noise, whose time is in [0, 1]."""

EITHER = ("DPMSolverMultistepScheduler", "UniPCMultistepScheduler")
"""Schedulers that step along these lines too, where they are told to use flow sigmas."""

NOISE_ONLY = 1 - 2.0**-12
"""What a time of 1, where no image is left, counts as, so that its noise level is finite."""

BASE_TOKENS, MOST_TOKENS = 256, 4096
BASE_SHIFT, MOST_SHIFT = 0.5, 1.15


def known_schedulers(predicts_flow: bool) -> tuple[str, ...]:
    """Classes of the schedulers that are understood, of flows or of tables of noise levels."""
    return (*FLOW_SCHEDULERS, *EITHER) if predicts_flow else (*SCHEDULERS, *EDM_SCHEDULERS)


def check_scheduler(config: Mapping[str, Any], *, predicts_flow: bool) -> None:
    """Refuse a scheduler that is not understood.

    Args:
        config: with its ``_class_name``.
        predicts_flow: whether it is to be one of flows.

    Raises:
        UserError: with those that are.
    """
    name, known = str(config.get("_class_name")), known_schedulers(predicts_flow)
    if name not in known:
        raise UserError(text("latent_scheduler", "a model of {kind} has one of the schedulers {names:, }, not {name}",
                             kind=text("of_flows", "flows") if predicts_flow else text("of_noise", "noise levels"),
                             names=[*known], name=name))  # fmt: skip
    predicts, flows = config.get("prediction_type", "epsilon"), bool(config.get("use_flow_sigmas"))
    if flows != (predicts_flow and name in EITHER):
        raise UserError(text("latent_flow_sigmas", "a {name} uses flow sigmas for a model of flows and for no other: "
                             "set use_flow_sigmas so", name=name))  # fmt: skip
    if not predicts_flow and predicts not in PREDICTIONS:
        raise UserError(text("latent_predicts", "a model of latents predicts {names:, }, not {predicts}",
                             names=[*PREDICTIONS], predicts=str(predicts)))  # fmt: skip


def table_scheduler(prediction_type: str, num_train_timesteps: int, beta_schedule: str) -> dict[str, Any]:
    """DDIM on a table of noise levels, its ends those of Stable Diffusion's where that is ``scaled_linear``."""
    ends = {"beta_start": 0.00085, "beta_end": 0.012} if beta_schedule == "scaled_linear" else {}
    return {"_class_name": "DDIMScheduler", "prediction_type": prediction_type, "beta_schedule": beta_schedule,
            "num_train_timesteps": num_train_timesteps, "clip_sample": False, "set_alpha_to_one": False,
            "steps_offset": 1, **ends}  # fmt: skip


def flow_scheduler(shift: float) -> dict[str, Any]:
    """Euler's steps along straight lines, their times moved towards noise by a shift."""
    return {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": shift}


def flow_levels(scheduler: Any, num_steps: int, num_tokens: int, evenly: bool) -> Tensor:
    """The times at which Euler's method steps along a flow, ``(num_steps,)`` in float64, falling, below 1.

    Args:
        scheduler: of the pipeline.
        num_steps: their number.
        num_tokens: places of the latents, of which ``use_dynamic_shifting`` makes the shift (Esser et al. 2024, arXiv
            2403.03206, section 5.3.2; the line is that of Flux's pipeline).
        evenly: whether they are evenly from 1 to 1 / num_steps before they are shifted, or as the scheduler has them.
    """
    config = public(scheduler.config)
    name = type(scheduler).__name__
    own = construct(name if name in EITHER else FLOW_SCHEDULERS[0], config)
    told: dict[str, Any] = {"num_inference_steps": num_steps}
    if evenly:
        told["sigmas"] = [1 - i / num_steps for i in range(num_steps)]
    if config.get("use_dynamic_shifting"):
        low, high = config.get("base_image_seq_len", BASE_TOKENS), config.get("max_image_seq_len", MOST_TOKENS)
        least, most = config.get("base_shift", BASE_SHIFT), config.get("max_shift", MOST_SHIFT)
        told["mu"] = least + (most - least) * (num_tokens - low) / (high - low)
    own.set_timesteps(**told)
    times: Tensor = own.sigmas[:num_steps].double()
    return times.clamp(max=NOISE_ONLY)
