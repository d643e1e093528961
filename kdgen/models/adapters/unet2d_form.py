"""UNet2DModel as a net that denoises, however it is told the noise level, and the pipeline folder it lives in."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from kdgen.models.adapters.adapter import INDEX, Adapter, check_class, part_folder
from kdgen.models.adapters.blocks import inherit_blocks
from kdgen.models.adapters.pipeline_images import class_hook, pipeline_images, pipeline_usage
from kdgen.models.adapters.pipeline_parts import usual_value
from kdgen.models.adapters.pretrained import construct, portable, public, read_json, write
from kdgen.models.adapters.schedulers import construct_scheduler
from kdgen.models.adapters.unet2d_config import check_images
from kdgen.models.parts import Drawn
from kdgen.models.task_arguments import task_having
from kdgen.registry import Spec
from kdgen.types import UserError, text
from kdgen.utils.conditions import check_conditions
from kdgen.utils.devices import evaluating

Condition = Tensor | None


class Unet2dForm(Adapter):
    """A net around diffusers' UNet2DModel that gives the denoised image.

    A family says what the model is shown of a noisy image, in ``shown``, and what its answer stands for, in
    ``denoised``.

    Attributes:
        schedulers: classes of its scheduler.
        usual_pipeline: the class of its pipeline where none is named.
        together: how many images its pipeline draws at once at most, where one depends on the others.
        unet: diffusers' model.
        scheduler: diffusers' scheduler, which says the noise levels.
        pipeline: the class of the pipeline that draws images, and that is written.
        predicts: what the model says of a noisy image.
        channels: channels C of its images.
        size: height and width of its images, None if its configuration does not say.
        num_classes: of a class-conditional net, else None.
        conditions: that it reads: ``sigma``, and ``label`` of a class-conditional net.
    """

    part = "unet"
    schedulers: ClassVar[tuple[str, ...]]
    usual_pipeline: ClassVar[str]
    together: ClassVar[int | None] = None
    predicts: str

    def __init__(self, unet: Any, scheduler: Any, pipeline: str | None = None) -> None:
        super().__init__()
        self.unet, self.scheduler, self.pipeline = unet, scheduler, pipeline or self.usual_pipeline
        self.channels: int = unet.config.in_channels
        self.size: int | Sequence[int] | None = unet.config.sample_size
        self.num_classes: int | None = unet.config.num_class_embeds
        self.conditions = frozenset({"sigma"} if self.num_classes is None else {"sigma", "label"})
        check_images(unet.config)

    def shown(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """What the model is called with at ``x`` ``(B, C, H, W)`` and ``sigma`` ``(B,)``: an input, a time ``(B,)``."""
        raise NotImplementedError

    def denoised(self, out: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
        """The denoised image ``(B, C, H, W)`` that an answer of the model stands for."""
        raise NotImplementedError

    def forward(self, x: Tensor, *, sigma: Condition = None, label: Condition = None) -> Tensor:
        """Denoise.

        Args:
            x: ``y + sigma * n``, ``(B, C, H, W)``, of an image ``y`` in [-1, 1] and standard normal noise ``n``.
            sigma: the noise level ``(B,)`` in units of the image range.
            label: classes ``(B,)``, read by a class-conditional net.

        Returns:
            the estimate of ``y``, ``(B, C, H, W)``.

        Raises:
            UserError: without ``sigma``, for a class-conditional net without ``label``, and where told what it does not
                read.
        """
        if self.num_classes is not None and label is None:
            raise UserError(text("unet2d_label", "this unet2d is told the class, one of {classes}: call it with "
                                 "label (B,)", classes=self.num_classes))  # fmt: skip
        check_conditions(self, label=label)
        return self.asked(x, sigma, {} if label is None else {"class_labels": label})

    def asked(self, x: Tensor, sigma: Condition, told: Mapping[str, Tensor]) -> Tensor:
        """The estimate of ``y`` of a model that is called with what else it is told, by its arguments."""
        if sigma is None:
            raise UserError(text("unet2d_sigma", "a unet2d is told the noise level: call it with sigma (B,)"))
        z, t = self.shown(x, sigma)
        return self.denoised(self.unet(z, t, **told).sample, x, sigma)

    @classmethod
    def arguments(cls, folder: Path) -> dict[str, Any]:
        """Arguments for a pipeline folder, by its configurations alone.

        Raises:
            UserError: for a part of a class that is not handled, and for missing or damaged files.
        """
        index = read_json(folder / INDEX)
        unet, scheduler = ((index.get(part) or [None, None])[-1] for part in ("unet", "scheduler"))
        check_class("unet", unet, ("UNet2DModel",), folder)
        name = check_class(text("scheduler", "scheduler"), scheduler, cls.schedulers, folder)
        config = public(read_json(part_folder(folder, "scheduler") / "scheduler_config.json"))
        return {
            "scheduler": {"_class_name": name, **config},
            "config": public(read_json(part_folder(folder, "unet") / "config.json")),
        }

    @classmethod
    def built(cls, config: Mapping[str, Any], scheduler: Mapping[str, Any]) -> Self:
        """A net from its configurations. Raises UserError for such as its classes refuse."""
        name = str(scheduler.get("_class_name", cls.schedulers[0]))
        if name not in cls.schedulers:
            raise UserError(text("no_scheduler_of", "a net of {pipeline} has a {names: or }, not a {name}",
                                 pipeline=cls.usual_pipeline, names=[*cls.schedulers], name=name))  # fmt: skip
        return cls(construct("UNet2DModel", config), construct_scheduler(name, public(scheduler)))

    @classmethod
    def usage(cls, repo: str, use: Spec, task: Mapping[str, Any]) -> str:
        """Lines that draw an image by plain diffusers."""
        return pipeline_usage(repo, str(use.args.get("pipeline", cls.usual_pipeline)), task)

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
        steps = min(usual_value(self.pipeline, "num_inference_steps"), most) if num_steps is None else num_steps
        self.check_steps(steps)
        if self.size is None:
            raise UserError(text("unet2d_no_size", "this unet2d does not know the size of its images: give its "
                                 "configuration a sample_size"))  # fmt: skip
        pipe = self._pipeline(self.unet)
        pipe.set_progress_bar_config(disable=True)

        def hook(begin: int, end: int) -> Any:
            return self.hook(pipe, label, begin, end)

        with evaluating(self, inference=False):
            return pipeline_images(pipe, hook, num_images, seed=seed, num_steps=steps, together=self.together,
                                   progress=progress)  # fmt: skip

    def check_steps(self, num_steps: int) -> None:
        """Refuse a number of steps that its scheduler does not take. Raises UserError."""
        most: int = self.scheduler.config.num_train_timesteps
        if not 1 <= num_steps <= most:
            raise UserError(text("unet2d_steps", "the number of steps is from 1 to {most}, not {steps}", most=most,
                                 steps=num_steps))  # fmt: skip

    def hook(self, pipe: Any, label: Tensor | None, begin: int, end: int) -> Any:
        """A forward pre-hook that passes the model, for some images, what its pipeline does not."""
        if self.num_classes is not None:
            return class_hook(self.num_classes, label, begin, end)
        return lambda unet, args, kwargs: (args, kwargs)

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
        """Start from the weights of a larger one of its kind: ``inherit_blocks``.

        Raises:
            UserError: for a teacher of another kind or prediction, or a smaller one.
        """
        if not isinstance(teacher, type(self)) or teacher.predicts != self.predicts:
            other = teacher.predicts if isinstance(teacher, Unet2dForm) else type(teacher).__name__
            raise UserError(text("unet2d_start", "a unet2d that predicts {predicts} starts from another that does, "
                                 "not from {other}: give the student its teacher's prediction_type",
                                 predicts=self.predicts, other=other))  # fmt: skip
        inherit_blocks(self.unet, teacher.unet)

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


__all__ = ["Condition", "Unet2dForm"]
