"""Pictures in one folder, and by the same names maps in another that say what each place of them shows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from kdgen.data.aligned import named_pictures
from kdgen.data.folder import Folder, image_files
from kdgen.data.pictures import Pictures, Scales, to_tensor, window
from kdgen.data.source import ImageSource
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.utils.image_io import Picture, open_image
from kdgen.utils.references import FilePath
from kdgen.utils.seed import generator

T = TypeVar("T")

IGNORED = 255
"""The label of places that count for nothing."""

Classes = Annotated[
    Annotated[int, Field(ge=1, le=IGNORED)] | Annotated[Sequence[str], Field(min_length=1, max_length=IGNORED)],
    Field(description=f"how many classes, at most {IGNORED}, or their names"),
]
RawLabels = Annotated[
    Mapping[str | int, Annotated[int, Field(ge=0, lt=IGNORED)]],
    Field(description='values of the maps and the classes they stand for, {"7": 0, "8": 1}'),
]
"""What the values of maps stand for."""

PLAIN = ("1", "L", "P", "I", "I;16")
"""Modes of pictures whose values are numbers, of a palette or of grey."""


@register("images")
class LabelMaps(Pictures):
    """Pictures with maps of labels: to train segmenters on and measure them. Alone, it gives the pictures.

    A map is a picture of one number a place: grey values, or a palette's positions whatever its colours are. Names are
    paths within the folders less what follows the last dot, and less how they end where that is said:
    ``frankfurt/000_leftImg8bit.png`` and ``frankfurt/000_gtFine_labelIds.png`` of Cityscapes go together by
    ``image_end`` and ``label_end``.

    Args:
        images: folder of the pictures, nested folders included; or a source of pictures with names, ``aligned`` say.
        labels: folder of the maps, each as large as its picture.
        classes: how many classes there are, or their names in the order of their labels.
        mapping: values of the maps and the class that each stands for, ``{"7": 0, "8": 1}``; all others are ignored.
            If not given the values are the labels.
        ignore: the value of places that count for nothing.
        image_end: how the names of pictures end before the dot; others are passed over.
        label_end: likewise for maps.
        scales: patches are shrunk to one of these shares of their size, drawn at random: pictures by area averaging,
            maps to the nearest place.
        max_gib: pictures that fit in so many GiB are decoded at once and kept.

    Attributes:
        num_classes: how many.
        classes: their names, empty where they have none.

    Raises:
        UserError: for a folder that is missing, pictures without a map or with one of another size, and values that are
            no label.
    """

    def __init__(
        self,
        images: FilePath | ImageSource,
        labels: FilePath,
        classes: Classes,
        mapping: RawLabels | None = None,
        ignore: Annotated[int, Field(ge=0, le=65535)] = IGNORED,
        image_end: str = "",
        label_end: str = "",
        scales: Scales = (1.0,),
        max_gib: float = 1.0,
    ) -> None:
        super().__init__(scales)
        self.classes = () if isinstance(classes, int) else tuple(classes)
        self.num_classes = classes if isinstance(classes, int) else len(classes)
        self.mapping = None if mapping is None else {_number(value): label for value, label in mapping.items()}
        if over := [label for label in (self.mapping or {}).values() if label >= self.num_classes]:
            raise UserError(text("label_mapping", "label_maps: mapping gives class {label}, and there are "
                                 "{count}: the last is {last}", label=over[0], count=self.num_classes,
                                 last=self.num_classes - 1))  # fmt: skip
        self.ignore = ignore
        self._pictures = (
            Folder(images, max_gib=max_gib) if isinstance(images, str) else named_pictures("label_maps", images)
        )
        place = Path(labels).expanduser()
        if not place.is_dir():
            raise UserError(text("no_image_folder", "there is no folder {path}: give the path of a folder of images",
                                 path=labels))  # fmt: skip
        pictures = _by_stem((name, i) for i, name in enumerate(self._pictures.names))
        maps = _by_stem((path.relative_to(place).as_posix(), path) for path in image_files(place)[0])
        ours, theirs = _ending(pictures, image_end), _ending(maps, label_end)
        if not ours or (alone := sorted(ours.keys() - theirs.keys())):
            where = images if isinstance(images, str) else type(self._pictures).__name__
            first = alone[0] if ours else where
            raise UserError(text("picture_without_map", "label_maps: {count} of {total} pictures in {images} have no "
                                 "map of their name in {labels}, the first is {first}: add it, take the picture out, "
                                 "or say by image_end and label_end how names end", count=len(alone) if ours else 0,
                                 total=len(ours), images=where, labels=labels, first=first))  # fmt: skip
        self._stems = sorted(ours)
        self._order, self._maps = [ours[stem] for stem in self._stems], [theirs[stem] for stem in self._stems]

    @property
    def names(self) -> Sequence[str]:
        """Paths within the folders, without what follows the last dot or is said to end them."""
        return self._stems

    def picture(self, index: int) -> Picture:
        """The picture at a position of ``names``."""
        return self._pictures.picture(self._order[index])

    def labels(self, index: int) -> NDArray[np.uint8]:
        """The map at a position of ``names``, ``(H, W)``: labels, and ``IGNORED``."""
        file = self._maps[index]
        try:
            with open_image(file) as image:
                mode, values = image.mode, np.asarray(image)
        except OSError as error:
            raise UserError(text("map_unreadable", "label_maps: {file} cannot be read ({error}): fetch it again",
                                 file=file, error=str(error).partition("\n")[0])) from None  # fmt: skip
        if mode not in PLAIN:
            raise UserError(text("map_mode", "label_maps: {file} is of mode {mode}, and a map has one number a place: "
                                 "save it as grey values or with a palette", file=file, mode=mode))  # fmt: skip
        return self._settled(values.astype(np.int64), file)

    def _settled(self, values: NDArray[np.int64], file: Path) -> NDArray[np.uint8]:
        """Labels of the values of a file."""
        out = np.full(values.shape, IGNORED, dtype=np.uint8)
        if self.mapping is not None:
            for value, label in self.mapping.items():
                if value != self.ignore:
                    out[values == value] = label
            return out
        counts = values != self.ignore
        if counts.any() and not 0 <= (highest := int(values[counts].max())) < self.num_classes:
            raise UserError(text("map_value", "label_maps: {file} holds {value}, and the labels of {count} classes go "
                                 "to {last}: give more classes, or a mapping of values to classes", file=file,
                                 value=highest, count=self.num_classes, last=self.num_classes - 1))  # fmt: skip
        out[counts] = values[counts].astype(np.uint8)
        return out

    def fingerprint(self) -> str:
        """The arguments, and a hash of the pictures and of each map's name, size and time of change."""
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in self._maps]
        settings = (self.num_classes, self.mapping, self.ignore, self.scales, files)
        return f"label_maps-{settings}-{self._pictures.fingerprint()}"

    def mapped(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Random crops of pictures and of their maps at the same places, as ``patches`` draws them.

        Returns:
            ``(count, channels, size, size)`` float32 in [-1, 1], and labels ``(count, size, size)`` int64.
        """
        draws = torch.rand(count, 4, generator=generator(seed, "crops"), dtype=torch.float64).tolist()
        x, y = torch.empty(count, channels, size, size), torch.empty(count, size, size, dtype=torch.int64)
        for i, (which, scaling, top, left) in enumerate(draws):
            index = int(which * len(self._stems))
            picture, labels = self._pair(index)
            extent = round(size / self.scales[int(scaling * len(self.scales))])
            height, width = labels.shape
            rows = window(height, extent, int(top * max(height - extent + 1, 1)))[:, None]
            columns = window(width, extent, int(left * max(width - extent + 1, 1)))
            part, cut = shrunk(
                to_tensor(picture[rows, columns], channels),
                torch.from_numpy(labels[rows, columns])[None].long(),
                (size, size),
            )
            assert cut is not None
            x[i], y[i] = part[0], cut[0]
        return x, y

    def whole_maps(self, channels: int) -> Iterator[tuple[str, Tensor, Tensor]]:
        """All in order: name, picture ``(1, channels, H, W)`` float32, labels ``(1, H, W)`` int64."""
        for index, name in enumerate(self._stems):
            picture, labels = self._pair(index)
            yield name, to_tensor(picture, channels), torch.from_numpy(labels)[None].long()

    def _pair(self, index: int) -> tuple[Picture, NDArray[np.uint8]]:
        picture, labels = self.picture(index), self.labels(index)
        if picture.shape[:2] != labels.shape:
            (a, b), (c, d) = picture.shape[1::-1], labels.shape[::-1]
            raise UserError(text("map_size", "label_maps: {name} is {size} and its map {other}: give both the same "
                                 "size", name=self._stems[index], size=f"{a}x{b}", other=f"{c}x{d}"))  # fmt: skip
        return picture, labels


def shrunk(x: Tensor, y: Tensor | None, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """Images brought to a size by area averaging, and maps of labels to the nearest place.

    Args:
        x: ``(B, C, H, W)``.
        y: ``(B, H, W)`` int64, if there are any.
        size: height and width.
    """
    if x.shape[-2:] == size:
        return x, y
    nearest = None if y is None else F.interpolate(y[:, None].double(), size, mode="nearest-exact")[:, 0].long()
    return F.interpolate(x, size, mode="area"), nearest


def _number(value: str | int) -> int:
    try:
        return int(value)
    except ValueError:
        raise UserError(text("label_value", "label_maps: mapping names {value!r}, and the values of a map are whole "
                             "numbers", value=value)) from None  # fmt: skip


def _by_stem(named: Iterable[tuple[str, T]]) -> dict[str, T]:
    return {name.rpartition(".")[0]: each for name, each in named}


def _ending(by_stem: Mapping[str, T], end: str) -> dict[str, T]:
    return {stem.removesuffix(end): each for stem, each in by_stem.items() if stem.endswith(end)}


__all__ = ["IGNORED", "LabelMaps", "shrunk"]
