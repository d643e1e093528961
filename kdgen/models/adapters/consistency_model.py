"""UNet2DModel preconditioned as a consistency model, and the ConsistencyModelPipeline it lives in."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from kdgen.diffusion import Preconditioning, append_dims
from kdgen.models.adapters.pretrained import construct, public
from kdgen.models.adapters.unet2d_config import check_drawn, fit_config, scale_config, usual_config
from kdgen.models.adapters.unet2d_form import Unet2dForm
from kdgen.models.scaling import Family, scaled
from kdgen.registry import Spec, register

PIPELINE = "ConsistencyModelPipeline"
USAGE = """from diffusers import ConsistencyModelPipeline

pipeline = ConsistencyModelPipeline.from_pretrained("{repo}")
pipeline(num_inference_steps={steps}{told}).images[0].save("image.png")"""


@register("adapter", handle=PIPELINE)
class ConsistencyModel(Unet2dForm):
    """A model that gives where the trajectory of a noisy image ends, in one call: Song et al. 2023 (arXiv 2303.01469).

    It draws in one to a few steps of the sampler ``consistency``, at the levels of its scheduler.
    """

    schedulers = ("CMStochasticIterativeScheduler",)
    usual_pipeline = PIPELINE
    predicts = "consistency"

    def __init__(self, unet: Any, scheduler: Any) -> None:
        super().__init__(unet, scheduler)
        check_drawn(unet.config, self.pipeline, (1, 3))
        self.edm = Preconditioning(scheduler.config.sigma_data)

    def shown(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """EDM's input, and a thousandfold of its ``c_noise`` within the levels of the scheduler."""
        config = self.scheduler.config
        return self.edm.shown(x, sigma)[0], 250 * sigma.clamp(config.sigma_min, config.sigma_max).log()

    def denoised(self, out: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """``c_skip x + c_out out``, which is ``x`` at the least level: Song et al. 2023, appendix C."""
        least, data = self.scheduler.config.sigma_min, self.scheduler.config.sigma_data
        above = (sigma - least).clamp_min(0)
        skip = data**2 / (above**2 + data**2)
        return append_dims(skip, x) * x + append_dims(above * data * (sigma**2 + data**2).rsqrt(), x) * out

    def few_levels(self, num_steps: int) -> Tensor:
        """The noise levels at which its scheduler steps, ``(num_steps + 1,)`` in float64, from the highest to 0.

        Raises:
            UserError: for no steps or more than there are.
        """
        self.check_steps(num_steps)
        own = construct(type(self.scheduler).__name__, public(self.scheduler.config))
        own.set_timesteps(num_steps)
        return torch.cat([own.sigmas[:num_steps].double(), torch.zeros(1, dtype=torch.float64)])

    def describe(self) -> dict[str, JsonValue]:
        """The task that it was made for, and that it draws in few steps."""
        drawn: dict[str, JsonValue] = {"sampler": "consistency", "table": "karras", "steps": [1, 2]}
        return {**super().describe(), **drawn, "num_steps": 2, "teacher_sampler": "student"}

    @classmethod
    def usage(cls, repo: str, use: Spec, task: Mapping[str, Any]) -> str:
        """Lines that draw an image by plain diffusers."""
        steps = next(iter(task.get("steps", ())), 1)
        return USAGE.format(repo=repo, steps=steps, told=", class_labels=[0]" if task.get("num_classes") else "")


@register("net")
@scaled(Family(scale=scale_config, fit=fit_config))
def consistency_model(
    channels: int = 1,
    size: int = 32,
    block_out_channels: Sequence[int] = (32, 64, 96),
    layers_per_block: int = 1,
    attention_levels: int = 1,
    attention_head_dim: int = 8,
    norm_num_groups: int = 8,
    num_class_embeds: int | None = None,
    sigma_data: float = 0.5,
    config: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
) -> ConsistencyModel:
    """A consistency model, diffusers' UNet2DModel, written as a ConsistencyModelPipeline.

    Args:
        channels: channels C of its images.
        size: height and width of its images in pixels, a multiple of 2 to the number of halvings.
        block_out_channels: channels at full, half, quarter... resolution.
        layers_per_block: residual layers of a block on the way down; on the way up there is one more.
        attention_levels: how many of the coarsest levels have attention, the block in the middle along with them.
        attention_head_dim: channels of a head of attention.
        norm_num_groups: groups of its normalisation; divides all channels.
        num_class_embeds: number of classes of a class-conditional net.
        sigma_data: standard deviation of the data, by which it is preconditioned.
        config: a whole configuration of a UNet2DModel, which counts in place of the arguments up to here but for that.
        scheduler: that of a CMStochasticIterativeScheduler, in place of ``sigma_data``.

    Raises:
        UserError: for arguments that do not fit.
    """
    if config is None:
        config = usual_config(
            channels, size, block_out_channels, layers_per_block, attention_levels=attention_levels,
            attention_head_dim=attention_head_dim, norm_num_groups=norm_num_groups, num_class_embeds=num_class_embeds,
        )  # fmt: skip
    return ConsistencyModel.built(config, scheduler or {"sigma_data": sigma_data})
