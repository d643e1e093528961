"""Labelled pictures in the layout of torchvision's ImageFolder: a folder for each class."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdgen.data.folder import Background, Folder
from kdgen.data.jitter import Amounts
from kdgen.registry import register
from kdgen.types import UserError
from kdgen.utils.image_io import Picture
from kdgen.utils.references import FilePath
from kdgen.utils.seed import generator


@register("images")
class ImageFolder(Folder):
    """Labelled pictures, grey or colour: `PATH/CLASS/picture.png`, a folder for each class, nested ones included.

    Patches are whole pictures, made square with the value of their border, shrunk by area averaging.

    Args:
        path: the folder of folders.
        classes: names of the folders in the order of the labels; by default their names as numbers where all of them
            are numbers, or else in alphabetical order.
        max_gib, background, jitter: as for ``folder``.

    Attributes:
        classes: the name of each class; empty for a label that no folder has.

    Raises:
        UserError: for what ``folder`` refuses, pictures that lie in no class's folder, and folders that are no class.
    """

    def __init__(
        self,
        path: FilePath,
        classes: Sequence[str] | None = None,
        max_gib: float = 1.0,
        background: Background | None = 1.0,
        jitter: Amounts | None = None,
    ) -> None:
        super().__init__(path, max_gib=max_gib, whole=True, background=background, jitter=jitter)
        inside = [name.partition("/") for name in self._names]
        if loose := next((name for name, _, rest in inside if not rest), None):
            raise UserError(f"image_folder: {loose} lies in {path} itself: put each picture in the folder of its class")
        found = sorted({name for name, _, _ in inside})
        label = _labels(found, classes)
        if unknown := next((name for name in found if name not in label), None):
            raise UserError(f"image_folder: {unknown} in {path} is no class: add it to classes, or take it out")
        self.classes = [""] * (max(label.values()) + 1)
        for name, number in label.items():
            self.classes[number] = name
        self.labels = torch.tensor([label[name] for name, _, _ in inside], dtype=torch.int64)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def num_labelled(self) -> int | None:
        """How many pictures there are; None where each draw changes them."""
        return len(self._files) if self.jitter is None else None

    def picture(self, index: int) -> Picture:
        """The picture at a position of ``names``; in place of one that turns out damaged, the next of its class."""
        same = (self.labels == self.labels[index]).nonzero()[:, 0].roll(-index).tolist()
        for i in [index, *same]:
            if (picture := self._decode(self._files[i])) is not None:
                return picture
        raise UserError(f"none of the images like {self._names[index]} can be read, the first is {self.skipped[0]}")

    def fingerprint(self) -> str:
        """That of the folder, and the classes."""
        return f"{super().fingerprint()}-{self.classes}"

    def labelled(self, count: int, size: int, *, channels: int, seed: int) -> tuple[Tensor, Tensor]:
        """Whole pictures in random order, each once before any comes twice, and their classes.

        Returns:
            ``(count, channels, size, size)`` float32 in [-1, 1], and ``(count,)`` int64.
        """
        index = self._drawn(count, seed)
        x = self._framed_batch(index, size, channels)
        return x if self.jitter is None else self.jitter(x, generator(seed, "jitter")), self.labels[index]


def _labels(found: Sequence[str], classes: Sequence[str] | None) -> dict[str, int]:
    if classes is not None:
        if len(set(classes)) < len(classes):
            raise UserError("image_folder: classes holds a name twice: name each class once")
        return {name: number for number, name in enumerate(classes)}
    if all(name.isascii() and name.isdigit() for name in found) and len({int(name) for name in found}) == len(found):
        return {name: int(name) for name in found}
    return {name: number for number, name in enumerate(found)}


__all__ = ["ImageFolder"]
