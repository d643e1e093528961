"""A folder of image files."""

import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdgen.data.jitter import STRONG, Amounts, make_jitter
from kdgen.data.pictures import Pictures, Scales, to_tensor
from kdgen.data.whole import framed
from kdgen.registry import register
from kdgen.types import Text, UserError, text
from kdgen.types.text import replaced
from kdgen.utils.image_io import Picture, frames, is_deep, open_image
from kdgen.utils.references import FilePath
from kdgen.utils.seed import generator

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif")
Background = Annotated[float, Field(ge=-1, le=1, description="from -1 (black) to 1 (white)")]
KINDS = text("kinds_of_images", "PNG, JPEG, WebP, TIFF, BMP or GIF")

UNREAD = (".arw", ".avif", ".cr2", ".cr3", ".dng", ".exr", ".hdr", ".heic", ".heif", ".ico", ".jfif", ".jp2", ".jxl",
          ".nef", ".orf", ".pgm", ".ppm", ".psd", ".raf", ".rw2", ".tga")  # fmt: skip
"""Endings of other image files."""


def image_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The image files in a folder and in those within, linked ones too, without hidden files.

    Returns:
        those of kinds that are read, and those of other kinds, each sorted.
    """
    found: dict[bool, list[Path]] = {True: [], False: []}
    above: dict[str, frozenset[str]] = {}
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        outer = above.get(os.path.dirname(place), frozenset())
        if real in outer:  # a link to where it lies in
            folders.clear()
            continue
        above[place] = outer | {real}
        for name in names:
            path = Path(place, name)
            if name[0] != "." and (suffix := path.suffix.lower()) in (*SUFFIXES, *UNREAD):
                found[suffix in SUFFIXES].append(path)
    return sorted(found[True]), sorted(found[False])


def read_picture(path: Path, background: float | None = None) -> Picture:
    """Decode an image file, upright by its EXIF tag; of several pages or frames the first.

    8-bit files stay as they are, composed on a ``background`` in 8-bit units or else with transparency dropped; 16-bit
    ones are brought to 8-bit units without rounding; 32-bit float greys are read as ``kdgen.utils.image_io.from_image``
    says and keep values beyond 0 to 255.

    Raises:
        Exception: of many kinds, whatever the decoder makes of a damaged file.
    """
    return next(frames(path)).on(background)


@register("images")
class Folder(Pictures):
    """A folder of PNG, JPEG, WebP, TIFF, BMP and GIF images, nested and linked folders included.

    Colour becomes grey and grey colour as a task asks. Float TIFFs hold values in 8-bit units and are never clipped,
    so a noisy picture can be kept as it is. Of several pages or frames the first is taken, and a warning says so.

    Args:
        path: the folder.
        scales: patches are shrunk by area averaging to one of these shares of their size, drawn at random.
        max_gib: what fits in so many GiB is decoded at once and kept; a larger folder is decoded as it is needed.
        whole: patches are whole pictures, made square with the value of their border, shrunk by area averaging.
        background: what transparent pictures lie on, from -1 black to 1 white; null drops their transparency.
        jitter: random changes of every patch, ``{"scale": 0.1, "shift": 0.05, "rotation": 10, "colour": 0.2, "flip":
            0.5}``, see ``Jitter``.

    Attributes:
        skipped: files that could not be read, by name; a warning has told each.

    Raises:
        UserError: for a folder that is missing or holds no readable image, and arguments that do not fit.
    """

    def __init__(
        self,
        path: FilePath,
        scales: Scales = (1.0,),
        max_gib: float = 1.0,
        whole: bool = False,
        background: Background | None = 1.0,
        jitter: Amounts | None = None,
    ) -> None:
        super().__init__(scales)
        self.whole, self.background = whole, background
        self.jitter = None if jitter is None else make_jitter(jitter)
        self.path = Path(path).expanduser()
        if not self.path.is_dir():
            raise UserError(text("no_image_folder", "there is no folder {path}: give the path of a folder of images",
                                 path=path))  # fmt: skip
        found, others = image_files(self.path)
        if others:
            warnings.warn(text("kinds_passed_over", "{path}: passed over {count} of kinds that are not read, the "
                               "first is {name}", path=path, count=len(others),
                               name=self._name(others[0])), stacklevel=3)  # fmt: skip
        if not found:
            raise UserError(text("folder_without_images", "the folder {path} holds no {kinds} image: put images in, "
                                 "or name another", path=path, kinds=KINDS))  # fmt: skip
        self.skipped: list[str] = []
        several: list[Path] = []
        sizes = {file: size for file in found if (size := self._decoded_bytes(file, several))}
        if several:
            warnings.warn(text("first_frames", "{path}: only the first page or frame is taken of {count} that have "
                               "several, the first is {name}: save the others as files", path=path, count=len(several),
                               name=self._name(several[0])), stacklevel=3)  # fmt: skip
        self._files = list(sizes)
        mean_bytes = sum(sizes.values()) / max(len(sizes), 1)
        room = int(max_gib * 2**30 / max(mean_bytes, 1))
        self._decode = lru_cache(maxsize=max(room, 1))(self._try)
        self._framed = lru_cache(maxsize=max(room, 1))(self._frame)
        if room >= len(self._files):
            self._files = [file for file in self._files if self._decode(file) is not None]
        if not self._files:
            raise UserError(text("no_image_of_folder_read", "none of the {count} images in {path} can be read, the "
                                 "first is {first}", count=len(found), path=path,
                                 first=str(self.skipped[0])))  # fmt: skip
        self._names = [self._name(file) for file in self._files]

    @property
    def names(self) -> Sequence[str]:
        """Paths within the folder."""
        return self._names

    def picture(self, index: int) -> Picture:
        """The picture at a position of ``names``; in place of one that turns out damaged, the next that is not."""
        for i in range(index, index + len(self._files)):
            if (picture := self._decode(self._files[i % len(self._files)])) is not None:
                return picture
        raise UserError(text("no_image_read", "none of the images in {path} can be read, the first is {first}",
                             path=self.path, first=str(self.skipped[0])))  # fmt: skip

    def fingerprint(self) -> str:
        """A hash of the arguments and of each file's name, size and time of change; pixels are not read."""
        files = [(self._name(file), file.stat().st_size, file.stat().st_mtime_ns) for file in self._files]
        settings = (self.scales, self.whole, self.background, self.jitter, files)
        return hashlib.sha256(repr(settings).encode()).hexdigest()

    @property
    def num_classes(self) -> int:
        """Every picture is a class of its own."""
        return len(self._files)

    @property
    def class_shares(self) -> Tensor:
        """How often each class is drawn, ``(num_classes,)``."""
        return torch.full((self.num_classes,), 1 / self.num_classes, dtype=torch.float64)

    @property
    def num_labelled(self) -> int | None:
        """None: each draw of a picture is changed otherwise."""
        return None

    def patches(self, count: int, size: int, *, channels: int, seed: int) -> Tensor:
        """Random crops, or whole pictures each once before any twice, ``(count, channels, size, size)`` float32."""
        if self.whole:
            x = self._framed_batch(self.drawn(count, seed), size, channels)
        else:
            x = super().patches(count, size, channels=channels, seed=seed)
        return x if self.jitter is None else self.jitter(x, generator(seed, "jitter"))

    def labelled(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Whole pictures that are to be told from each other, changed by the jitter, by default a strong one.

        Returns:
            ``(count, channels, size, size)`` float32 in [-1, 1], and positions in ``names`` ``(count,)`` int64.
        """
        index = self.drawn(count, seed)
        jitter = STRONG if self.jitter is None else self.jitter
        return jitter(self._framed_batch(index, size, channels), generator(seed, "jitter")), index

    def images(self, channels: int) -> Iterator[tuple[str, Tensor]]:
        """All readable pictures in order, by path, each ``(1, channels, H, W)`` float32."""
        for name, file in zip(self._names, self._files, strict=True):
            if (picture := self._decode(file)) is not None:
                yield name, to_tensor(picture, channels)

    def _framed_batch(self, index: Tensor, size: int, channels: int) -> Tensor:
        return torch.cat([self._framed(i, size, channels) for i in index.tolist()])

    def _frame(self, index: int, size: int, channels: int) -> Tensor:
        return framed(to_tensor(self.picture(index), channels), size)

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    def _decoded_bytes(self, file: Path, several: list[Path]) -> int:
        """How large a file is when it is decoded; it is noted among ``several`` if it has several pages or frames."""
        try:
            with open_image(file) as image:
                several += [file] * (getattr(image, "n_frames", 1) > 1)
                each = 4 if image.mode[0] in "IF" else len(image.getbands()) * (4 if is_deep(image) else 1)
                return image.width * image.height * each
        except Exception as error:
            self._skip(file, error)
            return 0

    def _try(self, file: Path) -> Picture | None:
        try:
            return read_picture(file, None if self.background is None else 127.5 * (self.background + 1))
        except Exception as error:
            self._skip(file, error)
            return None

    def _skip(self, file: Path, error: Exception) -> None:
        name = self._name(file)
        if name not in self.skipped:
            self.skipped.append(name)
            said = error.text if isinstance(error, UserError) else Text(str(error).partition("\n")[0])
            reason = replaced(said, str(file), name) or type(error).__name__
            warnings.warn(text("image_skipped", "skipped {name}: {reason}", name=name, reason=reason), stacklevel=2)
