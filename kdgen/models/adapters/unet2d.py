"""UNet2DModel with its table of noise levels, as a net that denoises, and the pipeline folder it lives in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdgen.diffusion.prediction import append_dims, scale_in, to_denoised
from kdgen.models.adapters.adapter import INDEX
from kdgen.models.adapters.pipeline_images import end_hook
from kdgen.models.adapters.pretrained import construct, public, read_json
from kdgen.models.adapters.schedulers import SCHEDULERS, STEPPED, make_scheduler, timesteps_of
from kdgen.models.adapters.times import match_times
from kdgen.models.adapters.unet2d_config import (
    PIPELINES,
    PREDICTIONS,
    check_pipeline,
    check_told,
    fit_config,
    scale_config,
    usual_config,
)
from kdgen.models.adapters.unet2d_form import Condition, Unet2dForm
from kdgen.models.scaling import Family, scaled
from kdgen.registry import register
from kdgen.utils.conditions import check_conditions


@register("adapter", handle=("UNet2DModel", *PIPELINES))
class Unet2d(Unet2dForm):
    """A diffusion model of images: folders of diffusers' UNet2DModel, alone or in a pipeline.

    It gives the denoised image. Its scheduler's table ``alphas_cumprod`` says the noise level of each timestep.

    Attributes:
        until: whether it is told the noise level at which its step ends, for average velocities.
        timesteps: the table.
    """

    schedulers = SCHEDULERS
    usual_pipeline = "DDIMPipeline"

    def __init__(self, unet: Any, scheduler: Any, pipeline: str, until: bool = False) -> None:
        super().__init__(unet, scheduler, pipeline)
        self.until = until
        self.predicts: str = scheduler.config.prediction_type
        self.conditions |= {"until"} if until else set()
        check_told(unet.config, self.predicts, until)
        self.timesteps = timesteps_of(scheduler)

    def shown(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The image at constant variance and its timestep, a whole one where each has an embedding of its own."""
        t = self.timesteps.timestep(sigma)
        if self.unet.config.time_embedding_type == "learned":
            t = t.round().long()
        return x * append_dims(scale_in(PREDICTIONS[self.predicts], sigma), x), t

    def denoised(self, out: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The denoised image ``(B, C, H, W)`` that its prediction stands for."""
        return to_denoised(PREDICTIONS[self.predicts], out, x, sigma)

    def forward(
        self, x: Tensor, *, sigma: Condition = None, label: Condition = None, until: Condition = None
    ) -> Tensor:
        """Denoise, see the base.

        Args:
            x: as there.
            sigma: as there.
            label: as there.
            until: the noise level ``(B,)`` at which the step ends, at most ``sigma``, read by a net of average
                velocities: the straight line to its answer leads to where the trajectory is at that level (Geng et al.
                2025, arXiv 2505.13447, eq. 12). At 0, as where none is told, that is the end of the trajectory.
        """
        check_conditions(self, label=label, until=until)
        if not self.until or sigma is None:
            return super().forward(x, sigma=sigma, label=label)
        end = torch.zeros_like(sigma) if until is None else until
        return self.asked(x, sigma, {"class_labels": self.timesteps.timestep(end)})

    @classmethod
    def arguments(cls, folder: Path) -> dict[str, Any]:
        """Arguments for a pipeline folder, or for that of a model, which says nothing of its training.

        Such a model is taken for an ordinary DDPM: 1000 linear betas from 1e-4 to 0.02, predicting epsilon.
        """
        if not (folder / INDEX).is_file():
            config = public(read_json(folder / "config.json"))
            return {"config": config, "scheduler": {"_class_name": "DDPMScheduler"}}
        args, own = super().arguments(folder), read_json(folder / INDEX)["_class_name"]
        return {**args, "pipeline": own if args["scheduler"]["_class_name"] in STEPPED else "DDIMPipeline"}

    def hook(self, pipe: Any, label: Tensor | None, begin: int, end: int) -> Any:
        """A forward pre-hook that passes the model the class, or where a step of average velocities ends."""
        return end_hook(pipe.scheduler) if self.until else super().hook(pipe, label, begin, end)

    def inherit(self, teacher: nn.Module) -> None:
        """Start from the weights of a larger ``Unet2d``: ``inherit_blocks``, and for another table ``match_times``.

        Raises:
            UserError: for a teacher of another kind or prediction, or a smaller one.
        """
        super().inherit(teacher)
        assert isinstance(teacher, Unet2d)
        if self.unet.config.time_embedding_type == "positional" and not self.timesteps.same(teacher.timesteps):
            match_times(self.unet, self.timesteps, teacher.unet, teacher.timesteps)


@register("net")
@scaled(Family(scale=scale_config, fit=fit_config, does={"draws": "noise"}))
def unet2d(
    channels: int = 1,
    size: int = 32,
    block_out_channels: Sequence[int] = (32, 64, 96),
    layers_per_block: int = 1,
    mid_block: bool = True,
    attention_levels: int = 1,
    attention_head_dim: int = 8,
    norm_num_groups: int = 8,
    dropout: float = 0.0,
    num_class_embeds: int | None = None,
    until: bool = False,
    prediction_type: str = "v_prediction",
    num_train_timesteps: int = 1000,
    beta_schedule: str = "linear",
    config: Mapping[str, Any] | None = None,
    scheduler: Mapping[str, Any] | None = None,
    pipeline: str = "DDIMPipeline",
) -> Unet2d:
    """A diffusion U-Net, diffusers' UNet2DModel, written as a pipeline that plain diffusers opens.

    By default 1.8 million parameters.

    Args:
        channels: channels C of its images.
        size: height and width of its images in pixels, a multiple of 2 to the number of halvings.
        block_out_channels: channels at full, half, quarter... resolution.
        layers_per_block: residual layers of a block on the way down; on the way up there is one more.
        mid_block: whether there is a block between the way down and the way up.
        attention_levels: how many of the coarsest levels have attention, the block in the middle along with them.
        attention_head_dim: channels of a head of attention.
        norm_num_groups: groups of its normalisation; divides all channels.
        dropout: share of features dropped in training.
        num_class_embeds: number of classes of a class-conditional net.
        until: whether it is told the noise level at which a step ends, as ``mean_flow`` with ``until`` and the sampler
            ``average`` do: a second embedding of a timestep to diffusers, which starts at nothing.
        prediction_type: ``epsilon``, ``v_prediction`` or ``sample``.
        num_train_timesteps: noise levels in its table.
        beta_schedule: the table: ``linear``, ``scaled_linear`` or ``squaredcos_cap_v2``.
        config: a whole configuration of a UNet2DModel, which counts in place of the arguments up to here.
        scheduler: that of a scheduler with its ``_class_name``, in place of the three arguments on noise.
        pipeline: ``DDIMPipeline`` or ``DDPMPipeline``, the class that it is written as.

    Raises:
        UserError: for arguments that do not fit.
    """
    check_pipeline(pipeline)
    if config is None:
        config = usual_config(
            channels, size, block_out_channels, layers_per_block, mid_block=mid_block,
            attention_levels=attention_levels, attention_head_dim=attention_head_dim, norm_num_groups=norm_num_groups,
            dropout=dropout, num_class_embeds=num_class_embeds,
        )  # fmt: skip
    if until:
        config = {**config, "class_embed_type": "timestep"}
    if scheduler is None:
        scheduler = {
            "_class_name": pipeline.replace("Pipeline", "Scheduler"),
            "num_train_timesteps": num_train_timesteps,
            "beta_schedule": beta_schedule,
            "prediction_type": prediction_type,
            "clip_sample": True,
            "timestep_spacing": "trailing",
        }
    unet = construct("UNet2DModel", config)
    if until:
        for parameter in unet.class_embedding.linear_2.parameters():
            nn.init.zeros_(parameter)
    return Unet2d(unet, make_scheduler(scheduler, pipeline), pipeline, until)
