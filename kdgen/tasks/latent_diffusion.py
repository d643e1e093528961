"""Latents at every noise level, told words or a class: what the nets of text-to-image pipelines are trained on."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import JsonValue
from torch import Tensor

from kdgen.data import derive, generator, shuffled
from kdgen.diffusion import Guidance
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.drawing import captions_of
from kdgen.models.model import Model, load
from kdgen.models.parts import listening
from kdgen.models.sampling import draw_told, told_rows
from kdgen.registry import register
from kdgen.tasks.diffuse import Diffuse
from kdgen.tasks.drawing import fitted
from kdgen.types import Batch, Net, UserError, text
from kdgen.types.arguments import Count, NonNegative, Positive
from kdgen.utils.cache import Array, cache_folder, kept_array, short_hash
from kdgen.utils.devices import device_of, pick_device
from kdgen.utils.references import FilePath, ModelReference

SAID = 24
"""Prompts that a student says it was taught with: enough to draw it by where nobody gives others."""


@register("task")
class LatentDiffusion(Diffuse):
    """Denoise latents under what the teacher is told, words or a class, in the form ``x = y + sigma * n``.

    Prompts are enough: the latents are those that the teacher itself draws for them, and no picture is needed. Nets are
    measured by the pictures that the teacher's decoder makes of what they draw from the same noise.

    Args:
        model: the pipeline whose latents, words and decoder they are, the teacher as a rule.
        prompts: a list, or a text file with one a line; of a pipeline that is told classes none, and all come in turn.
        num_latents: how many latents are drawn to train on.
        num_steps: of the sampler, Euler's method on the levels of the pipeline's own scheduler, which is DDIM's or that
            of a flow.
        guidance: how far the model is guided from the empty prompt or no class where it is drawn, Ho & Salimans 2022
            (arXiv 2207.12598); 1 is not at all.
        mean, std: of the logarithm of sigma, in units of the latents.
        sigma_data: standard deviation of the latents, which balances the weights.
        weight: ``edm``, or ``none`` for the plain squared error.
        picture: height and width in pixels at which pictures are compared.
        num_images: how many pictures a net is measured on.
        features: extractor of the features whose distributions are compared, ``features32`` or ``inception``.

    Raises:
        UserError: for a model that is no pipeline of latents, prompts that are missing or too many, or another argument
            that does not fit.
    """

    name: ClassVar[str] = "latent_diffusion"
    gives: ClassVar[Literal["latents"]] = "latents"
    pipeline_tag = "text-to-image"
    group = "text_to_image"
    usual_methods: ClassVar[tuple[str, ...]] = ("output", "blocks", "feature", "attention", "relation")

    def __init__(
        self,
        model: ModelReference,
        prompts: FilePath | Sequence[str] | None = None,
        num_latents: Count = 1000,
        num_steps: Count = 20,
        guidance: NonNegative = 1.0,
        mean: float = 0.0,
        std: Positive = 1.2,
        sigma_data: Positive = 1.0,
        weight: Literal["edm", "none"] = "edm",
        picture: Count = 32,
        num_images: Count = 256,
        features: str = "features32",
    ) -> None:
        super().__init__(None, 3, picture, mean, std, sigma_data, weight, False, num_images, num_steps, features)
        self.owner: Model = load(model)
        if not isinstance(self.owner.net, LatentModel):
            raise UserError(text("no_latent_model", "{name} draws no latents under words or a class: name the folder "
                                 "or the id of a pipeline that does, Stable Diffusion's, say",
                                 name=self.owner.name))  # fmt: skip
        self.pipeline: LatentModel = self.owner.net.to(pick_device("auto")).eval()
        self.latent = (self.pipeline.latent_channels, self.pipeline.size, self.pipeline.size)
        self.prompts, self.num_latents, self.guidance = self._prompts(prompts), num_latents, guidance
        self.needs = self.pipeline.conditions
        self.calls = self.teacher_calls = num_steps * (1 if guidance == 1 else 2)

    def _prompts(self, given: str | Sequence[str] | None) -> list[str]:
        """The prompts that the pipeline is told; none of one that is told classes."""
        worded = "label" not in self.pipeline.conditions
        if given is not None and not worded:
            raise UserError(text("prompts_to_classes", "{name} is told classes, which come in turn: leave prompts out",
                                 name=self.owner.name))  # fmt: skip
        lines = read_prompts(Path(given)) if isinstance(given, str) else [*dict.fromkeys(given or [])]
        if worded and not lines:
            raise UserError(text("no_prompts", "{name} draws what words ask for: set task.args.prompts to a text file "
                                 "with a prompt a line, or to a list", name=self.owner.name))  # fmt: skip
        return lines

    @cached_property
    def _identity(self) -> str:
        """A hash of the pipeline's model, which no training changes."""
        return self.owner.fingerprint()

    @cached_property
    def told(self) -> Mapping[str, Tensor]:
        """What a net is told, a row for each prompt or class: computed once, and kept on disk in half precision."""
        if not self.prompts:
            return {"label": torch.arange(int(self.null["label"]))}
        key = short_hash(json.dumps([1, self._identity, str(self.owner.home), self.prompts]))
        names = sorted(self.pipeline.conditions - {"sigma"})
        made: dict[str, Tensor] = {}

        def one(name: str) -> Array:
            made.update(made or self.pipeline.embed(self.prompts))
            half: Array = made[name].half().numpy()
            return half

        def whole(kept: Array) -> bool:
            return len(kept) == len(self.prompts)

        folder = cache_folder("words")
        return {name: torch.from_numpy(kept_array(folder / f"{key}-{name}.npy", partial(one, name), whole))
                for name in names}  # fmt: skip

    @cached_property
    def null(self) -> Mapping[str, Tensor]:
        """What tells the pipeline of nothing: the empty prompt, or the number behind the last class."""
        return self.pipeline.null()

    def guided(self, net: Net) -> Net:
        """A net as it is drawn."""
        return net if self.guidance == 1 else Guidance(net, self.guidance, self.null).to(device_of(net))

    def describe(self) -> dict[str, Any]:
        """Name, size and channels of the latents, how they are drawn, and classes or some prompts, as there are."""
        words = {"prompts": self.prompts[:SAID]} if self.prompts else {}
        return {**self.pipeline.describe(), "num_steps": self.num_steps, "guidance": self.guidance, **words}

    def fingerprint(self) -> str:
        """A hash of the noise levels, the weights, the pipeline and what it is told."""
        known = (self.describe(), self.mean, self.std, self.sigma_data, self.weight, self.num_latents, self.prompts,
                 self._identity)  # fmt: skip
        return hashlib.sha256(repr(known).encode()).hexdigest()

    @cached_property
    def latents(self) -> Tensor:
        """What the pipeline draws for the prompts or classes in turn, ``(num_latents, Z, h, w)``, kept on disk."""
        key = json.dumps([1, self._identity, self.prompts, self.num_latents, *self._how])
        path = cache_folder("latents") / f"{short_hash(key)}.npy"

        def make() -> Array:
            half: Array = self._drawn(self.guided(self.pipeline), self.num_latents, derive(0, "latents")).half().numpy()
            return half

        return torch.from_numpy(kept_array(path, make, lambda kept: kept.shape == (self.num_latents, *self.latent)))

    @property
    def _how(self) -> list[JsonValue]:
        return [self.num_steps, self.guidance]

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches: ``y`` latents, ``x`` the same under noise, ``cond`` the level ``sigma`` and what is told."""
        for number in count(start):
            index = shuffled(self.num_latents, batch_size, generator(derive(seed, "images", number), "latents"))
            y = self.latents[index].float()
            cond = told_rows(self.told, index)
            yield self.resample_noise(Batch(x=y, y=y, cond=cond), seed=derive(seed, "noise", number))

    def example(self) -> Batch:
        """One flat latent at the noise level 1, told nothing."""
        return Batch(x=torch.zeros(1, *self.latent), cond={"sigma": torch.ones(1), **self.pipeline.example()})

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        """A latent ``(Z, h, w)``."""
        return self.latent

    def draw(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Pictures from noise, of each prompt or class in turn; see the base."""
        return self.pipeline.pictures(self._drawn(self.guided(net), num_images, seed))

    def captions(self, num_images: int) -> Sequence[str]:
        """The prompts or classes of the first images, in turn."""
        return captions_of(self.pipeline, {**self.pipeline.describe(), "prompts": self.prompts}, num_images)

    def _drawn(self, net: Net, num_images: int, seed: int) -> Tensor:
        sigmas = self.pipeline.levels(self.num_steps)
        return draw_told(net, self.latent, num_images, seed, sigmas, self.told, progress=listening())

    def _told(self) -> Sequence[JsonValue]:
        """What else the teacher's pictures depend on."""
        return [*self._how, *self.prompts]

    def draw_teacher(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Pictures of the teacher at the size at which they are compared."""
        return fitted(self.draw(net, num_images=num_images, seed=seed), self.size)


def read_prompts(path: Path) -> list[str]:
    """The lines of a text file that are not empty. Raises UserError for a file that is missing or no text."""
    try:
        lines = path.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(text("prompts_file", "{path} is no text file: give one with a prompt a line",
                             path=path)) from None  # fmt: skip
    return [line.strip() for line in lines if line.strip()]


__all__ = ["LatentDiffusion", "read_prompts"]
