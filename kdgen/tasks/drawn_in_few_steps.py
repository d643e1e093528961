"""What tasks share whose students draw in one to a few steps: noise levels, and figures at each number of steps."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field, JsonValue
from torch import Tensor

from kdgen.data import derive
from kdgen.diffusion.few_steps import FewSampler
from kdgen.tasks.diffuse import Diffuse
from kdgen.types import Batch, Metrics, Net, text
from kdgen.types.arguments import Count
from kdgen.utils.conditions import conditions_of

Steps = Annotated[Sequence[Count], Field(min_length=1, description=text("list_like_steps", "a list like [1, 2, 4]"))]


class DrawnInFewSteps(Diffuse):
    """Denoise, and be measured by what is drawn in a few steps; the teacher draws in many.

    Figures at the first of ``steps`` have their usual names; those that tell distributions apart come at every number
    of steps too, as ``fd_features32@2``. Each batch has a share of images at the highest level, where students start.
    Methods weight their own losses, so batches have no weights; the task's own loss is weighted.

    Attributes:
        sampler: how the student draws.
        steps: in how many steps; the first decides.
        first: share of each batch at the highest level.
        highest: that level.
    """

    usual_methods: ClassVar[tuple[str, ...]] = (
        "consistency", "progressive", "rectified_flow", "distribution_matching", "score_identity", "mean_flow",
        "drawn_adversarial", "output", "blocks",
    )  # fmt: skip

    sampler: FewSampler
    steps: tuple[int, ...]
    first: float
    highest: float

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
        """Images of the teacher from noise, in many steps."""
        return super().draw(net, num_images=num_images, seed=seed)

    def draw_in(self, net: Net, num_steps: int, *, num_images: int, seed: int = 0) -> Tensor:
        """Images of any net in a number of steps by the student's sampler, ``(num_images, C, H, W)`` in [-1, 1]."""
        raise NotImplementedError

    def draw_teacher_in(self, net: Net, num_steps: int, *, num_images: int, seed: int = 0) -> Tensor:
        """Images of the teacher in a number of steps; here as of any net."""
        return self.draw_in(net, num_steps, num_images=num_images, seed=seed)

    def sampler_of(self, net: Net) -> FewSampler:
        """The student's sampler; Euler's steps of a net, a teacher say, that knows no average velocities."""
        velocities = self.sampler == "average" and "until" not in (conditions_of(net) or ())
        return "euler" if velocities else self.sampler

    def apart(self, images: Tensor, reference: Net | None, *, seed: int = 0) -> Metrics:
        """How far images are, as a distribution, from ``num_images`` of the teacher's from other noise, or the data."""
        if reference is None:
            return self._distribution(images, self._real(len(images), seed))
        return self._distribution(images, self._answers(reference, self.num_images, derive(seed, "reference")))

    def evaluate(self, net: Net, *, reference: Net | None = None, seed: int = 0, limit: int | None = None) -> Metrics:
        """Figures as of ``diffuse``, and at each number of steps: of distributions, of agreement with the teacher.

        Those are told for the teacher too, so that its own few steps stand beside a student's.
        """
        figures = dict(super().evaluate(net, reference=reference, seed=seed, limit=limit))
        images = min(limit or self.num_images, self.num_images)
        for number in self.steps:
            if number == self.steps[0] and net is not reference:
                apart: Mapping[str, float] = figures
            elif net is reference:
                draw = partial(self.draw_teacher_in, net, number, num_images=images, seed=seed)
                how: tuple[JsonValue, ...] = (*self._few(), number, seed)
                apart = self._in_steps(self._kept(net, how, images, draw), reference, seed=seed)
            else:
                drawn = self.draw_in(net, number, num_images=images, seed=seed)
                apart = self._in_steps(drawn, reference, seed=seed)
            told = (self.primary_metric, "precision", "recall", "r_precision", "perceptual")
            figures |= {f"{name}@{number}": apart[name] for name in told if name in apart}
        return figures

    def _in_steps(self, drawn: Tensor, reference: Net | None, *, seed: int) -> Metrics:
        """How far images are from the teacher's, as a distribution and, of the same noise, each by itself."""
        apart = {**self.apart(drawn, reference, seed=seed), **self.recognised(drawn)}
        if reference is None:
            return apart
        count = min(len(drawn), self.quick_eval_images)
        return apart | self._agreement(drawn, self._answers(reference, count, seed))

    def _few(self) -> Sequence[JsonValue]:
        """What images in few steps depend on beside their number."""
        return [self.sampler]


__all__ = ["DrawnInFewSteps", "Steps"]
