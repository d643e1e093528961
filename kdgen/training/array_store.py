"""Arrays of a fixed number of rows in a folder: written from the first on, checked, and kept while they are used."""

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdgen.types import UserError
from kdgen.utils.cache import Hold, checksums, make_room


class ArrayStore:
    """Columns of tensors by name, each an array of its own, memory-mapped.

    Args:
        folder: where they lie; its neighbours make room for it, those aside that are in use.
        rows: how many there will be.
        max_bytes: what the folder and its neighbours may take together.
    """

    def __init__(self, folder: Path, rows: int, max_bytes: int) -> None:
        self.folder, self.rows, self.max_bytes = folder, rows, max_bytes
        self._columns: dict[str, Tensor] = {}
        self._hold: Hold | None = None
        self._checked = False

    @property
    def filled(self) -> int:
        """How many rows are written."""
        try:
            return int((self.folder / "filled").read_text())
        except (OSError, ValueError):
            return 0

    @property
    def sound(self) -> bool:
        """Whether files can be opened, and those of a whole shelf have the checksums that were noted for them."""
        try:
            seen = checksums(self.folder) if not self._checked else {}
            noted, whole = self.folder / "sums.json", self.filled >= self.rows
            self._checked = self._checked or (whole and seen == json.loads(noted.read_text()))
            return self._checked or not whole
        except (OSError, ValueError):
            return False

    def hold(self) -> None:
        """Keep the folder from making room for others, from now on, whether it is there already or not."""
        self._hold = self._hold or Hold(self.folder)

    def close(self) -> None:
        """Let go of it."""
        self._columns = {}
        if self._hold is not None:
            self._hold.close()
        self._hold = None

    def clear(self) -> None:
        """Remove what is there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def touch(self) -> None:
        """Count as used now."""
        os.utime(self.folder)

    def open(self, columns: Mapping[str, Tensor]) -> dict[str, "np.memmap[Any, Any]"]:
        """The arrays to write into, made with all of their space where they are not there.

        Args:
            columns: the first rows of each, in the dtype that it is kept in.

        Raises:
            UserError: for more than ``max_bytes``, and for a full disk.
        """
        shapes = {name: (self.rows, *value.shape[1:]) for name, value in columns.items()}
        dtypes = {name: torch.empty(0, dtype=value.dtype).numpy().dtype for name, value in columns.items()}
        size = sum(dtypes[name].itemsize * int(np.prod(shape)) for name, shape in shapes.items())
        if size > self.max_bytes:
            fit, bound = self.rows * self.max_bytes // size, self.max_bytes / 2**30
            raise UserError(f"the cache would take {size / 2**30:.1f} GiB and cache.max_gib is {bound:g}: "
                            f"{fit} inputs would fit, or 0 asks the teacher at every step")  # fmt: skip
        with self._writing():
            if not self.folder.is_dir():
                make_room(self.folder.parent, self.max_bytes - size)
                self._reserve(shapes, dtypes)
            return {name: np.load(self.folder / f"{name}.npy", mmap_mode="r+") for name in shapes}

    def _reserve(self, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, np.dtype[Any]]) -> None:
        """Make the files with all of their space taken, or none: a full disk shows here and not in mid-write."""
        partial = self.folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            for name, shape in shapes.items():
                path = partial / f"{name}.npy"
                np.lib.format.open_memmap(path, "w+", dtypes[name], shape).flush()
                with path.open("r+b") as file:
                    if hasattr(os, "posix_fallocate"):
                        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            os.replace(partial, self.folder)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def note(self, arrays: "Mapping[str, np.memmap[Any, Any]]", filled: int) -> None:
        """Bring to the disk that so many rows are written. Raises UserError for a full disk and files that vanished."""
        with self._writing():
            for array in arrays.values():
                array.flush()
            if filled == self.rows:
                (self.folder / "sums.json").write_text(json.dumps(checksums(self.folder)))
            (self.folder / "filled").write_text(str(filled))

    def read(self, index: Tensor) -> dict[str, Tensor]:
        """Rows by their numbers ``(B,)``, each column as it is kept. Raises UserError for files that vanished."""
        if not self._columns:
            self.hold()
            files = list(self.folder.glob("*.npy"))
            try:
                self._columns = {file.stem: torch.from_numpy(np.load(file, mmap_mode="r+")) for file in files}
            except FileNotFoundError:
                self._columns = {}
            if not self._columns:
                raise UserError(f"{self._answers} vanished: {self._remedy}")
        return {name: column[index] for name, column in self._columns.items()}

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Errors of the disk become one line."""
        try:
            yield
        except FileNotFoundError:
            raise UserError(f"{self._answers} vanished while they were written: {self._remedy}") from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise UserError(
                f"the disk of {self.folder.parent} has no room for the cache: free space, choose another place with "
                "--set cache.dir=DIR, or ask fewer answers with --set cache.inputs=N"
            ) from None

    @property
    def _answers(self) -> str:
        return f"the cached answers in {self.folder}"

    @property
    def _remedy(self) -> str:
        return "let nothing clear that folder, or choose another with --set cache.dir=DIR, and `kdgen resume` asks anew"


__all__ = ["ArrayStore"]
