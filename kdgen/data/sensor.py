"""Readings of sensors: maps of any number of channels, in units of their own, with readings that are missing."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from kdgen.data.pictures import Pictures, to_tensor
from kdgen.data.whole import framed
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.utils.image_io import Picture, open_image
from kdgen.utils.references import FilePath

ARRAYS, SUFFIXES = (".npy",), (".npy", ".png", ".tif", ".tiff")
Missing = Annotated[float | Literal["nan"] | None, Field(description='a number, "nan" or null')]


@register("images")
class Sensor(Pictures):
    """A folder of sensor data: depth, thermal or radar maps, of any number of channels and in their own units.

    ``.npy`` files hold ``(H, W)`` or ``(H, W, C)`` numbers of any kind; PNG files 8 or 16 bits, TIFF files these or
    floating point, and of several pages each is a channel. Nothing is scaled but by ``low`` and ``high``, which become
    -1 and 1; what lies beyond is kept. Where all files lie in folders within, each of these folders is a class.

    Args:
        path: the folder.
        low, high: readings that become -1 and 1, in the units of the files: 0 and 10000 for depths up to 10 m in mm.
        missing: the value of readings that are missing, 0 or ``"nan"`` say; values that are not finite always are.
        gaps: whether the task is shown where readings are missing, as ``restore`` has to be: it tells nets so by
            ``mask``, and does not count their truth. Else they are the middle of the range.
        max_gib: what fits in so many GiB is read once and kept.

    Raises:
        UserError: for a folder that is missing or without such files, a file that cannot be read or has another number
            of channels than the first, and for a range that is none.
    """

    def __init__(
        self,
        path: FilePath,
        low: float = 0.0,
        high: float = 65535.0,
        missing: Missing = None,
        gaps: bool = False,
        max_gib: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        super().__init__()
        if not low < high:
            raise UserError(text("sensor_range", "sensor: low is below high, not {low:g} and {high:g}", low=low,
                                 high=high))  # fmt: skip
        self.path, self.low, self.high, self.gaps = Path(path).expanduser(), low, high, gaps
        self.missing = None if missing in (None, "nan") else float(missing)
        self._files = sorted(each for each in self.path.rglob("*") if each.suffix.lower() in SUFFIXES)
        if not self._files:
            raise UserError(text("sensor_files", "the folder {path} holds no {kinds} file: name another", path=path,
                                 kinds=", ".join(SUFFIXES)))  # fmt: skip
        self._names = [each.relative_to(self.path).as_posix() for each in self._files]
        self.num_channels = _channels(read_sensor(self._files[0]))
        room = int(max_gib * 2**30 / max(4 * read_sensor(self._files[0]).size, 1))
        self._kept = lru_cache(maxsize=max(room, 1))(self._read)
        within = [name.split("/")[0] if "/" in name else "" for name in self._names]
        self.classes = sorted(set(within)) if all(within) else []
        self.labels = torch.tensor([self.classes.index(name) for name in within] if self.classes else [])

    @property
    def names(self) -> Sequence[str]:
        """Paths within the folder."""
        return self._names

    @property
    def num_classes(self) -> int:
        """How many folders there are within; 0 where a file lies in none."""
        return len(self.classes)

    @property
    def num_labelled(self) -> int:
        """How many files there are."""
        return len(self._files)

    def picture(self, index: int) -> Picture:
        """The readings at a position of ``names``, ``(H, W)`` or ``(H, W, C)``, 0 to 255 from ``low`` to ``high``."""
        return self._kept(index)

    def fingerprint(self) -> str:
        """A hash of the arguments and of each file's name, size and time of change."""
        files = [(name, file.stat().st_size, file.stat().st_mtime_ns)
                 for name, file in zip(self._names, self._files, strict=True)]  # fmt: skip
        return hashlib.sha256(repr((self.low, self.high, self.missing, self.gaps, files)).encode()).hexdigest()

    def labelled(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Whole maps in random order, each once before any comes twice, made square, and their classes.

        Returns:
            ``(count, channels, size, size)`` float32, and ``(count,)`` int64.
        """
        index = self.drawn(count, seed)
        x = [framed(to_tensor(self.picture(i), channels), size) for i in index.tolist()]
        return torch.cat(x), self.labels[index]

    def _read(self, index: int) -> Picture:
        readings = read_sensor(self._files[index])
        if _channels(readings) != self.num_channels:
            raise UserError(text("sensor_channels", "{name} has {count} channels and {first} has {own}: put maps of "
                                 "other channels into another folder", name=self._names[index],
                                 count=_channels(readings), first=self._names[0], own=self.num_channels))  # fmt: skip
        values = readings.astype(np.float32)
        absent = ~np.isfinite(values)
        if self.missing is not None:
            absent |= values == np.float32(self.missing)
        unit = (values - self.low) / (self.high - self.low)
        unit[absent] = np.nan if self.gaps else 0.5
        return (255 * unit).astype(np.float32)


def read_sensor(path: Path) -> NDArray[Any]:
    """The numbers in a file as they are, ``(H, W)`` or ``(H, W, C)``: pages of a TIFF are channels.

    Raises:
        UserError: for a file that cannot be read, or holds something else.
    """
    try:
        if path.suffix.lower() in ARRAYS:
            array = np.load(path, allow_pickle=False)
        else:
            with open_image(path) as image:
                pages = []
                for number in range(getattr(image, "n_frames", 1)):
                    image.seek(number)
                    pages.append(np.array(image))
            array = pages[0] if len(pages) == 1 else np.stack(pages, -1)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise UserError(text("sensor_unread", "{path} cannot be read ({error}): save it anew, .npy without Python's "
                             "objects", path=path.name, error=str(error).partition("\n")[0])) from None  # fmt: skip
    if array.ndim not in (2, 3) or not array.size or not np.issubdtype(array.dtype, np.number):
        raise UserError(text("sensor_shape", "{path} holds {kind} of shape {shape}: save numbers (H, W) or (H, W, C)",
                             path=path.name, kind=str(array.dtype), shape=str(array.shape)))  # fmt: skip
    readings: NDArray[Any] = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    return readings


def _channels(array: NDArray[Any]) -> int:
    return 1 if array.ndim == 2 else array.shape[-1]


__all__ = ["Sensor", "read_sensor"]
