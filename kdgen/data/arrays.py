"""Images that are already in memory."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from kdgen.data.pictures import Pictures
from kdgen.pixels import Picture, from_array
from kdgen.types import UserError


class Arrays(Pictures):
    """Images given from Python, as arrays or tensors.

    Args:
        images: several images as a list, or stacked in one array or tensor. NumPy arrays are ``(H, W)`` or
            ``(H, W, C)``, tensors ``(H, W)`` or ``(C, H, W)``; C is 1 or 3.
        value_range: black and white of images in floating point; integers are read as ``kdgen.pixels`` does: uint8 is
            0 to 255. Values beyond are kept.
        scales: patches are shrunk by area averaging to one of these shares of their size, drawn at random.

    Raises:
        UserError: where there are no images, or one has another shape or type.
    """

    def __init__(
        self,
        images: Iterable[NDArray[Any] | Tensor],
        value_range: tuple[float, float] = (0.0, 1.0),
        scales: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__(scales)
        self._pictures = [_picture(image, value_range, i) for i, image in enumerate(images)]
        self._names = [f"image {i}" for i in range(len(self._pictures))]
        if not self._pictures:
            raise UserError("give at least one image")

    @property
    def names(self) -> Sequence[str]:
        """``image 0``, ``image 1`` and so on."""
        return self._names

    def picture(self, index: int) -> Picture:
        """The image at a position, in 8-bit units."""
        return self._pictures[index]


def _picture(image: Any, value_range: tuple[float, float], index: int) -> Picture:
    array = np.asarray(image.detach().cpu().movedim(0, -1) if isinstance(image, Tensor) and image.ndim == 3 else image)
    array = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 3)
    if not fits or not array.size or not (array.dtype != bool and np.issubdtype(array.dtype, np.number)):
        raise UserError(
            f"image {index} is {array.dtype} of shape {array.shape}: give uint8, uint16 or float, (H, W) or (H, W, C) "
            "arrays or (C, H, W) tensors, C 1 or 3, as a list or stacked"
        )
    if not np.issubdtype(array.dtype, np.floating):
        return from_array(array).values
    black, white = value_range
    return ((array.astype(np.float32) - black) * (255 / (white - black))).astype(np.float32)
