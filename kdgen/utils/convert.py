"""Pictures as users hold them and as nets take them, and files written whole or not at all."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kdgen.types import UserError
from kdgen.utils.image_io import GREY, Pixels, from_array, from_image

MOST = 6.0
"""Largest absolute value of a tensor that means [-1, 1]: noise may take it beyond."""


def from_picture(image: Any) -> tuple[Tensor, Callable[[Tensor], Any]]:
    """A picture as ``(1, C, H, W)`` in [-1, 1], and the function that turns such a tensor back into its kind.

    What comes back has the dtype, the depth and the opacity of the picture; of PIL images also the colour profile, and
    they come back upright.

    Args:
        image: a PIL image; an array ``(H, W)`` or ``(H, W, C)`` as ``kdgen.utils.image_io.from_array`` takes it; or a
            tensor ``(C, H, W)`` or ``(B, C, H, W)``, C 1 or 3, in floating point in [-1, 1] or uint8.

    Raises:
        UserError: for anything else.
    """
    if isinstance(image, Tensor):
        return _from_tensor(image)
    if isinstance(image, Image.Image):
        kind = image
        x, back = from_pixels(from_image(image))
        return x, lambda out: _as_image(back(out), kind)
    if isinstance(image, np.ndarray):
        return from_pixels(from_array(image))
    raise UserError("a picture is a PIL image, an array (H, W) or (H, W, C), or a tensor (C, H, W) or (B, C, H, W)")


def from_pixels(pixels: Pixels) -> tuple[Tensor, Callable[[Tensor], NDArray[Any]]]:
    """What ``from_picture`` gives, for a picture that was read: the function gives an array in the form it came in."""
    x = torch.from_numpy(np.array(pixels.values, dtype=np.float32)).div_(127.5).sub_(1.0)
    x = (x[None] if x.ndim == 2 else x.movedim(-1, 0))[None].contiguous()
    return x, lambda out: pixels.like(_to_unit(out))


def _from_tensor(image: Tensor) -> tuple[Tensor, Callable[[Tensor], Any]]:
    if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3) or not image.numel():
        raise UserError(f"a tensor of shape {tuple(image.shape)} is no picture: it is (C, H, W) or (B, C, H, W), C 1 "
                        "or 3")  # fmt: skip
    dtype, octets = image.dtype, image.dtype == torch.uint8
    if not octets and not image.is_floating_point():
        raise UserError(f"a tensor of {dtype} is no picture: give floating point in [-1, 1], or uint8")
    x = image.float() / 127.5 - 1 if octets else image.float()
    if not x.abs().max() <= MOST:  # NaN is not
        raise UserError(f"a tensor with values from {x.min():g} to {x.max():g} is no picture: in floating point it is "
                        "in [-1, 1], and uint8 from 0 to 255")  # fmt: skip

    def back(out: Tensor) -> Tensor:
        out = (out + 1).mul(127.5).round() if octets else out
        return (out if image.ndim == 4 else out[0]).to(dtype)

    return (x if x.ndim == 4 else x[None]), back


def _to_unit(x: Tensor) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = ((x[0].float().cpu() + 1) / 2).movedim(0, -1).numpy()
    return unit


def _as_image(array: NDArray[Any], like: Image.Image) -> Image.Image:
    """An array as a PIL image, with the colour profile of another where that still describes it."""
    made = Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)
    if "icc_profile" in like.info and (like.mode in GREY) == (made.mode in GREY) and like.mode != "CMYK":
        made.info["icc_profile"] = like.info["icc_profile"]
    return made


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Images ``(N, C, H, W)`` in [-1, 1] as PIL images, grey ones for C 1."""
    octets = [(_to_unit(image[None]) * 255).round().astype(np.uint8) for image in images]
    return [Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array) for array in octets]


def sheet(pictures: Sequence[Image.Image], *, columns: int | None = None, gap: int = 2) -> Image.Image:
    """Pictures of one size on a sheet, row by row; as near to a square as can be unless ``columns`` says.

    The sheet is white, and transparent where the pictures may be.
    """
    columns = columns or max(round(len(pictures) ** 0.5), 1)
    width, height = (side + gap for side in pictures[0].size)
    rows = -(-len(pictures) // columns)
    colour = (255, 255, 255, 0) if (mode := pictures[0].mode) == "RGBA" else "white"
    white = Image.new(mode, (columns * width + gap, rows * height + gap), colour)
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
