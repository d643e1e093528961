"""UNet2DModel with its table of noise levels, as a net that denoises, and the pipeline folder it lives in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from kdgen.diffusion.prediction import append_dims, scale_in, to_denoised
from kdgen.models.adapters.adapter import INDEX, Adapter
from kdgen.models.adapters.blocks import inherit_blocks
from kdgen.models.adapters.pipeline_images import class_hook, end_hook, pipeline_images, pipeline_usage
from kdgen.models.adapters.pretrained import construct, portable, public, write
from kdgen.models.adapters.schedulers import make_scheduler, timesteps_of
from kdgen.models.adapters.times import match_times
from kdgen.models.adapters.unet2d_config import (
    PIPELINES,
    PREDICTIONS,
    check_config,
    check_pipeline,
    fit_config,
    halved,
    pipeline_arguments,
    scale_config,
)
from kdgen.models.parts import Drawn
from kdgen.models.scaling import Family, scaled
from kdgen.models.task_arguments import task_having
from kdgen.registry import Spec, register
from kdgen.types import UserError, text
from kdgen.utils.conditions import check_conditions
from kdgen.utils.devices import evaluating

Condition = Tensor | None


@register("adapter", handle=("UNet2DModel", *PIPELINES))
class Unet2d(Adapter):
    """A diffusion model of images: folders of diffusers' UNet2DModel, alone or in a pipeline.

    It gives the denoised image.

    Attributes:
        unet: diffusers' model.
        scheduler: diffusers' scheduler, whose table ``alphas_cumprod`` says the noise level of each timestep.
        pipeline: the class of the pipeline that draws images, and that is written.
        channels: channels C of its images.
        size: height and width of its images, None if its configuration does not say.
        num_classes: of a class-conditional net, else None.
        until: whether it is told the noise level at which its step ends, for average velocities.
        conditions: that it reads: ``sigma``, and ``label`` or ``until``.
    """

    part = "unet"

    def __init__(self, unet: Any, scheduler: Any, pipeline: str, until: bool = False) -> None:
        super().__init__()
        self.unet, self.scheduler, self.pipeline, self.until = unet, scheduler, pipeline, until
        self.channels: int = unet.config.in_channels
        self.size: int | Sequence[int] | None = unet.config.sample_size
        self.num_classes: int | None = unet.config.num_class_embeds
        self.predicts: str = scheduler.config.prediction_type
        self.conditions = frozenset(
            name for name, read in (("sigma", True), ("label", self.num_classes is not None), ("until", until)) if read
        )
        check_config(unet.config, self.predicts, until)
        self.timesteps = timesteps_of(scheduler)

    def forward(
        self, x: Tensor, *, sigma: Condition = None, label: Condition = None, until: Condition = None
    ) -> Tensor:
        """Denoise.

        Args:
            x: ``y + sigma * n``, ``(B, C, H, W)``, of an image ``y`` in [-1, 1] and standard normal noise ``n``.
            sigma: the noise level ``(B,)`` in units of the image range.
            label: classes ``(B,)``, read by a class-conditional net.
            until: the noise level ``(B,)`` at which the step ends, at most ``sigma``, read by a net of average
                velocities: the straight line to its answer leads to where the trajectory is at that level (Geng et al.
                2025, arXiv 2505.13447, eq. 12). At 0, as where none is told, that is the end of the trajectory.

        Returns:
            the estimate of ``y``, ``(B, C, H, W)``.

        Raises:
            UserError: without ``sigma``, for a class-conditional net without ``label``, and where told what it does not
                read.
        """
        if sigma is None:
            raise UserError(text("unet2d_sigma", "a unet2d is told the noise level: call it with sigma (B,)"))
        if self.num_classes is not None and label is None:
            raise UserError(text("unet2d_label", "this unet2d is told the class, one of {classes}: call it with "
                                 "label (B,)", classes=self.num_classes))  # fmt: skip
        check_conditions(self, label=label, until=until)
        prediction = PREDICTIONS[self.predicts]
        t = self.timesteps.timestep(sigma)
        if self.unet.config.time_embedding_type == "learned":
            t = t.round().long()
        kwargs = {} if self.num_classes is None else {"class_labels": label}
        if self.until:
            kwargs = {"class_labels": self.timesteps.timestep(torch.zeros_like(sigma) if until is None else until)}
        out: Tensor = self.unet(x * append_dims(scale_in(prediction, sigma), x), t, **kwargs).sample
        return to_denoised(prediction, out, x, sigma)

    @classmethod
    def arguments(cls, folder: Path) -> dict[str, Any]:
        """Arguments for a pipeline folder, or for that of a model, which says nothing of its training.

        Such a model is taken for an ordinary DDPM: 1000 linear betas from 1e-4 to 0.02, predicting epsilon.
        """
        if (folder / INDEX).is_file():
            return pipeline_arguments(folder)
        return {**super().arguments(folder), "scheduler": {"_class_name": "DDPMScheduler"}}

    @classmethod
    def usage(cls, repo: str, use: Spec, task: Mapping[str, Any]) -> str:
        """Lines that draw an image by plain diffusers."""
        return pipeline_usage(repo, str(use.args.get("pipeline", "DDIMPipeline")), task)

    @torch.no_grad()
    def generate(
        self,
        num_images: int,
        *,
        seed: int = 0,
        num_steps: int | None = None,
        label: Tensor | None = None,
        progress: Drawn | None = None,
    ) -> Tensor:
        """Draw images with the pipeline of diffusers, the same as it draws from the written folder by itself.

        The first images are the same however many are drawn, and up to rounding however many at once: each has a
        generator of its own, see ``pipeline_images``.

        Args:
            num_images: N.
            seed: of the noise.
            num_steps: of the scheduler; by default the pipeline's own number, 50 of DDIM and all of DDPM.
            label: classes ``(N,)`` for a class-conditional net; by default all in turn.
            progress: told how many are drawn.

        Returns:
            ``(N, C, H, W)`` in [-1, 1] on the CPU.

        Raises:
            UserError: for more steps than the scheduler has, or a net that does not know its size.
        """
        most: int = self.scheduler.config.num_train_timesteps
        steps = min(50 if self.pipeline == "DDIMPipeline" else 1000, most) if num_steps is None else num_steps
        if not 1 <= steps <= most:
            raise UserError(text("unet2d_steps", "the number of steps is from 1 to {most}, not {steps}", most=most,
                                 steps=steps))  # fmt: skip
        if self.size is None:
            raise UserError(text("unet2d_no_size", "this unet2d does not know the size of its images: give its "
                                 "configuration a sample_size"))  # fmt: skip
        pipe = self._pipeline(self.unet)
        pipe.set_progress_bar_config(disable=True)

        def hook(begin: int, end: int) -> Any:
            if self.until:
                return end_hook(pipe.scheduler)
            if self.num_classes is not None:
                return class_hook(self.num_classes, label, begin, end)
            return lambda unet, args, kwargs: (args, kwargs)

        with evaluating(self, inference=False):
            return pipeline_images(pipe, hook, num_images, seed=seed, num_steps=steps, progress=progress)

    def sampled_module(self) -> Any:
        """The model of diffusers, which its pipeline calls."""
        return self.unet

    def _pipeline(self, unet: nn.Module) -> Any:
        """A pipeline of diffusers around a model, with a scheduler of its own."""
        import diffusers

        scheduler = type(self.scheduler).from_config(self.scheduler.config)
        return getattr(diffusers, self.pipeline)(unet=unet, scheduler=scheduler)

    def save_files(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write a pipeline folder, which plain diffusers opens."""
        write(self._pipeline(portable(self.unet, dtype)), folder)

    def inherit(self, teacher: nn.Module) -> None:
        """Start from the weights of a larger ``Unet2d``: ``inherit_blocks``, and for another table ``match_times``.

        Raises:
            UserError: for a teacher of another kind or prediction, or a smaller one.
        """
        if not isinstance(teacher, Unet2d) or teacher.predicts != self.predicts:
            other = teacher.predicts if isinstance(teacher, Unet2d) else type(teacher).__name__
            raise UserError(text("unet2d_start", "a unet2d that predicts {predicts} starts from another that does, "
                                 "not from {other}: give the student its teacher's prediction_type",
                                 predicts=self.predicts, other=other))  # fmt: skip
        inherit_blocks(self.unet, teacher.unet)
        if self.unet.config.time_embedding_type == "positional" and not self.timesteps.same(teacher.timesteps):
            match_times(self.unet, self.timesteps, teacher.unet, teacher.timesteps)

    def feature_layers(self) -> list[str]:
        """The blocks, in order of use."""
        middle = [] if self.unet.mid_block is None else ["unet.mid_block"]
        down, up = len(self.unet.down_blocks), len(self.unet.up_blocks)
        return [*(f"unet.down_blocks.{i}" for i in range(down)), *middle, *(f"unet.up_blocks.{i}" for i in range(up))]

    def describe(self) -> dict[str, JsonValue]:
        """The task that it was made for."""
        facts: dict[str, Any] = {"size": self.size, "num_classes": self.num_classes}
        facts = {"name": task_having(draws="noise"), "channels": self.channels, **facts}
        return {key: value for key, value in facts.items() if value is not None}

    def extra_repr(self) -> str:
        """What its weights do not say."""
        return f"predicts={self.predicts}, scheduler={public(self.scheduler.config)}"


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
        levels = halved(size, len(block_out_channels))
        attend = [i >= levels - attention_levels for i in range(levels)]
        config = {
            "sample_size": size,
            "in_channels": channels,
            "out_channels": channels,
            "block_out_channels": tuple(block_out_channels),
            "layers_per_block": layers_per_block,
            "down_block_types": tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attend),
            "mid_block_type": "UNetMidBlock2D" if mid_block else None,
            "up_block_types": tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attend)),
            "add_attention": attention_levels > 0,
            "attention_head_dim": attention_head_dim,
            "norm_num_groups": norm_num_groups,
            "dropout": dropout,
            "num_class_embeds": num_class_embeds,
        }
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
