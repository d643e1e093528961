"""Photographs with what else is known of each: maps of the same places, and embeddings of what it shows."""

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from kdgen.data.arrays import Arrays
from kdgen.data.folder import Folder
from kdgen.data.image_folder import ImageFolder
from kdgen.data.labelled import NamedClasses, shares
from kdgen.data.pictures import Pictures, to_tensor
from kdgen.data.sensor import Sensor
from kdgen.data.source import Gapped, ImageSource, make_images
from kdgen.data.whole import framed
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.utils.image_io import Picture
from kdgen.utils.references import FilePath

EMBEDDING = "embedding"
"""The condition by which nets are told."""


@register("images")
class Aligned(Pictures):
    """Photographs as stacks with maps of the same places, of depth, heat or radar, for a teacher that reads these too.

    Channels are those of the photograph, then those of the maps in turn; behind a map of ``sensor`` with ``gaps`` one
    more, 1 where it was read and -1 where a reading is missing, which itself is 0 then. What crops, turns and shrinks
    photographs moves all of them alike. Which channels a net is shown, the damage ``channels`` says in a view; the task
    has ``channels`` for all. Beside that, a net can be told an embedding of each picture, ``cond["embedding"]``.

    Args:
        pictures: the photographs, ``{"name": "image_folder", "args": {"path": "photos/"}}``: any source whose pictures
            have names and no jitter. Its classes are the classes.
        maps: such sources, ``sensor`` say, each with a map for every photograph: of its name but for what follows the
            last dot, and of its size. Others are passed over.
        embeddings: an ``.npz`` with an array for each photograph by its name, ``cats/1.png``, the path within its
            folder; or an ``.npy`` of one row for each in the order of these. All are ``(D,)``, or ``(L, D)``.
        max_gib: what fits in so many GiB is stacked once and kept.

    Attributes:
        num_channels: of a stack.
        photograph: how many of these are the photograph's.
        classes, num_classes, labels: those of the photographs; none where these have none.

    Raises:
        UserError: for a source of something else, a photograph without a map, with two or with one of another size,
            and for embeddings that are missing, unlike one another or of another number than the photographs.
    """

    def __init__(
        self,
        pictures: ImageSource,
        maps: Sequence[ImageSource] = (),
        embeddings: FilePath | None = None,
        max_gib: Annotated[float, Field(gt=0)] = 1.0,
    ) -> None:
        self.pictures = named_pictures("aligned", pictures)
        super().__init__(self.pictures.scales)
        self._maps = [_Maps(number, each, self.pictures.names) for number, each in enumerate(maps)]
        self.photograph = _channels(self.pictures.picture(0))
        self.num_channels = self.photograph + sum(each.count + each.gaps for each in self._maps)
        known = self.pictures if isinstance(self.pictures, ImageFolder | Sensor | Arrays) else None
        self.labels = torch.tensor([], dtype=torch.int64) if known is None else known.labels
        self.num_classes = 0 if known is None else known.num_classes
        self.classes = [*known.classes] if isinstance(known, NamedClasses) else []
        self._embeddings = None if embeddings is None else _embeddings(Path(embeddings).expanduser(), self.names)
        height, width = self.pictures.picture(0).shape[:2]
        room = max(int(max_gib * 2**30 / max(4 * self.num_channels * height * width, 1)), 1)
        self._stacked, self._framed = lru_cache(room)(self._stack), lru_cache(room)(self._frame)

    @property
    def names(self) -> Sequence[str]:
        """Those of the photographs."""
        return self.pictures.names

    @property
    def num_labelled(self) -> int:
        """How many photographs there are."""
        return len(self.names)

    @property
    def class_shares(self) -> Tensor:
        """How often each class is drawn, ``(num_classes,)``."""
        return shares(self.labels, self.num_classes)

    def picture(self, index: int) -> Picture:
        """The stack at a position of ``names``, ``(H, W, num_channels)`` in 8-bit units."""
        return self._stacked(index)

    def fingerprint(self) -> str:
        """What the sources say, and a hash of the embeddings."""
        said = [self.pictures.fingerprint(), *(each.source.fingerprint() for each in self._maps)]
        told = b"" if self._embeddings is None else self._embeddings.numpy().tobytes()
        return hashlib.sha256(repr(said).encode() + told).hexdigest()

    def labelled(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Whole stacks in random order, each once before any comes twice, made square as by ``framed``.

        Returns:
            ``(count, channels, size, size)`` float32, and classes ``(count,)`` int64.
        """
        index = self.drawn(count, seed)
        return torch.cat([self._framed(i, size, channels) for i in index.tolist()]), self.labels[index]

    def embedded(self, count: int, *, seed: int) -> Mapping[str, Tensor]:
        """Of the pictures that ``labelled`` gives the ``embedding``, ``(count, D)`` or ``(count, L, D)``.

        Nothing where there are none.
        """
        return {} if self._embeddings is None else {EMBEDDING: self._embeddings[self.drawn(count, seed)]}

    def _frame(self, index: int, size: int, channels: int) -> Tensor:
        return framed(to_tensor(self.picture(index), channels), size)

    def _stack(self, index: int) -> Picture:
        photograph = np.nan_to_num(_planes(self.pictures.picture(index), self.photograph), nan=127.5)
        parts = [photograph, *(each.planes(index, photograph.shape[:2]) for each in self._maps)]
        stacked: Picture = np.concatenate(parts, -1)
        return stacked


class _Maps:
    """A source of maps, in the order of the photographs.

    Attributes:
        count: of channels.
        gaps: whether one more says what is missing.
    """

    def __init__(self, number: int, described: Any, names: Sequence[str]) -> None:
        self.key, self.source = f"maps.{number}", named_pictures("aligned", described)
        self.gaps = isinstance(self.source, Gapped) and self.source.gaps
        by_stem: dict[str, int] = {}
        for index, name in enumerate(self.source.names):
            if (stem := _stem(name)) in by_stem:
                raise UserError(text("aligned_twice", "aligned: {key} holds two maps called {stem}: keep one of them",
                                     key=self.key, stem=stem))  # fmt: skip
            by_stem[stem] = index
        if alone := [name for name in names if _stem(name) not in by_stem]:
            raise UserError(text("aligned_alone", "aligned: {count} of {total} pictures have no map of their name in "
                                 "{key}, the first is {first}: add it, or take the picture out", count=len(alone),
                                 total=len(names), key=self.key, first=alone[0]))  # fmt: skip
        self.names, self.order = names, [by_stem[_stem(name)] for name in names]
        self.count = _channels(self.source.picture(self.order[0]))

    def planes(self, index: int, size: tuple[int, ...]) -> NDArray[np.float32]:
        """The map of a photograph, ``(H, W, count)`` or one more."""
        planes = _planes(self.source.picture(self.order[index]), self.count)
        if planes.shape[:2] != size:
            (a, b), (c, d) = size[::-1], planes.shape[1::-1]
            raise UserError(text("aligned_size", "aligned: {name} is {size} and its map in {key} {other}: give both "
                                 "the same size", name=self.names[index], size=f"{a}x{b}", key=self.key,
                                 other=f"{c}x{d}"))  # fmt: skip
        missing = np.isnan(planes).any(-1, keepdims=True)
        planes = np.where(missing, np.float32(127.5), planes)
        return np.concatenate([planes, np.where(missing, np.float32(0), np.float32(255))], -1) if self.gaps else planes


def named_pictures(owner: str, described: Any) -> Pictures:
    """A source of pictures with names, each the same whenever it is asked for.

    Raises:
        UserError: for another source, and one that changes its pictures.
    """
    source = make_images(described)
    if not isinstance(source, Pictures):
        raise UserError(text("pictures_unnamed", "{owner}: the pictures of {type} have no names: name a folder, an "
                             "image_folder or a sensor's", owner=owner, type=type(source).__name__))  # fmt: skip
    if isinstance(source, Folder) and source.jitter is not None:
        raise UserError(text("pictures_jittered", "{owner}: jitter would move pictures apart from what belongs to "
                             "them: leave it out, and let the task move both", owner=owner))  # fmt: skip
    return source


def _stem(name: str) -> str:
    return str(PurePosixPath(name).with_suffix(""))


def _channels(picture: Picture) -> int:
    return 1 if picture.ndim == 2 else picture.shape[-1]


def _planes(picture: Picture, channels: int) -> NDArray[np.float32]:
    """A picture as ``(H, W, channels)``; grey becomes colour and colour grey."""
    if _channels(picture) != channels:
        return to_tensor(picture, channels)[0].permute(1, 2, 0).add(1).mul(127.5).numpy()
    return picture.astype(np.float32).reshape(*picture.shape[:2], channels)


def _embeddings(file: Path, names: Sequence[str]) -> Tensor:
    """The embeddings of pictures in the order of their names, ``(N, D)`` or ``(N, L, D)`` float32."""
    try:
        with open(file, "rb") as opened:
            held = np.load(opened, allow_pickle=False)
            rows = _by_name(held, file, names) if isinstance(held, Mapping) else held
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(text("embeddings_unread", "{file} cannot be read as an .npz or .npy of plain arrays ({error})",
                             file=file, error=" ".join(str(error).split())[:200])) from None  # fmt: skip
    fits = rows.ndim in (2, 3) and np.issubdtype(rows.dtype, np.number) and len(rows) == len(names)
    if not fits or not np.isfinite(rows).all():
        raise UserError(text("embeddings_shape", "{file} holds {kind} of shape {shape}, and there are {count} "
                             "pictures: give finite numbers ({count}, D) or ({count}, L, D), in the order of their "
                             "names", file=file, kind=str(rows.dtype), shape=str(rows.shape),
                             count=len(names)))  # fmt: skip
    return torch.from_numpy(rows.astype(np.float32))


def _by_name(held: Mapping[str, NDArray[Any]], file: Path, names: Sequence[str]) -> NDArray[Any]:
    if without := [name for name in names if name not in held]:
        raise UserError(text("embeddings_missing", "{file} holds {held} embeddings, and none for {count} of the "
                             "{total} pictures, the first is {first}: add them by these names", file=file,
                             held=len(held), count=len(without), total=len(names), first=without[0]))  # fmt: skip
    rows = [held[name] for name in names]
    if odd := [name for name, row in zip(names, rows, strict=True) if row.shape != rows[0].shape]:
        raise UserError(text("embeddings_unlike", "{file} holds {shape} for {name} and {other} for {first}: make all "
                             "of one shape", file=file, shape=str(held[odd[0]].shape), name=odd[0],
                             other=str(rows[0].shape), first=names[0]))  # fmt: skip
    return np.stack(rows)


__all__ = ["EMBEDDING", "Aligned", "named_pictures"]
