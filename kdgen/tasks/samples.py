"""A model's own images as a source of images: a student needs no other data."""

import json
import time
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kdgen.data import derive, framed, generator, shuffled
from kdgen.data.pictures import to_grey
from kdgen.data.source import Mixed
from kdgen.models.model import load
from kdgen.models.parts import listening
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.types.arguments import Count
from kdgen.utils.cache import Array, cache_folder, kept_array, short_hash
from kdgen.utils.devices import pick_device
from kdgen.utils.references import ModelReference


@register("images")
class Samples:
    """Images that a GAN, VAE or diffusion model has drawn.

    They are drawn when first asked for and kept on disk, 8 bits a value, for later runs. ``seconds`` is what that took:
    0 where they lay on disk, None before anybody has asked.

    Args:
        model: a generator by reference (a bundled name, a run folder, a folder of diffusers' making) or a declared
            checkpoint.
        num_images: how many are drawn.
        seed: of the latents or the noise.
        size: height and width in pixels of the pictures that ``images`` gives; as they are if not given. Patches are
            whole images, shrunk by area averaging to the size asked for.
        num_steps: steps of a diffusion model's sampler; if not given what suits it.

    Raises:
        UserError: for an argument that does not fit, a model that cannot be loaded or draws no images, and a full disk.
    """

    def __init__(
        self,
        model: ModelReference,
        num_images: Count = 2000,
        seed: int = 0,
        size: Count | None = None,
        num_steps: Count | None = None,
    ) -> None:
        self.num_images, self.seed, self.size, self.num_steps = num_images, seed, size, num_steps
        self.seconds: float | None = None
        self._model = load(model)
        key = json.dumps([2, self._model.fingerprint(), num_images, seed, num_steps])
        self.path = cache_folder("samples") / f"{short_hash(key)}.npy"

    @property
    def names(self) -> Sequence[str]:
        """``0``, ``1`` and so on."""
        return [str(index) for index in range(self.num_images)]

    def fingerprint(self) -> str:
        """A hash of the model's weights and of the arguments."""
        return f"{self.path.stem}-{self.size}"

    @property
    def num_classes(self) -> int:
        """Classes of a class-conditional model, which draws them in turn; 0 of any other."""
        return int(self._model.task.get("num_classes") or 0)

    @property
    def num_labelled(self) -> int:
        """How many images there are."""
        return self.num_images

    def patches(self, count: int, size: int, *, channels: int, seed: int) -> Tensor:
        """Whole images in random order, each once before any twice, ``(count, channels, size, size)`` in [-1, 1]."""
        index = self._at_random(count, seed)
        return self._images(index, size, channels)

    def labelled(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """What ``patches`` gives, and the classes ``(count,)`` int64 that the model was told.

        Raises:
            UserError: for a model without classes.
        """
        if not self.num_classes:
            raise UserError(text("samples_without_classes", "{name} draws images without classes: leave num_classes "
                                 "out", name=self._model.name))  # fmt: skip
        index = self._at_random(count, seed)
        return self._images(index, size, channels), index % self.num_classes

    def images(self, channels: int) -> Iterator[tuple[str, Tensor]]:
        """All images in order, each ``(1, channels, H, W)`` float32 in [-1, 1]."""
        for index, name in enumerate(self.names):
            yield name, self._images(torch.tensor([index]), self.size, channels)

    def _at_random(self, count: int, seed: int) -> Tensor:
        return shuffled(self.num_images, count, generator(seed, "pictures"))

    def _images(self, index: Tensor, size: int | None, channels: int) -> Tensor:
        x = torch.from_numpy(self._drawn[index.numpy()]).float().div_(127.5).sub_(1.0)
        if x.shape[1] == 3 and channels == 1:
            x = to_grey(x)
        x = x if size is None else framed(x, size)
        return x.expand(-1, channels, -1, -1).contiguous()

    @cached_property
    def _drawn(self) -> Array:
        """The images from disk, ``(num_images, C, H, W)``, drawn before if they are not there whole."""
        self.seconds = 0.0
        return kept_array(self.path, self._draw, self._whole)

    def _whole(self, kept: Array) -> bool:
        return kept.ndim == 4 and kept.dtype == np.uint8 and len(kept) == self.num_images

    def _draw(self) -> Array:
        started = time.perf_counter()
        octets = ((self._made().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
        self.seconds = time.perf_counter() - started
        drawn: Array = octets.numpy()
        return drawn

    def _made(self) -> Tensor:
        """The images anew, ``(num_images, C, H, W)`` in [-1, 1]."""
        model = self._model.to(pick_device("auto"))
        return model.draw(self.num_images, seed=derive(self.seed, "samples"), num_steps=self.num_steps,
                          progress=listening())  # fmt: skip


def drawing_seconds(*sources: object) -> float | None:
    """Seconds that images of a model took to draw in these sources; None where none of them has drawn any.

    Args:
        sources: of images, mixtures among them; anything else, and a source named twice, adds nothing.
    """
    within = [inner for source in sources if isinstance(source, Mixed) for inner in source.sources]
    each = {id(source): source for source in (*sources, *within)}
    taken = [inner.seconds for inner in each.values() if isinstance(inner, Samples) and inner.seconds is not None]
    return sum(taken) if taken else None


__all__ = ["Samples", "drawing_seconds"]
