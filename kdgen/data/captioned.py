"""Pictures with captions, in the layout of `datasets`: an image folder and what each picture shows."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeGuard, runtime_checkable

from torch import Tensor

from kdgen.data.folder import Background, Folder
from kdgen.data.jitter import Amounts
from kdgen.data.source import Images
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.utils.references import FilePath

METADATA = "metadata.jsonl"


@runtime_checkable
class Told(Images, Protocol):
    """A source whose pictures have captions.

    Attributes:
        captions: what each picture shows, in the order of ``whole_pictures``.
    """

    @property
    def captions(self) -> Sequence[str]: ...  # noqa: D102

    def whole_pictures(self, size: int, *, channels: int) -> Iterator[Tensor]:
        """All pictures in a fixed order, each ``(1, channels, size, size)`` float32 in [-1, 1]."""
        ...


def is_told(source: object) -> TypeGuard[Told]:
    """Whether a source knows what its pictures show."""
    return isinstance(source, Told)


@register("images")
class Captioned(Folder):
    """Pictures with captions: a folder with a `metadata.jsonl`, whose lines hold a `file_name` and a `text`.

    Patches are whole pictures, made square with the value of their border, shrunk by area averaging.

    Args:
        path: the folder; names of files in `metadata.jsonl` are paths within it.
        max_gib, background, jitter: as for ``folder``.

    Attributes:
        captions: what each picture shows, in the order of ``names``.

    Raises:
        UserError: for what ``folder`` refuses, a `metadata.jsonl` that is missing or damaged, pictures without a
            caption, and captions without a picture.
    """

    def __init__(
        self,
        path: FilePath,
        max_gib: float = 1.0,
        background: Background | None = 1.0,
        jitter: Amounts | None = None,
    ) -> None:
        super().__init__(path, max_gib=max_gib, whole=True, background=background, jitter=jitter)
        said = read_captions(self.path / METADATA)
        if without := [name for name in self._names if not said.get(name)]:
            raise UserError(text("captions_missing", "{count} of the {all} pictures in {path} have no caption in "
                                 "{file}, the first is {first}: add them, or take these pictures out",
                                 count=len(without), all=len(self._names), path=path, file=METADATA,
                                 first=without[0]))  # fmt: skip
        if gone := sorted(said.keys() - {*self._names, *self.skipped}):
            raise UserError(text("captioned_gone", "{count} of the captions in {file} are of pictures that are not "
                                 "there, the first is {first}: add them, or take their lines out",
                                 count=len(gone), file=self.path / METADATA, first=gone[0]))  # fmt: skip
        self.captions = [said[name] for name in self._names]

    def whole_pictures(self, size: int, *, channels: int) -> Iterator[Tensor]:
        """All pictures in the order of ``captions``, each ``(1, channels, size, size)`` float32."""
        return (self._framed(index, size, channels) for index in range(len(self._names)))

    def fingerprint(self) -> str:
        """That of the folder, and the captions."""
        return f"{super().fingerprint()}-{self.captions}"


def read_captions(file: Path) -> dict[str, str]:
    """Captions by the names of the files that they are of, in the order of the lines.

    Raises:
        UserError: for a file that is missing, and a line that is no object with a ``file_name`` and a ``text``.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise UserError(text("no_captions", "{file} is missing or no text: captions lie there, a line "
                             '{{"file_name": "a.png", "text": "a red heart"}} for each picture',
                             file=file)) from None  # fmt: skip
    captions = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            said = json.loads(line)
            name, words = said["file_name"], said["text"].strip()
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            name = words = None
        if not isinstance(name, str) or not isinstance(words, str):
            raise UserError(text("caption_line", "line {number} of {file} is no caption: write "
                                 '{{"file_name": "a.png", "text": "a red heart"}}', number=number,
                                 file=file))  # fmt: skip
        captions[name] = words
    return captions


__all__ = ["Captioned", "Told", "is_told", "read_captions"]
