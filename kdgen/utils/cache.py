"""Where things are kept that can be made again, and arrays that are made once for all runs."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from filelock import FileLock

from kdgen.types import Net, UserError, text

Array = np.ndarray[tuple[int, ...], np.dtype[Any]]


def cache_folder(what: str, root: str | None = None) -> Path:
    """The folder for one kind of thing, under ``root``, else `$KDGEN_CACHE`, else `~/.cache/kdgen`."""
    return Path(root or os.environ.get("KDGEN_CACHE") or Path.home() / ".cache" / "kdgen") / what


def short_hash(key: str) -> str:
    """A name for what a key describes: the beginning of its hash."""
    return hashlib.sha256(key.encode()).hexdigest()[:24]


def kept_array(path: Path, make: Callable[[], Array], fits: Callable[[Array], bool]) -> Array:
    """An array from disk, or made and written there, whole or not at all, while other processes wait for it.

    Args:
        path: its `.npy` file.
        make: gives it anew.
        fits: whether the one on disk will do; a file that cannot be read never does.

    Raises:
        UserError: for a full disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            array = _read(path)
            if array is None or not fits(array):
                array = make()
                partial = path.with_suffix(".partial")
                with partial.open("wb") as file:
                    np.save(file, array)
                os.replace(partial, path)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UserError(text("images_disk", "the disk of {folder} has no room for the teacher's images: free space, "
                             "or set KDGEN_CACHE to another place", folder=path.parent)) from None  # fmt: skip
    return array


def fingerprint(net: Net) -> str:
    """A hash of the architecture and the weights of a net, by which what it says is known again.

    Weights without content, see ``kdgen.models.weightless``, count by their shapes.
    """
    return _hashed(net, hashlib.sha256(repr(net).encode()))


def weights_fingerprint(net: Net) -> str:
    """A hash of the weights of a net by name, which stays the same from one version of its library to another."""
    return _hashed(net, hashlib.sha256())


def _hashed(net: Net, digest: "hashlib._Hash") -> str:
    from torch._subclasses.fake_tensor import FakeTensor

    for key, value in sorted(net.state_dict().items()):
        digest.update(key.encode())
        if isinstance(value, FakeTensor):
            digest.update(repr(tuple(value.shape)).encode())
            continue
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


class Hold:
    """Keeps ``make_room`` from removing a folder, for as long as this or its process lives.

    The folder need not be there yet, and any number of processes may hold it.
    """

    def __init__(self, folder: Path) -> None:
        self._file = _lock_file(folder).open("a")
        fcntl.flock(self._file, fcntl.LOCK_SH)

    def close(self) -> None:
        """Hold it no longer."""
        self._file.close()


def make_room(folder: Path, bound: int) -> None:
    """Remove the folders in a folder that were used longest ago until the rest is within ``bound`` bytes.

    Those that a process holds stay, and count.
    """
    caches = [(_held(cache), *usage, cache) for cache in folder.iterdir() if (usage := _usage(cache)) is not None]
    total = 0
    for _, _, size, cache in sorted(caches, reverse=True):
        total += size
        if total > bound:
            _remove(cache)


def _lock_file(folder: Path) -> Path:
    return folder.with_suffix(".used")


def _usage(folder: Path) -> tuple[float, int] | None:
    """When a folder was used last, and its bytes; None for one that is none, or gone by now."""
    try:
        return folder.stat().st_mtime, sum(file.stat().st_size for file in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return None


def _held(folder: Path) -> bool:
    with _lock_file(folder).open("a") as file:
        return not _locked(file)


def _remove(folder: Path) -> None:
    """Remove a folder that nobody holds."""
    with _lock_file(folder).open("a") as file:
        if _locked(file):
            shutil.rmtree(folder, ignore_errors=True)


def _locked(file: TextIO) -> bool:
    """Whether this process got a file for itself; until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Array | None:
    try:
        array: Array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array
