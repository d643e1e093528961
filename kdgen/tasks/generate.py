"""Latents to images: GAN generators and VAE decoders."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from kdgen.data import derive, generator, make_images
from kdgen.data.source import ImageSource
from kdgen.models.parts import Drawn
from kdgen.models.sampling import draw_images
from kdgen.registry import register
from kdgen.tasks.drawing import Drawing
from kdgen.types import Batch, Net, text
from kdgen.types.arguments import Count, CountOrZero

Latent = Annotated[
    Count | Sequence[Count], Field(description=text("latent_shape", "a whole number of at least 1, or a list of such"))
]


@register("task")
class Generate(Drawing):
    """Make images from standard normal latents, as GAN generators and VAE decoders do.

    No data is needed: the teacher's images are the answers. There is no ground truth, so alpha is 1 unless the stage
    names objectives, such as ``adversarial`` against ``images``, and a ratio below 1.

    Args:
        latent: size of a latent, or its shape ``[channels, height, width]``.
        channels: of the images, 1 or 3.
        size: height and width of the images in pixels. A teacher's larger image is resampled to it.
        images: data for objectives and for figures beside the teacher's, ``{"name": ..., "args": {...}}``.
        num_images: how many images a net is measured on.
        features: extractor of the features whose distributions are compared, ``features32`` or ``inception``.
        num_classes: of class-conditional nets, which are told the ``label`` of each latent, drawn at random.

    Raises:
        UserError: for an argument that does not fit.
    """

    reads = "latents"
    draws = "latents"
    needed_facts = ("latent",)
    pipeline_tag = "unconditional-image-generation"
    group, usual_preset = "gan", "gan"

    def __init__(
        self,
        latent: Latent = 64,
        channels: Count = 1,
        size: Count = 32,
        images: ImageSource | None = None,
        num_images: Count = 2000,
        features: str = "features32",
        num_classes: CountOrZero = 0,
    ) -> None:
        super().__init__()
        self.latent = (latent,) if isinstance(latent, int) else tuple(latent)
        self.channels, self.size, self.num_images, self.features = channels, size, num_images, features
        self.images = None if images is None else make_images(images)
        self.num_classes = num_classes
        self.needs = frozenset({"label"} if num_classes else ())

    def describe(self) -> dict[str, Any]:
        """Name, shape of the latents, size and channels of the images, and classes where there are any."""
        told = {"name": "generate", "latent": list(self.latent), "size": self.size, "channels": self.channels}
        return told | ({"num_classes": self.num_classes} if self.num_classes else {})

    def fingerprint(self) -> str:
        """A hash of the description and of the data."""
        known = (self.describe(), None if self.images is None else self.images.fingerprint())
        return hashlib.sha256(repr(known).encode()).hexdigest()

    def batches(self, *, batch_size: int, seed: int, start: int = 0) -> Iterator[Batch]:
        """Endless batches, ``x`` latents ``(B, *latent)``, ``real`` images of the data where there is any.

        With classes, ``cond["label"]`` is theirs, ``(B,)``; ``real`` images have none.
        """
        for number in count(start):
            x = torch.randn((batch_size, *self.latent), generator=generator(seed, "latents", number))
            cond = {}
            if self.num_classes:
                drawn_label = generator(seed, "labels", number)
                cond["label"] = torch.randint(self.num_classes, (batch_size,), generator=drawn_label)
            real = None
            if self.images is not None:
                drawn = derive(seed, "real", number)
                real = self.images.patches(batch_size, self.size, channels=self.channels, seed=drawn)
            yield Batch(x=x, real=real, cond=cond)

    def resample_noise(self, batch: Batch, *, seed: int) -> Batch:
        """The batch as it is: it has no truth under anything random."""
        return batch

    def loss(self, out: Tensor, batch: Batch) -> Tensor | None:
        """None: nothing but the teacher says what a latent stands for."""
        return None

    def example(self) -> Batch:
        """One latent, of the first class."""
        cond = {"label": torch.zeros(1, dtype=torch.int64)} if self.num_classes else {}
        return Batch(x=torch.zeros(1, *self.latent), cond=cond)

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
        """Images from standard normal latents; see the base."""
        return draw_images(net, facts["latent"], num_images, seed, facts.get("num_classes", 0), labels, progress).clamp(
            -1, 1
        )

    @classmethod
    def limits(cls, facts: Mapping[str, Any]) -> str:
        """Those of its teacher."""
        return "It draws only the kind of images that its teacher draws, and repeats the teacher's faults."

    @classmethod
    def evaluation_source(cls, args: Mapping[str, Any]) -> Any:
        """The data where there is any, or else the teacher's images."""
        return args.get("images")

    def draw(self, net: Net, *, num_images: int, seed: int = 0) -> Tensor:
        """Images from standard normal latents, of each class in turn; see the base."""
        return draw_images(net, self.latent, num_images, seed, self.num_classes).clamp(-1, 1)


__all__ = ["Generate"]
