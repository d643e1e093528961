"""How pipelines scale the latents of an autoencoder: what a model learns are ``(raw - mean) / deviation``."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

SCALES = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
"""What pipelines read of an autoencoder's configuration to scale its latents."""


def statistics(config: Mapping[str, Any], like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of raw latents as pipelines read them of a configuration, ``(1, Z, 1, 1)`` or of one number.

    Stable Diffusion's is ``1 / scaling_factor`` about 0, that of SD3 and Flux about ``shift_factor``; where there are
    ``latents_mean`` and ``latents_std``, as of SDXL's finetunes and of Qwen-Image, they are those, channel by channel.
    """
    mean, std = config.get("latents_mean"), config.get("latents_std")
    if mean is None or std is None:
        mean, std = [config.get("shift_factor") or 0.0], [1.0]
    mean, deviation = (like.new_tensor(each).view(1, -1, 1, 1) for each in (mean, std))
    return mean, deviation / (config.get("scaling_factor") or 1.0)


def unscaled(latents: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Latents ``(B, Z, h, w)`` as a model learns them as an autoencoder of this configuration decodes them."""
    mean, deviation = statistics(config, latents)
    return latents * deviation + mean


def scaled(latents: Tensor, config: Mapping[str, Any]) -> Tensor:
    """Latents ``(B, Z, h, w)`` of an autoencoder of this configuration as a model learns them."""
    mean, deviation = statistics(config, latents)
    return (latents - mean) / deviation


__all__ = ["SCALES", "scaled", "statistics", "unscaled"]
