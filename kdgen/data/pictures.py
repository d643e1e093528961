"""What all sources of finished pictures share: random patches, grey and colour, iteration over whole images."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor

from kdgen.types import UserError, text
from kdgen.types.arguments import validated
from kdgen.utils.image_io import Picture
from kdgen.utils.seed import generator, shuffled

BT601 = (0.299, 0.587, 0.114)
"""How much red, green and blue count in luma (ITU-R BT.601)."""


def to_grey(images: Tensor) -> Tensor:
    """The luma ``(B, 1, H, W)`` of colour images ``(B, 3, H, W)``, in their range."""
    return (images * images.new_tensor(BT601).view(3, 1, 1)).sum(1, keepdim=True)


def to_tensor(picture: Picture, channels: int) -> Tensor:
    """A picture as ``(1, channels, H, W)`` float32, 0 to 255 becoming -1 to 1.

    Colour becomes grey as Pillow's mode ``L`` does (ITU-R 601-2 luma); grey becomes colour by repetition.

    Raises:
        UserError: for a picture of other channels that become neither.
    """
    if picture.ndim == 3 and picture.shape[-1] != channels and (picture.shape[-1], channels) != (3, 1):
        raise UserError(text("picture_channels", "these pictures have {own} channels, and the task {channels}: set "
                             "task.args.channels to {own}", own=picture.shape[-1], channels=channels))  # fmt: skip
    if picture.ndim == 3 and channels == 1:
        if picture.dtype == np.uint8:
            picture = np.asarray(Image.fromarray(picture).convert("L"))
        else:
            picture = picture @ np.array(BT601, dtype=np.float32)
    x = torch.from_numpy(np.array(picture, dtype=np.float32)).div_(127.5).sub_(1.0)
    x = x.permute(2, 0, 1) if x.ndim == 3 else x.expand(channels, *x.shape)
    return x[None].contiguous()


def window(length: int, size: int, start: int) -> NDArray[np.int64]:
    """Indices of ``size`` pixels from ``start`` on, reflected at the ends of a line of ``length`` pixels."""
    period = max(2 * (length - 1), 1)
    index = (start + np.arange(size)) % period
    return np.minimum(index, period - index) if length > 1 else np.zeros(size, dtype=np.int64)


Scales = Annotated[Sequence[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)]
"""Shares of the size that pictures are shrunk to."""


@validated("pictures")
class Pictures:
    """A source of finished pictures. A subclass gives ``names`` and ``picture(index)``.

    Args:
        scales: patches are shrunk by area averaging to one of these shares of their size, drawn at random; 1 keeps
            the pixels as they are. Shrinking shows more of a picture and hides the noise of its camera.
    """

    def __init__(self, scales: Scales = (1.0,)) -> None:
        self.scales = tuple(scales)

    @property
    def names(self) -> Sequence[str]:
        """The name of each picture."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A hash of the scales and of every pixel."""
        digest = hashlib.sha256(repr(self.scales).encode())
        for index in range(len(self.names)):
            digest.update(np.ascontiguousarray(self.picture(index)).tobytes())
        return digest.hexdigest()

    def picture(self, index: int) -> Picture:
        """The picture at a position of ``names``."""
        raise NotImplementedError

    def drawn(self, count: int, seed: int) -> Tensor:
        """Positions in ``names`` in random order, each once before any comes twice, ``(count,)`` int64."""
        return shuffled(len(self.names), count, generator(seed, "pictures"))

    def patches(self, count: int, size: int, *, channels: int, seed: int) -> Tensor:
        """Random crops; every picture is equally likely, and one smaller than the patch is reflected.

        Returns:
            ``(count, channels, size, size)`` float32.
        """
        draws = torch.rand(count, 4, generator=generator(seed, "crops"), dtype=torch.float64).tolist()
        out = torch.empty(count, channels, size, size)
        for i, (which, scaling, top, left) in enumerate(draws):
            picture = self.picture(int(which * len(self.names)))
            extent = round(size / self.scales[int(scaling * len(self.scales))])
            height, width = picture.shape[:2]
            rows = window(height, extent, int(top * max(height - extent + 1, 1)))
            columns = window(width, extent, int(left * max(width - extent + 1, 1)))
            patch = to_tensor(picture[rows[:, None], columns], channels)
            out[i] = (patch if extent == size else F.interpolate(patch, (size, size), mode="area"))[0]
        return out

    def images(self, channels: int) -> Iterator[tuple[str, Tensor]]:
        """All pictures in order, by name, each ``(1, channels, H, W)`` float32."""
        for index, name in enumerate(self.names):
            yield name, to_tensor(self.picture(index), channels)
