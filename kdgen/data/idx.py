"""Images in the IDX format of MNIST."""

import gzip
import hashlib
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdgen.data.labelled import shares
from kdgen.data.whole import framed
from kdgen.registry import register
from kdgen.types import UserError
from kdgen.types.arguments import Count
from kdgen.utils.references import FilePath
from kdgen.utils.seed import generator, shuffled


def read_idx(path: str | Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of bytes in an IDX file, plain or gzipped: LeCun et al., "The MNIST database", file formats.

    Args:
        path: the file.
        dimensions: how many it must have: 3 for images, 1 for labels.

    Raises:
        UserError: for a file that is missing, damaged, or holds something else.
    """
    path = Path(path).expanduser()
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except FileNotFoundError:
        raise UserError(f"there is no file {path}: give the path of an IDX file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}): fetch it anew") from None
    header = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]) or len(data) < header:
        kind = "images" if dimensions == 3 else "labels"
        raise UserError(f"{path} holds no {kind} in the IDX format (it begins with {data[:4].hex() or 'nothing'}, "
                        f"not 000008{dimensions:02x}): name another file")  # fmt: skip
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    expected = int(np.prod([int(extent) for extent in shape], dtype=object))
    if len(data) - header != expected or not expected:
        raise UserError(f"{path} is damaged: its header announces {expected} bytes and {len(data) - header} follow; "
                        "fetch it anew")  # fmt: skip
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


@register("images")
class Idx:
    """Whole grey pictures in the IDX format of MNIST, Fashion-MNIST and EMNIST, with labels where given.

    Patches are whole pictures, padded with the value of their border (28 to 32 pixels) or shrunk by area averaging.

    Args:
        images: the file of images, plain or gzipped.
        labels: the file of their labels.
        size: height and width in pixels of the pictures that ``images`` gives; as they are if not given.

    Raises:
        UserError: for a file that is missing, damaged or of another kind, and as many labels as there are not images.
    """

    def __init__(self, images: FilePath, labels: FilePath | None = None, size: Count | None = None) -> None:
        self.size = size
        self._pictures = torch.from_numpy(read_idx(images, 3).copy())
        self._labels = None if labels is None else torch.from_numpy(read_idx(labels, 1).astype(np.int64))
        if self._labels is not None and len(self._labels) != len(self._pictures):
            raise UserError(f"{labels} holds {len(self._labels)} labels for the {len(self._pictures)} images of "
                            f"{images}: name the file that belongs to it")  # fmt: skip

    @property
    def names(self) -> Sequence[str]:
        """``0``, ``1`` and so on."""
        return [str(index) for index in range(len(self._pictures))]

    @property
    def num_classes(self) -> int:
        """One more than the largest label; 0 without labels."""
        return 0 if self._labels is None else int(self._labels.max()) + 1

    @property
    def class_shares(self) -> Tensor:
        """How often each class is drawn, ``(num_classes,)``."""
        assert self._labels is not None, "a source without classes is not labelled"
        return shares(self._labels, self.num_classes)

    @property
    def num_labelled(self) -> int:
        """How many pictures there are."""
        return len(self._pictures)

    def fingerprint(self) -> str:
        """A hash of every pixel and label."""
        digest = hashlib.sha256(repr((tuple(self._pictures.shape), self.size)).encode())
        for part in (self._pictures, self._labels):
            if part is not None:
                digest.update(part.numpy().data)
        return digest.hexdigest()

    def patches(self, count: int, size: int, *, channels: int, seed: int) -> Tensor:
        """Whole pictures in random order, each once before any comes twice.

        Returns:
            ``(count, channels, size, size)`` float32 in [-1, 1].
        """
        return self._images(self._drawn(count, seed), size, channels)

    def labelled(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """The same as ``patches``, with the classes ``(count,)`` int64.

        Raises:
            UserError: where no file of labels was given.
        """
        if self._labels is None:
            raise UserError("these images have no labels: give idx the file of `labels` too")
        index = self._drawn(count, seed)
        return self._images(index, size, channels), self._labels[index]

    def images(self, channels: int) -> Iterator[tuple[str, Tensor]]:
        """All pictures in order, each ``(1, channels, H, W)`` float32 in [-1, 1]."""
        for index, name in enumerate(self.names):
            yield name, self._images(torch.tensor([index]), self.size, channels)

    def _drawn(self, count: int, seed: int) -> Tensor:
        return shuffled(len(self._pictures), count, generator(seed, "pictures"))

    def _images(self, index: Tensor, size: int | None, channels: int) -> Tensor:
        x = self._pictures[index][:, None].float().div_(127.5).sub_(1.0)
        x = x if size is None else framed(x, size)
        return x.expand(-1, channels, -1, -1).contiguous()


__all__ = ["Idx", "read_idx"]
