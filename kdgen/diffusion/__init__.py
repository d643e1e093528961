"""The maths of diffusion in one internal form, which every other part of the package speaks.

A diffusion net is called as ``net(x, sigma=(B,), **cond)`` with ``x = y + sigma * n``, where ``y`` is an image in
[-1, 1] and ``n`` standard normal, and returns the denoised image ``D(x; sigma)``: Karras et al. 2022 (arXiv
2206.00364). Other ways to predict, scale and count time are converted from and to it by ``prediction``.
"""

from kdgen.diffusion.analytic import GaussianMixture
from kdgen.diffusion.guidance import Guidance, GuidanceSpec, HowGuided, guidance_of, guided, null_label, unguided
from kdgen.diffusion.preconditioning import Preconditioning
from kdgen.diffusion.prediction import (
    Prediction,
    Process,
    Timesteps,
    append_dims,
    flow_sigma,
    flow_time,
    from_denoised,
    scale_in,
    to_denoised,
)
from kdgen.diffusion.samplers import Solver, State, sample, trajectory
from kdgen.diffusion.schedules import (
    alphas_cumprod,
    cosine_betas,
    discrete,
    edm_weight,
    karras_sigmas,
    linear_betas,
    log_normal,
    log_uniform,
    logit_normal,
    min_snr_weight,
    prediction_weight,
)

__all__ = [
    "GaussianMixture",
    "Guidance",
    "GuidanceSpec",
    "HowGuided",
    "Preconditioning",
    "Prediction",
    "Process",
    "Solver",
    "State",
    "Timesteps",
    "alphas_cumprod",
    "append_dims",
    "cosine_betas",
    "discrete",
    "edm_weight",
    "flow_sigma",
    "flow_time",
    "from_denoised",
    "guidance_of",
    "guided",
    "karras_sigmas",
    "linear_betas",
    "log_normal",
    "log_uniform",
    "logit_normal",
    "min_snr_weight",
    "null_label",
    "prediction_weight",
    "sample",
    "scale_in",
    "to_denoised",
    "trajectory",
    "unguided",
]
