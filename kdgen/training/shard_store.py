"""Rows of tensors in a folder, as shards: safetensors files that are there whole or not at all."""

import errno
import os
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from kdgen.types import Text, UserError, text
from kdgen.utils.cache import Hold, make_room

SUFFIX = ".safetensors"


class ShardStore:
    """Columns of tensors by name. A shard holds some successive rows of all columns; its name is their range.

    Args:
        folder: of the shards; its neighbours make room for it, except those in use.
        num_rows: of all shards together, once they are written.
        max_bytes: what the folder and its neighbours may take together.
    """

    def __init__(self, folder: Path, num_rows: int, max_bytes: int) -> None:
        self.folder, self.num_rows, self.max_bytes = folder, num_rows, max_bytes
        self._shards: list[dict[str, Tensor]] = []
        self._starts: list[int] = []
        self._verified: set[Path] = set()
        self._hold: Hold | None = None

    @property
    def missing(self) -> list[range]:
        """The rows that are not on disk, in order."""
        gaps, start = [], 0
        for path in self._paths():
            rows = _rows(path)
            gaps.append(range(start, rows.start))
            start = rows.stop
        return [gap for gap in (*gaps, range(start, self.num_rows)) if gap]

    @property
    def filled(self) -> int:
        """How many rows are on disk before the first that is not."""
        return self.missing[0].start if self.missing else self.num_rows

    @property
    def damaged(self) -> list[Path]:
        """The shards that cannot be read, or do not have their checksums; each is read once."""
        self._verified |= {path for path in self._paths() if path not in self._verified and _is_sound(path)}
        return [path for path in self._paths() if path not in self._verified]

    def remove_damaged(self) -> None:
        """Remove the shards that are damaged, and no other."""
        for path in self.damaged:
            path.unlink(missing_ok=True)

    def hold(self) -> None:
        """Keep the folder from making room for others, from now on, whether it exists already or not."""
        self._hold = self._hold or Hold(self.folder)

    def close(self) -> None:
        """Let others make room of the folder."""
        self._shards = []
        if self._hold is not None:
            self._hold.close()
        self._hold = None

    def touch(self) -> None:
        """Count as used now."""
        os.utime(self.folder)

    def write(self, start: int, columns: Mapping[str, Tensor]) -> None:
        """Write a shard.

        Args:
            start: number of its first row.
            columns: its rows, ``(B, ...)`` each.

        Raises:
            UserError: if all rows would take more than ``max_bytes``, for a full disk, and for a folder that vanished.
        """
        count = len(next(iter(columns.values())))
        num_bytes = sum(column.nbytes for column in columns.values())
        if (total := num_bytes * self.num_rows // count) > self.max_bytes:
            fit, bound = self.num_rows * self.max_bytes // total, self.max_bytes / 2**30
            raise UserError(text("cache_too_large", "the cache would take {gib:.1f} GiB and cache.max_gib is "
                                 "{bound:g}: {fit} inputs would fit, or 0 asks the teacher at every step",
                                 gib=total / 2 ** 30, bound=bound, fit=str(fit)))  # fmt: skip
        path, partial = self.folder / f"{start:08}-{start + count:08}{SUFFIX}", self.folder.with_suffix(".partial")
        with self._disk_errors(partial):
            make_room(self.folder.parent, self.max_bytes - num_bytes)
            contiguous = {name: column.contiguous() for name, column in columns.items()}
            partial.write_bytes(save(contiguous, metadata={"checksum": _checksum(contiguous)}))
            os.replace(partial, path)
        self._verified.add(path)
        self._shards = []

    def read(self, index: Tensor) -> dict[str, Tensor]:
        """Rows by their numbers ``(B,)``, each column as it was written. Raises UserError for shards that vanished."""
        if not self._shards:
            self._open()
        shards = ((bisect_right(self._starts, number) - 1, number) for number in index.tolist())
        rows = [(self._shards[shard], number - self._starts[shard]) for shard, number in shards]
        return {name: torch.stack([columns[name][row] for columns, row in rows]) for name in self._shards[0]}

    def _open(self) -> None:
        self.hold()
        paths = self._paths()
        try:
            self._shards = [load_file(path) for path in paths]
        except FileNotFoundError:
            self._shards = []
        if not self._shards:
            raise UserError(text("cache_vanished", "{answers} vanished: {remedy}", answers=self._answers,
                                 remedy=self._remedy))  # fmt: skip
        self._starts = [_rows(path).start for path in paths]

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}"))

    @contextmanager
    def _disk_errors(self, partial: Path) -> Iterator[None]:
        """Errors of the disk become one line, and what was not written whole is removed."""
        try:
            yield
        except OSError as error:
            partial.unlink(missing_ok=True)
            if isinstance(error, FileNotFoundError):
                raise UserError(text("cache_vanished_writing", "{answers} vanished while they were written: {remedy}",
                                     answers=self._answers, remedy=self._remedy)) from None  # fmt: skip
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(text("cache_disk", "the disk of {folder} has no room for the cache: free space, choose "
                                 "another place with --set cache.dir=DIR, or ask fewer answers with --set "
                                 "cache.inputs=N", folder=self.folder.parent)) from None  # fmt: skip

    @property
    def _answers(self) -> Text:
        return text("cached_answers", "the cached answers in {folder}", folder=self.folder)

    @property
    def _remedy(self) -> Text:
        return text("keep_answers", "let nothing clear that folder, or choose another with --set cache.dir=DIR, and "
                    "`kdgen resume` asks anew")  # fmt: skip


def _rows(path: Path) -> range:
    """The rows of a shard, as its name has them."""
    start, stop = path.stem.split("-")
    return range(int(start), int(stop))


def _checksum(columns: Mapping[str, Tensor]) -> str:
    """CRC-32 of contiguous columns: names, dtypes, shapes and content."""
    crc = 0
    for name, column in sorted(columns.items()):
        crc = zlib.crc32(f"{name} {column.dtype} {tuple(column.shape)}".encode(), crc)
        crc = zlib.crc32(column.flatten().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def _is_sound(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt") as shard:
            columns = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118, it is no mapping
            return (shard.metadata() or {}).get("checksum") == _checksum(columns)
    except (OSError, SafetensorError):
        return False


__all__ = ["ShardStore"]
