"""Models of latents in one form, that of a net which gives the denoised latents of noisy ones, and their files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from pydantic import JsonValue
from torch import Tensor, nn

from kdgen.diffusion.prediction import Prediction, Timesteps, append_dims, flow_sigma, flow_time, scale_in, to_denoised
from kdgen.models.adapters.adapter import INDEX, check_class, part_folder
from kdgen.models.adapters.edm import EDM_SCHEDULERS, ScheduledPreconditioning
from kdgen.models.adapters.latent_schedulers import check_scheduler, flow_levels, known_schedulers
from kdgen.models.adapters.latent_size import LatentSize
from kdgen.models.adapters.pipeline_parts import check_parts, copy_parts, parts_of
from kdgen.models.adapters.pretrained import construct, portable, public, read_json, write
from kdgen.models.adapters.schedulers import construct_scheduler, timesteps_of
from kdgen.models.adapters.unet2d_config import PREDICTIONS
from kdgen.models.adapters.units import inherit_units
from kdgen.models.task_arguments import task_having
from kdgen.registry import Spec
from kdgen.types import UserError, text
from kdgen.utils.conditions import check_conditions
from kdgen.utils.convert import write_text

USAGE = """from diffusers import {pipeline}

pipeline = {pipeline}.from_pretrained("{repo}")
pipeline({told}{more}).images[0].save("image.png")"""

FROM_NOISE = 0.9
"""The share of the timesteps at which one that draws in few has to begin."""


def told_in_lines(task: Mapping[str, Any]) -> str:
    """What a pipeline is told of the size and the steps of a task, as code behind its first argument."""
    steps, pixels = next(iter(task.get("steps", ())), None), task.get("resolution")
    size = f", height={pixels}, width={pixels}" if pixels else ""
    return size + (f", num_inference_steps={steps}" if steps else "")


class LatentForm(LatentSize):
    """A net of latents around a model of diffusers, in one internal form: ``x = y + sigma * n``, the answer is ``y``.

    A family says how its model is called, in ``predicted``, and what it is told, in ``shapes``.

    Attributes:
        predicts_flow: whether its model gives velocities of straight lines, whatever its scheduler says.
        scheduler: diffusers' scheduler, which says the noise level of each timestep.
        pipeline: the class of the pipeline that it is a part of.
        latent_channels: channels Z of its latents.
        falls_evenly: whether its pipeline has the times of a flow fall evenly before they are moved.
        usual_told: what its pipeline is told first, as code.
        opens_lora: whether its pipeline has ``load_lora_weights``.
        timesteps: the table of noise levels; None of a flow, whose time says them, and of one that EDM preconditions.
        edm: how it is preconditioned, by a scheduler of EDM alone.
        num_classes: of a model that is told a class, else None.
        folder: of the pipeline whose other parts go along with it, None where there is none.
        conditions: what it reads: ``sigma`` and the names of ``shapes``.
    """

    predicts_flow: ClassVar[bool] = False
    falls_evenly: ClassVar[bool] = False
    usual_told: ClassVar[str] = '"a red heart"'
    opens_lora: ClassVar[bool] = True
    channels = 3
    num_classes: int | None = None

    def __init__(self, model: Any, scheduler: Any, pipeline: str) -> None:
        super().__init__()
        self.add_module(self.part, model)
        self.scheduler, self.pipeline = scheduler, pipeline
        self.folder: Path | None = None
        self.latent_channels, self.size = self.latents()
        self.edm = ScheduledPreconditioning(scheduler) if type(scheduler).__name__ in EDM_SCHEDULERS else None
        self.timesteps: Timesteps | None = None if self.predicts_flow or self.edm else timesteps_of(scheduler)
        self.conditions = frozenset({"sigma", *self.shapes()})
        outputs = model.config.out_channels
        if outputs not in (None, model.config.in_channels, 2 * model.config.in_channels):
            raise UserError(text("latent_model_outputs", "a {name} of {read} channels that gives {given} is not one "
                                 "that draws by itself (it changes pictures, perhaps), and is not handled",
                                 name=self.inseparable, read=model.config.in_channels, given=outputs))  # fmt: skip
        if not isinstance(self.size, int):
            raise UserError(text("latent_model_square", "a {name} draws square pictures here: give its configuration "
                                 "a sample_size of one number, not {size}", name=self.inseparable,
                                 size=str(self.size)))  # fmt: skip
        self.draw_at(self.size)

    @property
    def predicts(self) -> Prediction:
        """What the model says of a noisy image."""
        return "flow" if self.predicts_flow else PREDICTIONS[self.scheduler.config.prediction_type]

    def further(self) -> dict[str, Any]:
        """What it is made with beside model, scheduler and pipeline, by argument."""
        return {}

    def latents(self) -> tuple[int, int]:
        """Channels Z of its latents, and their height and width where its pipeline is told no other."""
        return self.model.config.in_channels, self.model.config.sample_size

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """What it is told beside the noise level: the shape for one image, ``()`` for a class or a number."""
        raise NotImplementedError

    def predicted(self, z: Tensor, t: Tensor, cond: Mapping[str, Tensor]) -> Tensor:
        """What the model says of latents ``(B, Z, h, w)`` at timesteps ``(B,)``, with learned variances or without."""
        raise NotImplementedError

    def forward(self, x: Tensor, *, sigma: Tensor | None = None, **cond: Tensor) -> Tensor:
        """Denoise.

        Args:
            x: ``y + sigma * n``, ``(B, Z, h, w)``, of latents ``y`` as the model is trained on them.
            sigma: the noise level ``(B,)`` in units of these latents.
            cond: what else it is told, see ``shapes``, ``(B, ...)``: ``words`` ``(B, L, D)`` of any number L and their
                ``words_mask`` ``(B, L)``, what is ``pooled`` of them ``(B, P)``; ``sizes`` ``(B, 6)``: height and width
                of a picture in pixels, top and left of the part that is shown, its height and width; a class ``label``
                ``(B,)``; the scale of ``guidance`` ``(B,)`` that a model was taught.

        Returns:
            the estimate of ``y``, ``(B, Z, h, w)``. Of a model that predicts variances too, those are left out.

        Raises:
            UserError: without ``sigma`` or another condition, and where told what it does not read.
        """
        if missing := sorted(self.conditions - {name for name, value in cond.items() if value is not None} - {"sigma"}):
            raise self._untold(missing)
        if sigma is None:
            raise self._untold(["sigma"])
        check_conditions(self, **cond)
        if self.edm is not None:
            z, t = self.edm.shown(x, sigma)
            return self.edm.denoised(self.predicted(z, t, cond)[:, : x.shape[1]], x, sigma)
        z = x * append_dims(scale_in(self.predicts, sigma), x)
        if self.timesteps is None:
            t = self.scheduler.config.num_train_timesteps * flow_time(sigma)
        else:
            t = self.timesteps.timestep(sigma)
        out = self.predicted(z, t, cond)[:, : x.shape[1]]
        return to_denoised(self.predicts, out, x, sigma)

    def _untold(self, missing: list[str]) -> UserError:
        return UserError(text("latent_model_told", "a {name} is told {names:, }: call it with {missing:, }",
                              name=self.inseparable, names=sorted(self.conditions), missing=missing))  # fmt: skip

    def levels(self, num_steps: int) -> Tensor:
        """The noise levels at which its pipeline's DDIM or flow steps, ``(num_steps + 1,)`` in float64, falling to 0.

        Raises:
            UserError: for no steps or more than there are.
        """
        self.check_steps(num_steps)
        if self.edm is not None:
            sigmas = self.edm.levels(num_steps)
        elif self.timesteps is None:
            sigmas = flow_sigma(flow_levels(self.scheduler, num_steps, self._num_tokens(), self.falls_evenly))
        else:
            scheduler = construct("DDIMScheduler", public(self.scheduler.config))
            scheduler.set_timesteps(num_steps)
            sigmas = self.timesteps.sigma(scheduler.timesteps.double())
        return torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)])

    def few_levels(self, num_steps: int) -> Tensor:
        """The noise levels at which its own scheduler draws in few steps, ``(num_steps + 1,)``, like ``levels``.

        Raises:
            UserError: for no steps or more than there are, and for a scheduler that does not start from noise alone.
        """
        if self.timesteps is None:
            return self.levels(num_steps)
        self.check_steps(num_steps)
        scheduler = construct(type(self.scheduler).__name__, public(self.scheduler.config))
        scheduler.set_timesteps(num_steps)
        steps = scheduler.timesteps.double()
        if steps[0] < FROM_NOISE * self.scheduler.config.num_train_timesteps:
            raise UserError(text("starts_late", "the first of {steps} timesteps of this {scheduler} is {first:.0f}, "
                                 'where noise is not all there is: give the student timestep_spacing "trailing", or '
                                 "an LCMScheduler", steps=num_steps, scheduler=type(self.scheduler).__name__,
                                 first=steps[0].item()))  # fmt: skip
        return torch.cat([self.timesteps.sigma(steps), torch.zeros(1, dtype=torch.float64)])

    def _num_tokens(self) -> int:
        """Squares of its latents that its model looks at, by whose number the levels of some flows are moved."""
        return (self.size // self.squares()) ** 2

    def check_steps(self, num_steps: int) -> None:
        """Refuse a number of steps that its scheduler does not take. Raises UserError."""
        most: int = self.scheduler.config.num_train_timesteps
        if not 1 <= num_steps <= most:
            raise UserError(text("unet2d_steps", "the number of steps is from 1 to {most}, not {steps}", most=most,
                                 steps=num_steps))  # fmt: skip

    @classmethod
    def arguments(cls, folder: Path) -> dict[str, Any]:
        """Arguments for the folder of a pipeline, by its configurations alone.

        Raises:
            UserError: for a model or a scheduler of another class than is handled, and missing or damaged files.
        """
        index, parts = read_json(folder / INDEX), parts_of(folder)
        model, scheduler = (parts.get(part, (None, None))[1] for part in (cls.part, "scheduler"))
        check_class(cls.part, model, (cls.inseparable,), folder)
        name = check_class(text("scheduler", "scheduler"), scheduler, known_schedulers(cls.predicts_flow), folder)
        config = public(read_json(part_folder(folder, "scheduler") / "scheduler_config.json"))
        return {
            "scheduler": {"_class_name": name, **config},
            "config": public(read_json(part_folder(folder, cls.part) / "config.json")),
            "pipeline": index["_class_name"],
        }

    @classmethod
    def built(cls, config: Mapping[str, Any], scheduler: Mapping[str, Any], pipeline: str, **more: Any) -> Self:
        """A net from its configurations. Raises UserError for such as its classes refuse."""
        check_scheduler(scheduler, predicts_flow=cls.predicts_flow)
        made = construct_scheduler(str(scheduler["_class_name"]), public(scheduler))
        return cls(construct(cls.inseparable, config), made, pipeline, **more)

    def example(self) -> dict[str, Tensor]:
        """What it is told of one image beside the noise level, all zeros."""
        return {name: torch.zeros(1, *shape, dtype=torch.long if name == "label" else torch.float32)
                for name, shape in self.shapes().items()}  # fmt: skip

    def describe(self) -> dict[str, JsonValue]:
        """The task that it was made for."""
        classes = {} if self.num_classes is None else {"num_classes": self.num_classes}
        return {"name": task_having(draws="noise", gives="latents"), "size": self.size, "channels": self.channels,
                "latent_channels": self.latent_channels, **classes}  # fmt: skip

    @classmethod
    def usage(cls, repo: str, use: Spec, task: Mapping[str, Any]) -> str:
        """Lines that draw an image by plain diffusers."""
        return USAGE.format(repo=repo, pipeline=use.args["pipeline"], told=cls.usual_told, more=told_in_lines(task))

    def sampled_module(self) -> nn.Module:
        """The model of diffusers, which its pipeline calls."""
        model: nn.Module = self.model
        return model

    def remember(self, folder: Path) -> None:
        """Have the other parts of a pipeline's folder go along. Raises UserError for weights that are pickles."""
        check_parts(folder, (self.part, "scheduler"))
        self.folder = folder

    def adopt(self, teacher: nn.Module) -> None:
        """Have the other parts of a teacher's pipeline go along."""
        if isinstance(teacher, LatentForm):
            self.folder = teacher.folder

    def inherit(self, teacher: nn.Module) -> None:
        """Start from the weights of a larger model of its class: ``inherit_units``.

        Raises:
            UserError: for a teacher of another class or prediction, or a smaller one.
        """
        if not isinstance(teacher, type(self)) or teacher.predicts != self.predicts:
            raise UserError(text("latent_model_start", "a {name} that predicts {predicts} starts from another that "
                                 "does, not from a {other}: give the student its teacher's scheduler",
                                 name=self.inseparable, predicts=self.predicts, other=type(teacher).__name__)
                            )  # fmt: skip
        inherit_units(self.model, teacher.model)
        self.adopt(teacher)

    def save_files(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Write the folder of a pipeline, which plain diffusers opens: whole where its other parts are known.

        Without these it holds the model and the scheduler, and is a pipeline once it is given the others.

        Raises:
            UserError: for parts whose weights are pickles, or that are no more there.
        """
        import diffusers

        write(portable(self.model, dtype), folder / self.part)
        write(self.scheduler, folder / "scheduler")
        index: dict[str, Any] = {}
        if self.folder is not None:
            copy_parts(self.folder, folder, (self.part, "scheduler"))
            index = read_json(self.folder / INDEX)
        own = {self.part: self.model, "scheduler": self.scheduler}
        index |= {"_class_name": self.pipeline, "_diffusers_version": diffusers.__version__}
        index |= {part: ["diffusers", type(thing).__name__] for part, thing in own.items()}
        write_text(folder / INDEX, json.dumps(dict(sorted(index.items())), indent=2) + "\n")

    def load_files(self, folder: Path) -> None:
        """Read the weights of a saved pipeline, whose other parts go along. Raises UserError if they do not fit."""
        super().load_files(folder)
        self.remember(folder)

    def extra_repr(self) -> str:
        """What its weights do not say."""
        return f"predicts={self.predicts}, scheduler={public(self.scheduler.config)}"
