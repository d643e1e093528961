"""Diffusion students that draw in one to a few steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any, Literal

import torch
from pydantic import JsonValue
from torch import Tensor

from kdgen import registry
from kdgen.data import derive
from kdgen.data.source import Coupled, ImageSource
from kdgen.diffusion import GuidanceSpec, HowGuided, guidance_of
from kdgen.diffusion.few_steps import FewSampler, Table, timesteps_of
from kdgen.models.sampling import NUM_STEPS, draw_few, few_levels
from kdgen.registry import Spec, register
from kdgen.tasks.diffuse import Size
from kdgen.tasks.drawn_in_few_steps import DrawnInFewSteps, Steps
from kdgen.types import Batch, Net, UserError, text
from kdgen.types.arguments import Count, CountOrZero, Positive, Share


@register("task")
class FewSteps(DrawnInFewSteps):
    """Denoise as in ``diffuse``, and be measured by what is drawn in a few steps; the teacher draws in many.

    Noise levels are those of ``kdgen.diffusion.few_steps.trailing_sigmas``. Figures at the first of ``steps`` have
    their usual names; those that tell distributions apart come at every number of steps too, as ``fd_features32@2``.

    Each batch has a share of images at the highest level, where students start. Methods weight their own losses, so
    batches have no weights; the task's own loss is weighted as in ``diffuse``.

    Args:
        images: clean images to train on, ``{"name": ..., "args": {...}}``; ``samples`` or ``rollouts`` of the teacher
            need no data.
        channels: of the images, 1 or 3.
        size: height and width of the images in pixels.
        sampler: how the student draws: ``consistency``, ``euler`` or ``average``.
        steps: in how many steps; the first decides.
        table: of noise levels: ``linear`` or ``cosine``, as the student's ``beta_schedule``, or EDM's, ``karras``.
        first: share of each batch at the highest level.
        coupled: noise images of ``rollouts`` with the noise they were made of.
        mean, std: of the logarithm of sigma, in units of images in [-1, 1]; levels above the highest are cut.
        sigma_data: standard deviation of the data, which balances the weights.
        weight: ``edm``, or ``none`` for the plain squared error.
        data: whether to measure against the images as well as against the teacher.
        num_images: how many images a net is measured on.
        num_steps: in which the teacher draws.
        teacher_sampler: how the teacher draws: ``heun``, or ``student`` for one of few steps itself, which draws as its
            students do.
        features: extractor of the features whose distributions are compared, ``features32`` or ``inception``.
        num_classes: of a class-conditional net, see ``diffuse``.
        guidance: of a class-conditional teacher, a scale or a mapping, see ``kdgen.diffusion.GuidanceSpec``; its
            ``null`` is the label of no class.

    Raises:
        UserError: for an argument that does not fit.
    """

    alike = frozenset({"diffuse"})
    group, usual_preset = "few_steps", "consistency"

    def __init__(
        self,
        images: ImageSource | None = None,
        channels: Count = 1,
        size: Size = 32,
        sampler: FewSampler = "consistency",
        steps: Steps = (1, 2, 4),
        table: Table = "linear",
        first: Share = 0.1,
        coupled: bool = False,
        mean: float = -0.8,
        std: Positive = 1.6,
        sigma_data: Positive = 0.5,
        weight: Literal["edm", "none"] = "edm",
        data: bool = False,
        num_images: Count = 1000,
        num_steps: Count = NUM_STEPS,
        features: str = "features32",
        num_classes: CountOrZero | None = None,
        guidance: HowGuided = None,
        teacher_sampler: Literal["heun", "student"] = "heun",
    ) -> None:
        own = _guided_source(images, guidance_of(guidance))
        super().__init__(own, channels, size, mean, std, sigma_data, weight, data, num_images, num_steps, features,
                         num_classes, guidance)  # fmt: skip
        if coupled and not (isinstance(self.source, Coupled) and callable(self.source.pairs)):
            raise UserError(text("coupled_noise", "few_steps: coupled needs the noise of each image: set images to "
                                 '{{"name": "rollouts", "args": {{"model": TEACHER}}}}'))  # fmt: skip
        self.sampler, self.steps, self.table = sampler, tuple(steps), table
        self.needs |= {"until"} if sampler == "average" else set()
        self.first, self.coupled = first, coupled
        self.highest = timesteps_of(table).sigma_max
        self.calls = self.steps[0] * self.calls_a_step
        self.teacher_sampler = teacher_sampler
        if teacher_sampler == "student":
            self.teacher_calls = num_steps * self.calls_a_step

    def describe(self) -> dict[str, Any]:
        """Name, size and channels of the images, sampler, its table, and the steps to draw in."""
        return {"name": "diffuse", "size": self.size, "channels": self.channels, "sampler": self.sampler,
                "steps": list(self.steps), "table": self.table,
                **({"num_classes": self.num_classes} if self.num_classes else {})}  # fmt: skip

    def fingerprint(self) -> str:
        """A hash of the noise levels, the weights and the images."""
        return f"{super().fingerprint()}-{self.first}-{self.coupled}"

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches: ``y`` images, ``x`` the same under noise, ``cond["sigma"]`` ``(B,)``."""
        if not self.coupled:
            yield from super().batches(batch_size=batch_size, seed=seed, start=start)
            return
        pairs: Any = self.source
        for number in count(start):
            drawn = derive(seed, "images", number)
            y, noise = pairs.pairs(batch_size, self.size, channels=self.channels, seed=drawn)
            batch = self.resample_noise(self._clean(batch_size, drawn), seed=derive(seed, "noise", number))
            yield replace(batch, x=torch.addcmul(y, noise, batch.cond["sigma"].view(-1, 1, 1, 1)))

    def draw_in(self, net: Net, num_steps: int, *, num_images: int, seed: int = 0) -> Tensor:
        """Images of any net in a number of steps by the student's sampler; see the base."""
        shape, sigmas = (self.channels, self.size, self.size), few_levels(net, num_steps, self.table)
        own, told = self.as_drawn(net), self.told_in_turn()
        return draw_few(own, shape, num_images, seed, sigmas, self.sampler_of(net), told).clamp(-1, 1)

    def draw_teacher(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Images of the teacher from noise, in many steps or in its own few."""
        if self.teacher_sampler == "student":
            return self.draw_in(net, self.num_steps, num_images=num_images, seed=seed)
        return super().draw_teacher(net, num_images=num_images, seed=seed)

    def _told(self) -> Sequence[JsonValue]:
        return [*super()._told(), *([self.sampler] if self.teacher_sampler == "student" else [])]

    def _few(self) -> Sequence[JsonValue]:
        return [self.sampler, str(self.table)]


def _guided_source(images: Any, how: GuidanceSpec | None) -> Any:
    """A source of images that are the teacher's own as a recipe describes it, guided as the teacher is."""
    name = images.name if isinstance(images, Spec) else images.get("name") if isinstance(images, Mapping) else None
    if how is None or name not in registry.names("images") or not registry.accepts("images", name, "guidance"):
        return images
    use = Spec.model_validate(images)
    return use.model_copy(update={"args": {"guidance": how.model_dump(mode="json"), **use.args}})


__all__ = ["FewSteps"]
