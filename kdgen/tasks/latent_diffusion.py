"""Latents at every noise level, told words or a class: what the nets of text-to-image pipelines are trained on."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from itertools import count, cycle, islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import JsonValue
from torch import Tensor

from kdgen.data import derive, generator, shuffled
from kdgen.data.source import ImageSource
from kdgen.diffusion import HowGuided
from kdgen.diffusion.few_steps import FewSampler
from kdgen.metrics.recognition import Judge
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.models.drawing import captions_of
from kdgen.models.model import load
from kdgen.models.parts import listening
from kdgen.models.sampling import draw_few, told_rows
from kdgen.registry import register
from kdgen.tasks.captioned_latents import CaptionedLatents, forgetful
from kdgen.tasks.diffuse import Diffuse
from kdgen.tasks.drawing import fitted
from kdgen.types import Batch, Metrics, Net, Text, UserError, text
from kdgen.types.arguments import Count, Positive, Share
from kdgen.utils.cache import Array, cache_folder, kept_array, short_hash
from kdgen.utils.devices import pick_device
from kdgen.utils.references import FilePath, ModelReference

PROMPTS = "prompts.txt"
"""A file in a pipeline's folder, of what it was told where it was trained."""

SAID = 24
"""Prompts that a student says it was taught with: enough to draw it by where nobody gives others."""


@register("task")
class LatentDiffusion(Diffuse):
    """Denoise latents under what the teacher is told, words or a class, in the form ``x = y + sigma * n``.

    Prompts are enough: the latents are those that the teacher itself draws for them, and no picture is needed. Where
    there are pictures with captions, theirs are trained on, which takes no teacher. Nets are measured by the pictures
    that the teacher's decoder makes of what they draw from the same noise.

    Args:
        model: the pipeline whose latents, words and decoder they are, the teacher as a rule.
        prompts: a list, or a text file with one a line; by default those in a file ``prompts.txt`` of the pipeline's
            folder. Of one that is told classes none, and all come in turn.
        num_latents: how many latents are drawn to train on.
        num_steps: of the sampler, Euler's method on the levels of the pipeline's own scheduler, which is DDIM's or that
            of a flow.
        guidance: of the teacher, a scale or a mapping, see ``kdgen.diffusion.GuidanceSpec``; by default its ``null`` is
            the empty prompt, or no class.
        mean, std: of the logarithm of sigma, in units of the latents.
        sigma_data: standard deviation of the latents, which balances the weights.
        weight: ``edm``, or ``none`` for the plain squared error.
        picture: height and width in pixels at which pictures are compared.
        num_images: how many pictures a net is measured on.
        features: extractor of the features whose distributions are compared, ``features32`` or ``inception``.
        images: pictures with captions, as the source ``captioned`` has them; all their captions are the prompts where
            none are given.
        drop: of these, the share of a batch that is told the empty prompt, so that what is trained can be guided.
        recognise: a classifier whose classes are words, as the bundled ``emoji-words``, which tells how often pictures
            show what was asked for: ``r_precision``.
        resolution: height and width in pixels of what is drawn, as ``height`` and ``width`` of diffusers' pipelines; by
            default those at which the pipeline draws by itself.

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
        guidance: HowGuided = None,
        mean: float = 0.0,
        std: Positive = 1.2,
        sigma_data: Positive = 1.0,
        weight: Literal["edm", "none"] = "edm",
        picture: Count = 32,
        num_images: Count = 256,
        features: str = "features32",
        images: ImageSource | None = None,
        drop: Share = 0.1,
        recognise: ModelReference | None = None,
        resolution: Count | None = None,
    ) -> None:
        super().__init__(None, 3, picture, mean, std, sigma_data, weight, False, num_images, num_steps, features,
                         guidance=guidance)  # fmt: skip
        self.model, self.opened = model, load(model)
        if not isinstance(self.opened.net, LatentModel):
            raise UserError(text("no_latent_model", "{name} draws no latents under words or a class: name the folder "
                                 "or the id of a pipeline that does, Stable Diffusion's, say",
                                 name=self.opened.name))  # fmt: skip
        self.pipeline: LatentModel = self.opened.net.to(pick_device("auto")).eval()
        self.resolution = resolution
        if resolution is not None:
            self.pipeline.draw_at(self.pipeline.size_for(resolution))
        self.latent = (self.pipeline.latent_channels, self.pipeline.size, self.pipeline.size)
        self.shown = None if images is None else CaptionedLatents(images, self.pipeline, self._identity)
        self.drop, self.judge = drop, None if recognise is None else Judge(recognise)
        if self.shown is not None:
            self.source = self.images = self.shown.source
            prompts, num_latents = prompts or self.shown.prompts, len(self.shown.row)
        self.prompts, self.num_latents = self._prompts(prompts), num_latents
        self.needs = self.pipeline.conditions
        self.calls = self.teacher_calls = num_steps
        self._settle_guidance()

    def _prompts(self, given: str | Sequence[str] | None) -> list[str]:
        """The prompts that the pipeline is told; none of one that is told classes."""
        worded = "label" not in self.pipeline.conditions
        if given is not None and not worded:
            raise UserError(text("prompts_to_classes", "{name} is told classes, which come in turn: leave prompts out",
                                 name=self.opened.name))  # fmt: skip
        own = Path(self.pipeline.folder or "", PROMPTS)
        if given is None and worded and own.is_file():
            given = str(own)
        lines = read_prompts(Path(given)) if isinstance(given, str) else [*dict.fromkeys(given or [])]
        if worded and not lines:
            raise UserError(text("no_prompts", "{name} draws what words ask for: set task.args.prompts to a text file "
                                 "with a prompt a line, or to a list", name=self.opened.name))  # fmt: skip
        return lines

    @cached_property
    def _identity(self) -> str:
        """A hash of the pipeline's model, which no training changes."""
        return self.opened.fingerprint()

    @cached_property
    def told(self) -> Mapping[str, Tensor]:
        """What a net is told, a row for each prompt or class: computed once, and kept on disk in half precision."""
        return self._read(self.prompts) if self.prompts else {"label": torch.arange(int(self.null["label"]))}

    def _read(self, prompts: list[str]) -> Mapping[str, Tensor]:
        key = short_hash(json.dumps([1, self._identity, str(self.opened.home), prompts, *self._sized.values()]))
        names = sorted(self.pipeline.conditions - {"sigma"})
        made: dict[str, Tensor] = {}

        def one(name: str) -> Array:
            made.update(made or self.pipeline.embed(prompts))
            half: Array = made[name].half().numpy()
            return half

        def whole(kept: Array) -> bool:
            return len(kept) == len(prompts)

        folder = cache_folder("words")
        return {name: torch.from_numpy(kept_array(folder / f"{key}-{name}.npy", partial(one, name), whole))
                for name in names}  # fmt: skip

    @cached_property
    def null(self) -> Mapping[str, Tensor]:
        """What tells the pipeline of nothing: the empty prompt or another, or the number behind the last class."""
        away = None if self.guidance is None else self.guidance.null
        return self.pipeline.null(away) if isinstance(away, str) else self.pipeline.null()

    def describe(self) -> dict[str, Any]:
        """Name, size and channels of the latents, how a student draws, and classes or some prompts, as there are.

        One that was taught to need no guidance, or was never guided, draws without.
        """
        how, words = self.guidance, {"prompts": self.prompts[:SAID]} if self.prompts else {}
        scale = how.usual if how is not None and (how.ranges or not how.distilled) else 1.0
        return {**self.pipeline.describe(), "num_steps": self.num_steps, "guidance": scale, **words, **self._sized}

    def fingerprint(self) -> str:
        """A hash of the noise levels, the weights, the pipeline and what it is told."""
        known = (self.describe(), self.mean, self.std, self.sigma_data, self.weight, self.num_latents, self.prompts,
                 self._how, self._identity, self.shown and (self.shown.fingerprint(), self.drop))  # fmt: skip
        return hashlib.sha256(repr(known).encode()).hexdigest()

    @cached_property
    def latents(self) -> Tensor:
        """What the pipeline draws for the prompts or classes in turn, ``(num_latents, Z, h, w)``, kept on disk.

        Where there are pictures with captions, their latents.
        """
        if self.shown is not None:
            return self.shown.latents
        key = json.dumps([1, self._identity, self.prompts, self.num_latents, *self._how])
        path = cache_folder("latents") / f"{short_hash(key)}.npy"

        def make() -> Array:
            net = self.as_drawn(self.guided(self.pipeline))
            half: Array = self._drawn(net, self.num_latents, derive(0, "latents")).half().numpy()
            return half

        return torch.from_numpy(kept_array(path, make, lambda kept: kept.shape == (self.num_latents, *self.latent)))

    @property
    def _sized(self) -> dict[str, int]:
        """The size of what is drawn, where it is not the pipeline's own."""
        return {} if self.resolution is None else {"resolution": self.resolution}

    @property
    def _how(self) -> list[JsonValue]:
        how = None if self.guidance is None else self.guidance.model_dump(mode="json")
        return [self.num_steps, how, *self._sized.values()]

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches: ``y`` latents, ``x`` the same under noise, ``cond`` the level ``sigma`` and what is told."""
        for number in count(start):
            index = shuffled(self.num_latents, batch_size, generator(derive(seed, "images", number), "latents"))
            y = self.latents[index].float()
            cond = self._said(index, derive(seed, "drop", number))
            yield self.resample_noise(Batch(x=y, y=y, cond=cond), seed=derive(seed, "noise", number))

    def _said(self, index: Tensor, seed: int) -> dict[str, Tensor]:
        """What goes with latents ``index`` ``(B,)``."""
        if self.shown is None:
            return told_rows(self.told, index)
        cond = told_rows(self._captions, self.shown.row[index])
        return forgetful(cond, self.null, self.drop, generator(seed, "drop"))

    @cached_property
    def _captions(self) -> Mapping[str, Tensor]:
        assert self.shown is not None
        return self.told if self.shown.prompts == self.prompts else self._read(self.shown.prompts)

    def example(self) -> Batch:
        """One flat latent at the noise level 1, told nothing."""
        return Batch(
            x=torch.zeros(1, *self.latent),
            cond={"sigma": torch.ones(1), **self.pipeline.example(), **self._usual_scale()},
        )

    def answer_shape(self, batch: Batch) -> tuple[int, ...]:
        """A latent ``(Z, h, w)``."""
        return self.latent

    def draw(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Pictures from noise, of each prompt or class in turn; see the base."""
        return self.pipeline.pictures(self._drawn(self.as_drawn(net), num_images, seed))

    def captions(self, num_images: int) -> Sequence[str]:
        """The prompts or classes of the first images, in turn."""
        return captions_of(self.pipeline, {**self.pipeline.describe(), "prompts": self.prompts}, num_images)

    def recognised(self, drawn: Tensor) -> Metrics:
        """R-precision of the words that pictures were asked for, see ``kdgen.metrics.recognition``."""
        if self.judge is None or not self.prompts:
            return {}
        return {"r_precision": self.judge.r_precision(drawn, [*islice(cycle(self.prompts), len(drawn))])}

    def _drawn(self, net: Net, num_images: int, seed: int) -> Tensor:
        return self._drawn_at(self.pipeline.levels(self.num_steps), "euler", net, num_images, seed)

    def _drawn_at(self, sigmas: Tensor, sampler: FewSampler, net: Net, num_images: int, seed: int) -> Tensor:
        told = {**self.told, **self._usual_scale()}
        return draw_few(net, self.latent, num_images, seed, sigmas, sampler, told, listening())

    def _told(self) -> Sequence[JsonValue]:
        """What else the teacher's pictures depend on."""
        return [*self._how, *self.prompts]

    def describe_evaluation(self, *, reference: Net | None = None, seed: int = 0) -> Text:
        """See the base; and that the teacher drew what all train on, controls too, where there are no pictures."""
        said = super().describe_evaluation(reference=reference, seed=seed)
        if self.shown is not None:
            return said
        drawn = text("controls_on_drawn", "All nets, controls too, train on the {count:,} latents that the teacher "
                     "drew: a control learns from those, and is without the rest of what it says.",
                     count=self.num_latents)  # fmt: skip
        return text("sentences", "{parts: }", parts=[said, drawn])

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
