"""Labelled pictures in the layouts of torchvision's and datasets' ImageFolder: a folder for each class, or a table."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdgen.data.folder import Background, Folder
from kdgen.data.jitter import Amounts
from kdgen.data.labelled import shares
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.utils.image_io import Picture
from kdgen.utils.references import FilePath
from kdgen.utils.seed import generator

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"})
"""What folders of splits are called, as datasets knows them."""


@register("images")
class ImageFolder(Folder):
    """Labelled pictures, grey or colour: `PATH/CLASS/picture.png`, a folder for each class, nested ones included.

    Where a `metadata.jsonl` or `metadata.csv` lies in the folder, the `label` beside each `file_name` is the class.
    Patches are whole pictures, made square with the value of their border, shrunk by area averaging.

    Args:
        path: the folder of folders, or of such for each split.
        classes: names of the folders, or labels, in the order of the labels; by default their names as numbers where
            all of them are numbers, or else in alphabetical order.
        max_gib, background, jitter: as for ``folder``.
        split: the folder within ``path`` to take, ``train`` or ``test`` say: `PATH/SPLIT/CLASS/picture.png`.

    Attributes:
        classes: the name of each class; empty for a label that no folder has.

    Raises:
        UserError: for what ``folder`` refuses, pictures that lie in no class's folder or have no label, folders that
            are no class, and a table that is damaged.
    """

    def __init__(
        self,
        path: FilePath,
        classes: Sequence[str] | None = None,
        max_gib: float = 1.0,
        background: Background | None = 1.0,
        jitter: Amounts | None = None,
        split: str | None = None,
    ) -> None:
        path = path if split is None else str(Path(path, split))
        super().__init__(path, max_gib=max_gib, whole=True, background=background, jitter=jitter)
        told = _told(self.path)
        inside = [_folder(name, path) if told is None else told.get(name, "") for name in self._names]
        if told is not None and "" in inside:
            raise UserError(text("picture_unlabelled", "image_folder: {name} in {path} has no label in the metadata "
                                 "there: add it, or take the picture out", name=self._names[inside.index("")],
                                 path=path))  # fmt: skip
        found = sorted(set(inside))
        if told is None and split is None and SPLITS.issuperset(found):
            raise UserError(text("folder_of_splits", "image_folder: {path} holds the splits {found:, }: name one of "
                                 "these folders, or give `split`", path=path, found=found))  # fmt: skip
        label = _labels(found, classes)
        if unknown := next((name for name in found if name not in label), None):
            raise UserError(f"image_folder: {unknown} in {path} is no class: add it to classes, or take it out")
        self.classes = [""] * (max(label.values()) + 1)
        for name, number in label.items():
            self.classes[number] = name
        self.labels = torch.tensor([label[name] for name in inside], dtype=torch.int64)

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    @property
    def class_shares(self) -> Tensor:
        """How often each class is drawn, ``(num_classes,)``."""
        return shares(self.labels, self.num_classes)

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
        index = self.drawn(count, seed)
        x = self._framed_batch(index, size, channels)
        return x if self.jitter is None else self.jitter(x, generator(seed, "jitter")), self.labels[index]


def _folder(name: str, path: str) -> str:
    """The class that a picture lies in the folder of."""
    kind, _, rest = name.partition("/")
    if not rest:
        raise UserError(f"image_folder: {name} lies in {path} itself: put each picture in the folder of its class")
    return kind


def _told(folder: Path) -> Mapping[str, str] | None:
    """The labels in the table of a folder by the names of the pictures; None where there is no table of labels."""
    rows: list[Any] = []
    for file in (folder / "metadata.jsonl", folder / "metadata.csv"):
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            rows += [json.loads(line) for line in lines if line.strip()] if file.suffix == ".jsonl" else \
                [*csv.DictReader(lines)]  # fmt: skip
        except FileNotFoundError:
            continue
        except (OSError, ValueError, csv.Error, RecursionError) as error:
            raise UserError(text("metadata_damaged", "image_folder: {file} cannot be read ({error})", file=file,
                                 error=" ".join(str(error).split())[:200])) from None  # fmt: skip
    named = [row for row in rows if isinstance(row, dict) and "file_name" in row]
    told = {str(row["file_name"]): str(row["label"]) for row in named if row.get("label") is not None}
    return told or None


def _labels(found: Sequence[str], classes: Sequence[str] | None) -> dict[str, int]:
    if classes is not None:
        if len(set(classes)) < len(classes):
            raise UserError("image_folder: classes holds a name twice: name each class once")
        return {name: number for number, name in enumerate(classes)}
    if all(name.isascii() and name.isdigit() for name in found) and len({int(name) for name in found}) == len(found):
        return {name: int(name) for name in found}
    return {name: number for number, name in enumerate(found)}


__all__ = ["ImageFolder"]
