"""Pictures in an .npz file, in parts as those of MedMNIST or whole, with labels where given."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdgen.data.arrays import Arrays
from kdgen.data.pictures import Scales
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.utils.references import FilePath

Split = Literal["train", "val", "test"]
PARTS = (("{}_images", "{}_labels"), ("x_{}", "y_{}"))
"""What images and labels of a part are called, by MedMNIST and by Keras."""

WHOLE = (("images", "labels"), ("x", "y"))
"""What they are called where a file has no parts."""


@register("images")
class Npz(Arrays):
    """Pictures of one size in an .npz file, grey or colour, with labels where it holds them; never unpickled.

    A file in parts has `train_images`, `train_labels`, `val_images` and so on, as those of MedMNIST (Yang et al. 2023),
    or `x_train`, `y_train`; one without has `images` and `labels`, or `x` and `y`. Images are `(N, H, W)`,
    `(N, H, W, 3)` or `(N, 3, H, W)`, labels `(N,)` or `(N, 1)`, from 0 up.

    Args:
        path: the file.
        split: which of the parts; a file without parts is taken whole.
        value_range: black and white of images in floating point; uint8 is 0 to 255.
        scales: patches are shrunk by area averaging to one of these shares of their size, drawn at random.

    Raises:
        UserError: for a file that is missing, damaged or pickled, that lacks the part, and for arrays of other shapes.
    """

    def __init__(
        self,
        path: FilePath,
        split: Split = "train",
        value_range: tuple[float, float] = (0.0, 1.0),
        scales: Scales = (1.0,),
    ) -> None:
        images, labels = _read(path, split)
        super().__init__(images, value_range=value_range, scales=scales, labels=labels)
        self._names = [f"{split} {number}" for number in range(len(images))]


def _read(path: str, split: Split) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Images ``(N, H, W)`` or ``(N, H, W, C)``, and labels ``(N,)`` where there are any."""
    try:
        with np.load(Path(path).expanduser(), allow_pickle=False) as file:
            if not isinstance(file, Mapping):
                raise ValueError(text("npz_one_array", "it is a single array"))
            parts = [(images.format(split), labels.format(split)) for images, labels in PARTS]
            names = next((pair for pair in (*parts, *WHOLE) if pair[0] in file), None)
            if names is None:
                raise UserError(text("npz_lacks", "{path} holds {held:, } and none of {wanted:, }: name another split "
                                     "or file", path=path, held=[*file], wanted=[images for images, _ in
                                     (*parts, *WHOLE)]))  # fmt: skip
            images, labels = file[names[0]], file.get(names[1])
    except FileNotFoundError:
        raise UserError(text("no_npz", "there is no file {path}: give the path of an .npz file",
                             path=path)) from None  # fmt: skip
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(text("npz_unread", "{path} cannot be read as an .npz of plain arrays ({error})", path=path,
                             error=" ".join(str(error).split())[:200])) from None  # fmt: skip
    if images.ndim == 4 and images.shape[1] in (1, 3) and images.shape[-1] not in (1, 3):
        images = np.moveaxis(images, 1, -1)
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] not in (1, 3)):
        raise UserError(text("npz_images", "{path}: {name} is {shape}, and images are (N, H, W), (N, H, W, 3) or "
                             "(N, 3, H, W)", path=path, name=names[0], shape=str(images.shape)))  # fmt: skip
    return images, None if labels is None else _classes(labels, images, f"{path}: {names[1]}")


def _classes(labels: NDArray[Any], images: NDArray[Any], what: str) -> NDArray[np.int64]:
    flat = labels.reshape(len(labels), -1) if labels.ndim else labels.reshape(0, 1)
    if flat.shape != (len(images), 1) or not np.issubdtype(flat.dtype, np.integer):
        raise UserError(text("npz_labels", "{what} is {dtype} of shape {shape}, and labels are one whole number for "
                             "each of {count} images", what=what, dtype=str(labels.dtype), shape=str(labels.shape),
                             count=len(images)))  # fmt: skip
    return flat[:, 0].astype(np.int64)


__all__ = ["Npz"]
