"""One reader of pictures: what the values of an image, an array or a file stand for, and how they go back."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

from kdgen.types import Text, UserError, text

Picture = NDArray[Any]
"""``(H, W)`` grey or ``(H, W, 3)`` colour, uint8, or float32 in the same 8-bit units where it may leave 0 to 255."""

UNIT = (-2.0, 3.0)
"""Between what values in floating point lie that mean 0 to 1: noise may take them beyond."""

EIGHT_BITS = (-510.0, 765.0)
"""Between what values of a file in floating point lie that mean 0 to 255."""

GREY = ("1", "L", "LA", "La")
_OTHER_END = "B" if sys.byteorder == "little" else "L"
_LOW_BYTES = {f"{mode};16{end}": f"{mode};16{other}" for mode in ("RGB", "RGBA")
              for end, other in (("B", "L"), ("L", "B"), ("N", _OTHER_END))}  # fmt: skip
"""How Pillow decodes the upper bytes of 16-bit colour, to how it would decode the lower ones in their place."""


@dataclass(frozen=True, slots=True)
class Pixels:
    """A picture's values and what they came as.

    Attributes:
        values: see ``Picture``.
        alpha: opacity, ``(H, W)`` in the same units; None for a picture of a kind that is opaque.
        dtype: of what it was read from.
        white: the value that stood for white there.
        ndim: of what it was read from, 2 or 3.
        note: what was lost in reading; empty for nothing.
    """

    values: Picture
    alpha: Picture | None
    dtype: np.dtype[Any]
    white: float
    ndim: int = 3
    note: str = ""

    def on(self, background: float | None) -> Picture:
        """The values on a background in 8-bit units, or with transparency dropped for None."""
        if self.alpha is None or background is None:
            return self.values
        alpha = self.alpha.astype(np.float32) / 255
        alpha = alpha if self.values.ndim == 2 else alpha[..., None]
        blended = self.values * alpha + np.float32(background) * (1 - alpha)
        return blended.round().astype(np.uint8) if self.values.dtype == np.uint8 else blended.astype(np.float32)

    def like(self, unit: NDArray[np.float32]) -> NDArray[Any]:
        """Another picture in the form that this one came in, with its opacity.

        Args:
            unit: ``(h, w)`` or ``(h, w, 3)``, 0 black to 1 white.

        Returns:
            ``(h, w)`` or ``(h, w, C)``, where C counts opacity too, of the same dtype and white.
        """
        layers: NDArray[Any] = unit if unit.ndim == 3 else unit[..., None]
        if self.alpha is not None:
            alpha = self.alpha.astype(np.float32) / 255
            if alpha.shape != layers.shape[:2]:
                size = (layers.shape[1], layers.shape[0])
                alpha = np.asarray(Image.fromarray(alpha).resize(size, Image.Resampling.BILINEAR))
            layers = np.dstack([layers, alpha])
        if np.issubdtype(self.dtype, np.integer):
            layers = (layers.clip(0, 1) * self.white).round()
        elif self.white != 1:
            layers = layers * self.white
        return (layers[..., 0] if self.ndim == 2 else layers).astype(self.dtype)


def from_array(array: NDArray[Any]) -> Pixels:
    """Read an array.

    Args:
        array: ``(H, W)`` or ``(H, W, C)``, C 1 grey, 2 grey and opacity, 3 colour, 4 colour and opacity; uint8, uint16,
            other integers from 0 to 255, or floating point in [0, 1].

    Raises:
        UserError: for another shape, and values that stand for nothing known.
    """
    if array.ndim not in (2, 3) or not array.size or (array.ndim == 3 and array.shape[-1] > 4):
        first = array.ndim == 3 and array.shape[0] <= 4
        remedy = (text("channels_last", "move its channels last, array.transpose(1, 2, 0)") if first else
                  text("picture_shapes", "it is (H, W) or (H, W, C) with C from 1 to 4"))  # fmt: skip
        raise UserError(text("array_shape", "an array of shape {shape} is no picture: {remedy}", shape=str(array.shape),
                             remedy=remedy))  # fmt: skip
    white = _white(array)
    values = array if array.dtype == np.uint8 else array.astype(np.float32) / np.float32(white / 255)
    return _split(values, array.dtype, white, array.ndim)


def from_image(image: Image.Image) -> Pixels:
    """Read a PIL image of any mode, upright by its EXIF tag; greys stay grey, all other colours become RGB.

    In modes ``I``, values beyond 255 mean 16 bits. In mode ``F`` they mean 0 to 1, or else 0 to 255, beyond which they
    are kept.

    Raises:
        UserError: for values that stand for nothing known, and modes that have no RGB.
        Exception: of many kinds, whatever the decoder makes of a damaged file.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        array = np.array(image)
        low, high = _range(array)
        most, white = (0.0, 65535.0), 255.0 if image.mode == "I" and high <= 255 else 65535.0
        if image.mode == "F":
            most, white = (UNIT, 1.0) if UNIT[0] <= low <= high <= UNIT[1] else (EIGHT_BITS, 255.0)
        if not most[0] <= low <= high <= most[1]:
            raise UserError(text("picture_values", "it holds values from {low:g} to {high:g}: save it with 8 or 16 "
                                 "bits, or in floating point from 0 to 1", low=low, high=high))  # fmt: skip
        return _split(array.astype(np.float32) / np.float32(white / 255), array.dtype, white, 2)
    mode = "L" if image.mode in GREY else "RGB"
    if image.has_transparency_data:
        mode = {"L": "LA", "RGB": "RGBA"}[mode]
    try:
        array = np.array(image.convert(mode))
    except ValueError:
        raise UserError(text("picture_mode", "a picture of mode {mode} cannot be read: convert it to RGB",
                             mode=image.mode)) from None  # fmt: skip
    return _split(array, array.dtype, 255.0, array.ndim)


def is_deep(image: Image.Image) -> bool:
    """Whether an image that was opened and not yet decoded holds colours of 16 bits, all of which can be read."""
    modes = _raw_modes(image)
    return bool(modes) and modes <= _LOW_BYTES.keys()


def frames(path: Path) -> Iterator[Pixels]:
    """Read the pages or frames of an image file, one after another, 16-bit colour with all its bits.

    Raises:
        UserError: as ``from_image`` does, and for more pixels than Pillow takes.
        Exception: of many kinds, whatever the decoder makes of a damaged file.
    """
    with ExitStack() as opened:
        image = opened.enter_context(open_image(path))
        second: Image.Image | None = None
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            if not is_deep(image):
                cut = any(";16" in mode for mode in _raw_modes(image)) and image.mode[0] != "I"
                yield replace(from_image(image), note="its 16 bits were read as 8" if cut else "")
                continue
            second = second or opened.enter_context(open_image(path))
            second.seek(number)
            yield _deep(image, second)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file. Pillow is given no name, for it maps files by name, and mapped TIFFs with a turn are garbled.

    Raises:
        UserError: for one of more pixels than Pillow takes.
    """
    with path.open("rb") as file:
        try:
            image = Image.open(file)
        except Image.DecompressionBombError:
            most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
            raise UserError(text("picture_most_pixels", "it has more than {most:,} pixels, the most that are read at "
                                 "once: cut it into parts", most=most)) from None  # fmt: skip
        with image:
            yield image


def _deep(image: Image.Image, second: Image.Image) -> Pixels:
    """16-bit colour: Pillow keeps the upper bytes alone, so the lower ones are decoded as if they were the upper."""
    assert isinstance(second, ImageFile.ImageFile)
    second.tile = [type(tile)(*tile[:3], _low_bytes(tile[3])) for tile in second.tile]
    upper, lower = (np.array(ImageOps.exif_transpose(each)).astype(np.uint16) for each in (image, second))
    array = upper * 256 + lower
    return _split(array.astype(np.float32) / np.float32(257), array.dtype, 65535.0, 3)


def _raw_modes(image: Image.Image) -> set[str]:
    args = [tile[3] for tile in getattr(image, "tile", ())]
    return {str(each[0] if isinstance(each, tuple) else each) for each in args if each}


def _low_bytes(args: Any) -> Any:
    return (_LOW_BYTES[args[0]], *args[1:]) if isinstance(args, tuple) else _LOW_BYTES[args]


def _split(values: NDArray[Any], dtype: np.dtype[Any], white: float, ndim: int) -> Pixels:
    """Colours and opacity apart."""
    if values.ndim == 2:
        return Pixels(values, None, dtype, white, ndim)
    colours = values[..., 0] if values.shape[-1] < 3 else values[..., :3]
    alpha = values[..., -1] if values.shape[-1] in (2, 4) else None
    return Pixels(np.ascontiguousarray(colours), alpha, dtype, white, ndim)


def _range(array: NDArray[Any]) -> tuple[float, float]:
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(text("picture_not_finite", "it holds values that are not finite"))
    return low, high


def _white(array: NDArray[Any]) -> float:
    """The value that stands for white."""
    if array.dtype in (np.uint8, np.uint16):
        return float(np.iinfo(array.dtype).max)
    floating = np.issubdtype(array.dtype, np.floating)
    if floating or np.issubdtype(array.dtype, np.integer):
        low, high = _range(array)
        if floating and UNIT[0] <= low <= high <= UNIT[1]:
            return 1.0
        if not floating and 0 <= low <= high <= 255:
            return 255.0
        held = text("values_held", " with values from {low:g} to {high:g}", low=low, high=high)
    else:
        held = Text("")
    raise UserError(text("array_kind", "an array of {kind}{held} is no picture: give uint8 (0 to 255), uint16 (0 to "
                         "65535) or floating point (0 to 1)", kind=str(array.dtype), held=held))  # fmt: skip
