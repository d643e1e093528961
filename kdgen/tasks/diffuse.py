"""Denoising at every noise level: what a diffusion model is trained on."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field, JsonValue
from torch import Tensor

from kdgen.data import Images, derive, generator, make_images
from kdgen.data.labelled import is_labelled
from kdgen.data.source import ImageSource
from kdgen.diffusion import HowGuided, edm_weight, guidance_of, guided, log_normal, null_label
from kdgen.diffusion.few_steps import trailing_sigmas
from kdgen.models.parts import Drawn
from kdgen.models.sampling import NUM_STEPS, denoise_noise, draw_few, in_turn
from kdgen.registry import register
from kdgen.tasks.drawing import Drawing
from kdgen.types import Batch, Net, UserError, text
from kdgen.types.arguments import Count, CountOrZero, Positive
from kdgen.utils.cache import cache_folder, fingerprint, kept_array, short_hash


def _square(size: object) -> object:
    """A size as it is. Raises UserError for the height and width of images that are not square."""
    if isinstance(size, list | tuple):
        raise UserError(text("square_images", "images are square here, not {size}: kdgen generate draws those; to "
                             "teach or to measure, set task.args.size to one number",
                             size="x".join(map(str, size))))  # fmt: skip
    return size


Size = Annotated[int, BeforeValidator(_square), Field(ge=1)]
"""Height and width of images in pixels."""


@register("task")
class Diffuse(Drawing):
    """Denoise at every noise level, in one form for all diffusion models: ``x = y + sigma * n``, the answer is ``y``.

    Noise levels are lognormal and errors weighted as by Karras et al. 2022 (arXiv 2206.00364), table 1. A teacher is
    enough: with ``{"name": "samples", "args": {"model": TEACHER}}`` as images the data are its own.

    Args:
        images: clean images to train on, ``{"name": ..., "args": {...}}``.
        channels: of the images, 1 or 3.
        size: height and width of the images in pixels.
        mean, std: of the logarithm of sigma, in units of images in [-1, 1].
        sigma_data: standard deviation of the data, which balances the weights.
        weight: ``edm``, or ``none`` for the plain squared error.
        data: whether to measure against the images as well as against the teacher.
        num_images: how many images a net is measured on.
        num_steps: steps of the sampler that draws them, Heun's method on a Karras schedule.
        features: extractor of the features whose distributions are compared, ``features32`` or ``inception``.
        num_classes: of a class-conditional net, which is told the ``label`` ``(B,)`` of each image, and in drawing its
            classes in turn; by default as many as the images have: ``idx`` with labels, a ``mixture`` of such, or
            ``samples`` of a class-conditional model.
        guidance: of a conditional teacher, a scale or a mapping, see ``kdgen.diffusion.GuidanceSpec``; its ``null`` is
            the label of no class.

    Raises:
        UserError: for an argument that does not fit.
    """

    draws = "noise"
    needed_facts = ("size",)
    pipeline_tag = "unconditional-image-generation"
    group = usual_preset = "diffusion"
    usual_methods: ClassVar[tuple[str, ...]] = ("output", "blocks", "feature", "attention", "relation")

    def __init__(
        self,
        images: ImageSource | None = None,
        channels: Count = 1,
        size: Size = 32,
        mean: float = -1.2,
        std: Positive = 1.2,
        sigma_data: Positive = 0.5,
        weight: Literal["edm", "none"] = "edm",
        data: bool = False,
        num_images: Count = 1000,
        num_steps: Count = NUM_STEPS,
        features: str = "features32",
        num_classes: CountOrZero | None = None,
        guidance: HowGuided = None,
    ) -> None:
        super().__init__()
        self.guidance = guidance_of(guidance)
        self.channels, self.size, self.num_images, self.features = channels, size, num_images, features
        self.mean, self.std, self.sigma_data, self.weight, self.num_steps = mean, std, sigma_data, weight, num_steps
        self.source: Images | None = None if images is None else make_images(images)
        self.images = self.source if data else None
        known = self.source.num_classes if is_labelled(self.source) else 0
        self.num_classes: int = known if num_classes is None else num_classes
        if self.num_classes:
            self._check_classes(known)
        self.calls = self.teacher_calls = 2 * num_steps - 1
        self.needs = frozenset({"sigma", "label"} if self.num_classes else {"sigma"})
        self._settle_guidance()

    def _settle_guidance(self) -> None:
        """Have students told of what the teacher is guided by, and count calls. Raises UserError for a missing null."""
        if self.gives == "images":
            null_label(self.guidance)
        self.needs |= {"guidance"} if self.guidance is not None and self.guidance.ranges else set()
        self.calls, self.teacher_calls = self.calls_a_step * self.calls, self.calls_a_step * self.teacher_calls

    @property
    def calls_a_step(self) -> int:
        """Calls of a net in a step of its sampler: two where it is guided there, which one taught by that is not."""
        return 2 if self.guidance is not None and not self.guidance.distilled else 1

    @property
    def null(self) -> Mapping[str, Tensor]:
        """What tells a net of nothing, by name; empty where nothing is guided."""
        return null_label(self.guidance)

    def guided(self, teacher: Net) -> Net:
        """The teacher under its guidance, unless students are guided too where they draw."""
        how = self.guidance
        return guided(teacher, how, self.null) if how is not None and how.distilled else teacher

    def as_drawn(self, net: Net) -> Net:
        """A net under the guidance under which all draw, where students were not taught to answer so at once."""
        how = self.guidance
        return guided(net, how, self.null) if how is not None and not how.distilled else net

    def told_in_turn(self, labels: Sequence[int] | None = None) -> Mapping[str, Tensor]:
        """What images are told in turn, by name: classes, and of a range of guidance its middle."""
        return {**in_turn(self.num_classes, labels), **self._usual_scale()}

    def _usual_scale(self) -> Mapping[str, Tensor]:
        ranges = self.guidance is not None and self.guidance.ranges
        return {"guidance": torch.tensor([self.guidance.usual])} if ranges and self.guidance else {}

    def _check_classes(self, known: int) -> None:
        if self.source is not None and not 0 < known <= self.num_classes:
            raise UserError(text("diffuse_classes", "diffuse: num_classes is {count} and the images have {known} "
                                 "classes: give images with labels below num_classes", count=self.num_classes,
                                 known=known or text("none_of_them", "no")))  # fmt: skip

    def describe(self) -> dict[str, Any]:
        """Name, size and channels of the images, steps of the sampler, and classes where there are any."""
        told = {"name": "diffuse", "size": self.size, "channels": self.channels, "num_steps": self.num_steps}
        return told | ({"num_classes": self.num_classes} if self.num_classes else {})

    def fingerprint(self) -> str:
        """A hash of the noise levels, the weights and the images."""
        known = (self.describe(), self.mean, self.std, self.sigma_data, self.weight,
                 *([] if self.guidance is None else [self.guidance]))  # fmt: skip
        images = None if self.source is None else self.source.fingerprint()
        return hashlib.sha256(repr((known, images)).encode()).hexdigest()

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches: ``y`` images, ``x`` the same under noise, ``cond["sigma"]`` and ``weight`` ``(B,)``.

        With classes, ``cond["label"]`` ``(B,)`` too.
        """
        if self.source is None:
            raise UserError(text("diffuse_images", "diffuse: training needs images: set task.args.images to "
                                 '{{"name": "folder", ...}}, or to {{"name": "samples", "args": {{"model": '
                                 "TEACHER}}}} for the teacher's own"))  # fmt: skip
        for number in count(start):
            drawn = derive(seed, "images", number)
            clean = self._clean(batch_size, drawn)
            yield self.resample_noise(clean, seed=derive(seed, "noise", number))

    def _clean(self, count: int, seed: int) -> Batch:
        """Images without noise, and their classes where a net is told them."""
        source: Any = self.source
        if self.num_classes and is_labelled(source):
            y, label = source.labelled(count, self.size, channels=self.channels, seed=seed)
            return Batch(x=y, y=y, cond={"label": label})
        y = source.patches(count, self.size, channels=self.channels, seed=seed)
        return Batch(x=y, y=y)

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The same images under other noise of other levels."""
        assert batch.y is not None
        random = generator(seed, "noise")
        sigma = self.levels(len(batch.y), random)
        noise = torch.randn(batch.y.shape, generator=random)
        noisy = torch.addcmul(batch.y, noise, sigma.view(-1, 1, 1, 1))
        cond = {**batch.cond, "sigma": sigma}
        if self.guidance is not None and isinstance(self.guidance.scale, tuple):
            low, high = self.guidance.scale
            cond["guidance"] = low + (high - low) * torch.rand(len(batch.y), generator=random)
        return replace(batch, x=noisy, weight=self.weights(sigma), cond=cond)

    def levels(self, count: int, random: torch.Generator) -> Tensor:
        """Noise levels of a batch, ``(count,)``."""
        return log_normal(count, random, self.mean, self.std)

    def weights(self, sigma: Tensor) -> Tensor | None:
        """How much images at these levels count, ``(B,)``; None where all count alike."""
        return edm_weight(sigma, self.sigma_data) if self.weight == "edm" else None

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """``|D(x; sigma) - y|^2`` per image, ``(B,)``, a mean over channels and pixels: Karras et al. 2022, eq. 2."""
        assert batch.y is not None
        return (out - batch.y).square().mean((1, 2, 3))

    def example(self) -> Batch:
        """One flat image at the noise level 1."""
        cond = {"sigma": torch.ones(1)} | ({"label": torch.zeros(1, dtype=torch.long)} if self.num_classes else {})
        return Batch(x=torch.zeros(1, self.channels, self.size, self.size), cond={**cond, **self._usual_scale()})

    @classmethod
    def draw_model(
        cls,
        net: Net,
        facts: Mapping[str, Any],
        num_images: int,
        *,
        seed: int,
        num_steps: int | None,
        labels: Sequence[int] | None,
        progress: Drawn | None,
    ) -> Tensor:
        """Images from noise, by the sampler that the model was made for, Heun's method if none; see the base."""
        shape, classes = (facts["channels"], facts["size"], facts["size"]), facts.get("num_classes", 0)
        if num_steps and "sampler" in facts:
            sigmas = trailing_sigmas(num_steps, facts.get("table", "linear"))
            told = in_turn(classes, labels)
            return draw_few(net, shape, num_images, seed, sigmas, facts["sampler"], told, progress).clamp(-1, 1)
        told = in_turn(classes, labels)
        return denoise_noise(net, shape, num_images, seed, num_steps or NUM_STEPS, told, progress).clamp(-1, 1)

    @classmethod
    def limits(cls, facts: Mapping[str, Any]) -> str:
        """The images that it was trained on, and their size."""
        return "It draws only the kind of images that it was trained on, at the size named in its configuration."

    def draw(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Images from noise, of each class in turn; see the base."""
        own, told = self.as_drawn(net), self.told_in_turn()
        return denoise_noise(own, self._shape, num_images, seed, self.num_steps, told).clamp(-1, 1)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.channels, self.size, self.size

    def _answers(self, reference: Net, count: int, seed: int) -> Tensor:
        """The teacher's images, drawn once for all runs: they are kept on disk."""
        known = self._known.setdefault(reference, {})
        if len(known.get(seed, ())) < count:
            draw = partial(self.draw_teacher, reference, num_images=count, seed=seed)
            known[seed] = self._kept(reference, (self.num_steps, seed), count, draw)
        return known[seed][:count]

    def _told(self) -> Sequence[JsonValue]:
        """What else the teacher's images depend on."""
        how = [] if self.guidance is None else [self.guidance.model_dump_json()]
        return [*([self.num_classes] if self.num_classes else []), *how]

    def _kept(self, reference: Net, how: Sequence[JsonValue], count: int, draw: Callable[[], Tensor]) -> Tensor:
        """What ``draw`` gives, from disk where it is; the first images are the same however many are drawn."""
        key = json.dumps([1, fingerprint(reference), self._shape, *how, *self._told()])
        path = cache_folder("drawings") / f"{short_hash(key)}.npy"
        kept = kept_array(path, lambda: draw().numpy(), lambda x: x.shape[1:] == self._shape and len(x) >= count)
        return torch.from_numpy(kept[:count])


__all__ = ["Diffuse"]
