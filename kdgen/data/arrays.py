"""Images that are already in memory."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdgen.data.labelled import shares
from kdgen.data.pictures import Pictures, Scales, to_tensor
from kdgen.data.whole import framed
from kdgen.types import UserError
from kdgen.utils.image_io import Picture, from_array


class Arrays(Pictures):
    """Images given from Python, as arrays or tensors.

    Args:
        images: several images as a list, or stacked in one array or tensor. NumPy arrays are ``(H, W)`` or
            ``(H, W, C)``, tensors ``(H, W)`` or ``(C, H, W)``; C is 1 or 3.
        value_range: black and white of images in floating point; integers are read as ``kdgen.utils.image_io`` does:
            uint8 is 0 to 255. Values beyond are kept.
        scales: patches are shrunk by area averaging to one of these shares of their size, drawn at random.
        labels: the class of each image, 0 and up, where images are to be told from each other.

    Attributes:
        labels: as given, ``(N,)``, or empty.

    Raises:
        UserError: where there are no images, one has another shape or type, or labels are not one for each.
    """

    def __init__(
        self,
        images: Iterable[NDArray[Any] | Tensor],
        value_range: tuple[float, float] = (0.0, 1.0),
        scales: Scales = (1.0,),
        labels: Iterable[int] | Tensor | None = None,
    ) -> None:
        super().__init__(scales)
        self._pictures = [_picture(image, value_range, i) for i, image in enumerate(images)]
        self._names = [f"image {i}" for i in range(len(self._pictures))]
        if not self._pictures:
            raise UserError("give at least one image")
        numbers = [] if labels is None else [int(label) for label in labels]
        if labels is not None and (len(numbers) != len(self._pictures) or min(numbers) < 0):
            raise UserError(f"arrays: labels are one number from 0 up for each of {len(self._pictures)} images, not "
                            f"{len(numbers)}")  # fmt: skip
        self.labels = torch.tensor(numbers, dtype=torch.int64)

    @property
    def names(self) -> Sequence[str]:
        """``image 0``, ``image 1`` and so on."""
        return self._names

    def picture(self, index: int) -> Picture:
        """The image at a position, in 8-bit units."""
        return self._pictures[index]

    @property
    def num_classes(self) -> int:
        """One more than the largest label; 0 without labels."""
        return int(self.labels.max()) + 1 if len(self.labels) else 0

    @property
    def class_shares(self) -> Tensor:
        """How often each class is drawn, ``(num_classes,)``."""
        return shares(self.labels, self.num_classes)

    @property
    def num_labelled(self) -> int:
        """How many images there are."""
        return len(self._pictures)

    def fingerprint(self) -> str:
        """A hash of the scales, of every pixel and of the labels."""
        return f"{super().fingerprint()}-{self.labels.tolist()}"

    def labelled(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Whole images in random order, each once before any comes twice, made square as by ``framed``.

        Returns:
            ``(count, channels, size, size)`` float32, and classes ``(count,)`` int64.

        Raises:
            UserError: where no labels were given.
        """
        if not len(self.labels):
            raise UserError("these images have no labels: give arrays `labels` too")
        index = self.drawn(count, seed)
        x = [framed(to_tensor(self._pictures[i], channels), size) for i in index.tolist()]
        return torch.cat(x), self.labels[index]


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
