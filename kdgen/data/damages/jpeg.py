"""What codecs of photographs leave behind."""

import io
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register

Codec = Annotated[Literal["jpeg", "webp"], Field(description='"jpeg" or "webp"')]


@register("damage")
class Jpeg(Damage):
    """Written and read again by the codec itself; values are clipped and rounded to 8 bits.

    Args:
        quality: 1 (worst) to 100. A ``share`` of its range counts from the best to the worst.
        codec: ``jpeg``, with its colour at half resolution, or ``webp``. Of a stack every three channels are a colour
            picture, and each of those that remain is a grey one.
    """

    def __init__(self, quality: Amount = (30.0, 90.0), codec: Codec = "jpeg") -> None:
        check_amount("jpeg", "quality", quality, 1, 100)
        self.quality, self.codec = quality, codec

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        qualities = amounts(self.quality, len(images), random, None if share is None else 1 - share)
        colours, greys = divmod(images.shape[1], 3)
        pictures = torch.split(images, [3] * colours + [1] * greys, 1)
        return torch.cat([coded(each, qualities.round().int().tolist(), self.codec) for each in pictures], 1), {}


def coded(images: Tensor, qualities: list[int], codec: Codec = "jpeg") -> Tensor:
    """Images ``(B, C, H, W)`` in [-1, 1], C 1 or 3, after a codec, each of its own quality."""
    octets = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    channels = images.shape[1]
    read = []
    for pixels, quality in zip(octets, qualities, strict=True):
        file = io.BytesIO()
        picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
        picture.save(file, codec, quality=quality, **({"subsampling": "4:2:0"} if codec == "jpeg" else {"method": 2}))
        with Image.open(file) as again:
            read.append(np.asarray(again.convert("L" if channels == 1 else "RGB")).reshape(pixels.shape))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1
