"""UNet2DModel that gives the score of noisy images, as NCSN++ does, and the ScoreSdeVePipeline it lives in."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from kdgen.diffusion.prediction import append_dims
from kdgen.models.adapters.unet2d_config import check_drawn, scale_config, usual_config
from kdgen.models.adapters.unet2d_form import Unet2dForm
from kdgen.models.scaling import Family, scaled
from kdgen.registry import register

PIPELINE = "ScoreSdeVePipeline"
CHANNELS = 3
"""Of the images that it draws, whatever its model."""


@register("adapter", handle=PIPELINE)
class ScoreSde(Unet2dForm):
    """A model of the score of colour images in [0, 1], whose noise grows without bound: Song et al. 2021 (2011.13456).

    It gives the denoised image. Its pipeline draws by predictor and corrector, whose steps are as long as the images of
    a batch are noisy in the mean, so that each is drawn by itself.
    """

    schedulers = ("ScoreSdeVeScheduler",)
    usual_pipeline = PIPELINE
    predicts = "score"
    together = 1

    def __init__(self, unet: Any, scheduler: Any) -> None:
        super().__init__(unet, scheduler)
        check_drawn(unet.config, self.pipeline, (CHANNELS,))

    def shown(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The image in [0, 1] and its noise level there, within those of the scheduler."""
        config = self.scheduler.config
        return (x + 1) / 2, (sigma / 2).clamp(config.sigma_min, config.sigma_max)

    def denoised(self, out: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """``x + sigma^2 s / 2``, which is ``x + sigma^2 s`` (Karras et al. 2022, eq. 3) of images in [0, 1]."""
        return x + append_dims(sigma.square() / 2, x) * out


@register("net")
@scaled(Family(scale=scale_config, fit=lambda shapes: {"size": shapes.inputs[-1]}))
def score_sde(
    size: int = 32,
    block_out_channels: Sequence[int] = (32, 64, 96),
    layers_per_block: int = 1,
    attention_levels: int = 1,
    attention_head_dim: int = 8,
    norm_num_groups: int = 8,
    sigma_min: float = 0.01,
    sigma_max: float = 50.0,
    config: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
) -> ScoreSde:
    """A U-Net of scores, diffusers' UNet2DModel told the noise level by Fourier features, as a ScoreSdeVePipeline.

    Args:
        size: height and width of its images in pixels, a multiple of 2 to the number of halvings.
        block_out_channels: channels at full, half, quarter... resolution.
        layers_per_block: residual layers of a block on the way down; on the way up there is one more.
        attention_levels: how many of the coarsest levels have attention, the block in the middle along with them.
        attention_head_dim: channels of a head of attention.
        norm_num_groups: groups of its normalisation; divides all channels.
        sigma_min: the least noise level, of images in [0, 1].
        sigma_max: the highest.
        config: a whole configuration of a UNet2DModel, which counts in place of the arguments up to here but for these.
        scheduler: that of a ScoreSdeVeScheduler, in place of the noise levels.

    Raises:
        UserError: for arguments that do not fit.
    """
    if config is None:
        config = {"time_embedding_type": "fourier", **usual_config(
            CHANNELS, size, block_out_channels, layers_per_block, attention_levels=attention_levels,
            attention_head_dim=attention_head_dim, norm_num_groups=norm_num_groups)}  # fmt: skip
    return ScoreSde.built(config, scheduler or {"sigma_min": sigma_min, "sigma_max": sigma_max})
