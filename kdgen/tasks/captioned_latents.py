"""What a text-to-image net is trained on where there are pictures with captions: their latents, and what is told."""

import json
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from kdgen.data import make_images
from kdgen.data.captioned import Told, is_told
from kdgen.data.source import ImageSource
from kdgen.models.adapters.latent_model import LatentModel
from kdgen.types import UserError, text
from kdgen.utils.cache import Array, cache_folder, kept_array, short_hash

ENCODED = 256
"""Pictures that are held at once while they are encoded."""


class CaptionedLatents:
    """Pictures with captions as a pipeline's autoencoder sees them.

    Args:
        images: the source, one of pictures with captions.
        pipeline: whose autoencoder it is.
        identity: by which the pipeline is known again.

    Attributes:
        prompts: the captions, each once.
        row: which of them each picture has, ``(N,)``.

    Raises:
        UserError: for a source without captions, and a pipeline that reads no words.
    """

    def __init__(self, images: ImageSource, pipeline: LatentModel, identity: str) -> None:
        source = make_images(images)
        if not is_told(source):
            raise UserError(text("no_captioned_images", "{source} knows no captions: name images with them, as "
                                 '{{"name": "captioned", "args": {{"path": FOLDER}}}}',
                                 source=type(source).__name__))  # fmt: skip
        if "label" in pipeline.conditions:
            raise UserError(text("captions_to_classes", "this pipeline is told classes and reads no captions: leave "
                                 "images out"))  # fmt: skip
        self.source: Told = source
        self._pipeline, self._identity = pipeline, identity
        self.prompts = [*dict.fromkeys(source.captions)]
        place = {prompt: number for number, prompt in enumerate(self.prompts)}
        self.row = torch.tensor([place[caption] for caption in source.captions])

    @cached_property
    def latents(self) -> Tensor:
        """All pictures encoded, ``(N, Z, h, w)`` in half precision, kept on disk."""
        shape = (len(self.row), self._pipeline.latent_channels, self._pipeline.size, self._pipeline.size)
        key = json.dumps([1, self._identity, self.source.fingerprint()])
        path = cache_folder("latents") / f"{short_hash(key)}.npy"
        return torch.from_numpy(kept_array(path, self._encoded, lambda kept: kept.shape == shape))

    def _encoded(self) -> Array:
        size = self._pipeline.picture_size()
        pictures, parts, held = self.source.whole_pictures(size, channels=3), list[Tensor](), list[Tensor]()
        for number, picture in enumerate(pictures, start=1):
            held.append(picture)
            if len(held) == ENCODED or number == len(self.row):
                parts.append(self._pipeline.to_latents(torch.cat(held)).half())
                held.clear()
        whole: Array = torch.cat(parts).numpy()
        return whole

    def fingerprint(self) -> str:
        """Changes whenever the pictures or their captions would."""
        return self.source.fingerprint()


def forgetful(
    told: Mapping[str, Tensor], null: Mapping[str, Tensor], drop: float, random: torch.Generator
) -> dict[str, Tensor]:
    """What is told, ``(B, ...)`` by name, for a share of the batch drawn at random replaced by what tells of nothing.

    So one net learns both, and can be guided: Ho & Salimans 2022 (arXiv 2207.12598), algorithm 1.
    """
    count = len(next(iter(told.values())))
    forget = torch.rand(count, generator=random) < drop
    return {name: torch.where(forget.view(-1, *[1] * (value.dim() - 1)), null[name].to(value), value)
            for name, value in told.items()}  # fmt: skip


__all__ = ["CaptionedLatents", "forgetful"]
