"""Diffusion students that draw in one to a few steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, JsonValue
from torch import Tensor

from kdgen.data import derive
from kdgen.data.source import Coupled, ImageSource
from kdgen.diffusion import check_guidance, guided
from kdgen.diffusion.few_steps import FewSampler, Table, timesteps_of, trailing_sigmas
from kdgen.models.sampling import NUM_STEPS, draw_few
from kdgen.registry import register
from kdgen.tasks.diffuse import Diffuse, Size
from kdgen.types import Batch, Metrics, Net, UserError, text
from kdgen.types.arguments import Count, CountOrZero, NonNegative, Positive, Share
from kdgen.utils.conditions import conditions_of

Steps = Annotated[Sequence[Count], Field(min_length=1, description=text("list_like_steps", "a list like [1, 2, 4]"))]


@register("task")
class FewSteps(Diffuse):
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
        table: of noise levels: ``linear`` or ``cosine``, as the student's ``beta_schedule``.
        first: share of each batch at the highest level.
        coupled: noise images of ``rollouts`` with the noise they were made of.
        mean, std: of the logarithm of sigma, in units of images in [-1, 1]; levels above the highest are cut.
        sigma_data: standard deviation of the data, which balances the weights.
        weight: ``edm``, or ``none`` for the plain squared error.
        data: whether to measure against the images as well as against the teacher.
        num_images: how many images a net is measured on.
        num_steps: of Heun's method, by which the teacher draws.
        features: extractor of the features whose distributions are compared, ``features32`` or ``inception``.
        num_classes: of a class-conditional net, see ``diffuse``.
        guidance, null_label: guide a class-conditional teacher where it is drawn, see ``kdgen.diffusion.Guidance``.

    Raises:
        UserError: for an argument that does not fit.
    """

    alike = frozenset({"diffuse"})
    group, usual_preset = "few_steps", "consistency"
    usual_methods = ("consistency", "progressive", "rectified_flow", "distribution_matching", "score_identity",
                     "mean_flow", "drawn_adversarial", "output", "blocks")  # fmt: skip

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
        guidance: NonNegative = 1.0,
        null_label: int | None = None,
    ) -> None:
        super().__init__(images, channels, size, mean, std, sigma_data, weight, data, num_images, num_steps, features,
                         num_classes)  # fmt: skip
        check_guidance("few_steps", guidance, null_label)
        self.guidance, self.null_label = guidance, null_label
        if coupled and not (isinstance(self.source, Coupled) and callable(self.source.pairs)):
            raise UserError(text("coupled_noise", "few_steps: coupled needs the noise of each image: set images to "
                                 '{{"name": "rollouts", "args": {{"model": TEACHER}}}}'))  # fmt: skip
        self.sampler, self.steps, self.table = sampler, tuple(steps), table
        self.needs |= {"until"} if sampler == "average" else set()
        self.first, self.coupled = first, coupled
        self.highest = timesteps_of(table).sigma_max
        self.calls = self.steps[0]

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

    def levels(self, count: int, random: torch.Generator) -> Tensor:
        """Noise levels of a batch, ``(count,)``, a share of them the highest."""
        sigma = (self.mean + self.std * torch.randn(count, generator=random)).exp().clamp_max(self.highest)
        sigma[torch.rand(count, generator=random) < self.first] = self.highest
        return sigma

    def weights(self, sigma: Tensor) -> Tensor | None:
        """None: methods weight their own losses."""
        return None

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """``lambda(sigma) |D(x; sigma) - y|^2`` per image, ``(B,)``: Karras et al. 2022, eq. 2 and table 1."""
        loss, weights = super().loss(out, batch), super().weights(batch.cond["sigma"])
        return loss if loss is None or weights is None else weights * loss

    def draw(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Images from noise in the first number of steps."""
        return self.draw_in(net, self.steps[0], num_images=num_images, seed=seed)

    def draw_teacher(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Images of the teacher from noise, by Heun's method."""
        return super().draw(self._guided(net), num_images=num_images, seed=seed)

    def draw_in(self, net: Net, num_steps: int, *, num_images: int, seed: int = 0) -> Tensor:
        """Images of any net in a number of steps by the student's sampler, ``(num_images, C, H, W)`` in [-1, 1].

        One that knows no average velocities, a teacher say, goes by Euler's steps in place of ``average``.
        """
        shape, sigmas = (self.channels, self.size, self.size), trailing_sigmas(num_steps, self.table)
        velocities = self.sampler == "average" and "until" not in (conditions_of(net) or ())
        sampler: FewSampler = "euler" if velocities else self.sampler
        return draw_few(net, shape, num_images, seed, sigmas, sampler, self.num_classes).clamp(-1, 1)

    def apart(self, images: Tensor, reference: Net | None, *, seed: int = 0) -> Metrics:
        """How far images are, as a distribution, from ``num_images`` of the teacher's from other noise, or the data."""
        if reference is None:
            return self._distribution(images, self._real(len(images), seed))
        return self._distribution(images, self._answers(reference, self.num_images, derive(seed, "reference")))

    def _guided(self, reference: Net) -> Net:
        """The teacher as it is drawn."""
        return guided(reference, self.guidance, self.null_label)

    def _told(self) -> Sequence[JsonValue]:
        guidance = [] if self.guidance == 1 else [self.guidance, self.null_label]
        return [*super()._told(), *guidance]

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """Figures as of ``diffuse``, and those of distributions at each number of steps, for the teacher too."""
        figures = dict(super().evaluate(net, reference=reference, seed=seed, limit=limit))
        images = min(limit or self.num_images, self.num_images)
        for number in self.steps:
            if number == self.steps[0] and net is not reference:
                apart: Mapping[str, float] = figures
            else:
                drawing = self._guided(net) if net is reference else net
                draw = partial(self.draw_in, drawing, number, num_images=images, seed=seed)
                how: tuple[JsonValue, ...] = (self.sampler, str(self.table), number, seed)
                drawn = self._kept(net, how, images, draw) if net is reference else draw()
                apart = self.apart(drawn, reference, seed=seed)
            told = (self.primary_metric, "precision", "recall")
            figures |= {f"{name}@{number}": apart[name] for name in told if name in apart}
        return figures


__all__ = ["FewSteps"]
