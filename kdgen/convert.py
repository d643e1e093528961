"""Pictures as users hold them and as nets take them, and files written whole or not at all."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from kdgen.types import UserError


def from_picture(image: Any) -> tuple[Tensor, Any]:
    """A picture as ``(1, C, H, W)`` in [-1, 1], and the function that turns such a tensor back into its kind.

    Args:
        image: a PIL image; an array ``(H, W)`` or ``(H, W, C)``, uint8 or float in [0, 1]; or a tensor ``(C, H, W)`` or
            ``(B, C, H, W)`` in [-1, 1].

    Raises:
        UserError: for anything else.
    """
    if isinstance(image, Tensor) and image.ndim in (3, 4):
        return (image[None], lambda out: out[0]) if image.ndim == 3 else (image, lambda out: out)
    if isinstance(image, Image.Image):
        grey = image.mode in ("1", "L", "I", "I;16", "F", "LA")
        array = np.asarray(image.convert("L" if grey else "RGB"))
        return _from_array(array), lambda out: Image.fromarray(_to_array(out, np.dtype(np.uint8), array.ndim))
    if isinstance(image, np.ndarray) and image.ndim in (2, 3):
        return _from_array(image), lambda out: _to_array(out, image.dtype, image.ndim)
    raise UserError("a picture is a PIL image, an array (H, W) or (H, W, C), or a tensor (C, H, W) or (B, C, H, W)")


def _from_array(array: np.ndarray[Any, Any]) -> Tensor:
    x = torch.from_numpy(np.array(array, dtype=np.float32)) / (255 if array.dtype == np.uint8 else 1)
    return (x[None] if x.ndim == 2 else x.movedim(-1, 0))[None] * 2 - 1


def _to_array(x: Tensor, dtype: np.dtype[Any], ndim: int) -> np.ndarray[Any, Any]:
    unit = (x[0].cpu() + 1) / 2
    array = (unit.mul(255).round().byte() if dtype == np.uint8 else unit).movedim(0, -1).numpy()
    return array[..., 0] if ndim == 2 else array.astype(dtype, copy=False)


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Images ``(N, C, H, W)`` in [-1, 1] as PIL images, grey ones for C 1."""
    octets = [_to_array(image[None], np.dtype(np.uint8), 2 if len(image) == 1 else 3) for image in images]
    return [Image.fromarray(array) for array in octets]


def sheet(pictures: Sequence[Image.Image], *, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Pictures of one size on a white sheet, row by row; as near to a square as can be unless ``columns`` says."""
    columns = columns or max(round(len(pictures) ** 0.5), 1)
    width, height = (side + gap for side in pictures[0].size)
    rows = -(-len(pictures) // columns)
    white = Image.new(pictures[0].mode, (columns * width + gap, rows * height + gap), "white")
    for i, picture in enumerate(pictures):
        white.paste(picture, (gap + i % columns * width, gap + i // columns * height))
    return white


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, a power cut included."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
