"""Files of strangers: where they lie; pictures, judged by their header before they are decoded, then shrunk."""

import math
import os
import shutil
import time
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from kdgen.types import UserError, text
from kdgen.ui import disk
from kdgen.ui.limits import Limits
from kdgen.utils.image_io import from_image

WHITE = 255.0
KEPT_SECONDS = 3600.0
FILES = 5000
"""How many files may lie here, which are counted at every upload."""
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")


class Uploads:
    """The folder that uploads go to, of which nothing is ever sent to anybody, and which is emptied by itself.

    Args:
        limits: bounds, and the folder.
    """

    def __init__(self, limits: Limits) -> None:
        self.folder = (limits.folder / "uploads").resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.bytes = limits.uploads_bytes

    def find(self, path: object) -> Path:
        """An uploaded file by the path that its upload was answered with.

        Raises:
            UserError: for anything else.
        """
        try:
            found = Path(path).resolve() if isinstance(path, str) else None
            if found is not None and found.is_relative_to(self.folder) and found.is_file():
                return found
        except (OSError, ValueError):
            pass
        raise UserError(text("no_such_upload", "there is no such upload: no address is fetched and no file of this "
                             "machine is read; upload the file itself, again if that was long ago"))  # fmt: skip

    def full(self) -> bool:
        """Whether no more are taken for now: too many bytes or files are here, or there is no room for more."""
        self.sweep()
        found = disk.sizes(self.folder)
        return sum(found) > self.bytes or len(found) > FILES or disk.full(self.folder)

    def sweep(self) -> None:
        """Remove what lay here for an hour."""
        for path in self.folder.iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > KEPT_SECONDS:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()


def open_picture(path: str | os.PathLike[str], limits: Limits) -> Image.Image:
    """An uploaded picture, upright, on white, grey or RGB of 8 bits, and no larger than is worked on.

    Raises:
        UserError: for what is no picture of a common kind, too large a one, and a damaged one.
    """
    return cropped(shrunk(_opened(path, limits, 2048), limits.pixels))


def open_full(path: str | os.PathLike[str], limits: Limits) -> Image.Image:
    """The same as large as it is, or as large as pictures are for download. Raises what ``open_picture`` does."""
    return shrunk(_opened(path, limits, math.isqrt(limits.full_pixels) + 1), limits.full_pixels)


def _opened(path: str | os.PathLike[str], limits: Limits, side: int) -> Image.Image:
    """An uploaded picture, upright, on white; one that can be read smaller is, with sides of ``side`` at least."""
    file = Path(path)
    if file.stat().st_size > limits.upload_bytes:
        raise UserError(text("file_too_large", "this file has more than {most} MB: choose a smaller picture",
                             most=limits.upload_bytes // 1_000_000))  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                if width * height > limits.upload_pixels or max(width, height) > limits.upload_side:
                    raise UserError(text("picture_too_large", "this picture has {width:,} x {height:,} pixels: at most "
                                         "{side:,} a side and {millions} million in all", width=width, height=height,
                                         side=limits.upload_side,
                                         millions=limits.upload_pixels // 1_000_000))  # fmt: skip
                if min(width, height) < 16:
                    raise UserError(text("picture_too_small", "this picture has {width:,} x {height:,} pixels: 16 a "
                                         "side are the least", width=width, height=height))  # fmt: skip
                image.draft("RGB", (side, side))
                image.load()
                values = from_image(image).on(WHITE)
                return Image.fromarray(values.clip(0, 255).round().astype(np.uint8))
    except (UnidentifiedImageError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        bomb = not isinstance(error, UnidentifiedImageError)
        raise UserError(text("picture_bomb", "this picture is far too large") if bomb else
                        text("no_picture", "this is no PNG, JPEG, WebP, BMP, TIFF or GIF picture: choose one of "
                             "these")) from None  # fmt: skip
    except UserError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError):
        raise UserError(text("picture_damaged", "this picture is damaged or cut short: choose another, or save it "
                             "anew")) from None  # fmt: skip


def shrunk(image: Image.Image, pixels: int) -> Image.Image:
    """A picture with at most so many pixels."""
    share = min((pixels / (image.width * image.height)) ** 0.5, 1.0)
    width, height = (max(int(side * share), 16) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS) if share < 1 else image


def cropped(image: Image.Image) -> Image.Image:
    """The middle of a picture, with sides that are multiples of 16 so that every net takes them."""
    width, height = image.size
    left, top = width % 16 // 2, height % 16 // 2
    return image.crop((left, top, left + width // 16 * 16, top + height // 16 * 16))


def framed(mask: Image.Image, size: tuple[int, int], pixels: int) -> Image.Image:
    """A mask of a picture that was ``shrunk`` to so many pixels and ``cropped``, as one of all of it, shrunk.

    Args:
        mask: of one channel; nothing is missing in what was cropped.
        size: of the whole picture.
        pixels: that it was shrunk to.
    """
    share = min((pixels / (size[0] * size[1])) ** 0.5, 1.0)
    whole = Image.new("L", (max(int(size[0] * share), mask.width), max(int(size[1] * share), mask.height)))
    whole.paste(mask, ((whole.width - mask.width) // 2, (whole.height - mask.height) // 2))
    return whole
