"""Pictures of strangers: judged by their header before they are decoded, then shrunk to what is worked on."""

import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kdgen.types import UserError
from kdgen.ui.limits import Limits
from kdgen.utils.image_io import from_image

WHITE = 255.0
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


def open_picture(path: str | os.PathLike[str], limits: Limits) -> Image.Image:
    """An uploaded picture, upright, on white, grey or RGB of 8 bits, and no larger than is worked on.

    Raises:
        UserError: for what is no picture of a common kind, too large a one, and a damaged one.
    """
    file = Path(path)
    if file.stat().st_size > limits.upload_bytes:
        raise UserError(f"this file has more than {limits.upload_bytes // 1_000_000} MB: choose a smaller picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > limits.upload_pixels or max(width, height) > limits.upload_side:
                    raise UserError(f"this picture has {width:,} x {height:,} pixels: at most {limits.upload_side:,} a "
                                    f"side and {limits.upload_pixels // 1_000_000} million in all")  # fmt: skip
                if min(width, height) < 16:
                    raise UserError(f"this picture has {width:,} x {height:,} pixels: 16 a side are the least")
                image.draft("RGB", (2048, 2048))
                image.load()
                values = from_image(image).on(WHITE)
                return shrunk(Image.fromarray(values.clip(0, 255).round().astype(np.uint8)), limits.pixels)
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        bomb = not isinstance(error, UnidentifiedImageError)
        raise UserError("this picture is far too large" if bomb else "this is no PNG, JPEG, WebP, BMP, TIFF or GIF "
                        "picture: choose one of these") from None  # fmt: skip
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError):
        raise UserError("this picture is damaged or cut short: choose another, or save it anew") from None


def shrunk(image: Image.Image, pixels: int) -> Image.Image:
    """A picture with at most so many pixels, and sides that are multiples of 16 so that every net takes them."""
    share = min((pixels / (image.width * image.height)) ** 0.5, 1.0)
    width, height = (max(round(side * share), 16) for side in image.size)
    if share < 1:
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = width % 16 // 2, height % 16 // 2
    return image.crop((left, top, left + width // 16 * 16, top + height // 16 * 16))
