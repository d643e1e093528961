"""How much lies in a folder, while others write and remove there."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from kdgen.types import text

ROOM = 2**28
"""Bytes of the disk that are left free."""

FULL = text("no_disk", "the disk of this machine is full: come back in a while, or delete some of your runs")


def sizes(folder: Path) -> list[int]:
    """Bytes of each file in a folder and in those within."""
    found = []
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                found.append(os.lstat(os.path.join(place, name)).st_size)
    return found


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(sizes(folder))


def full(folder: Path, most: int = 0) -> bool:
    """Whether the disk that a folder lies on has no room for so many bytes."""
    return shutil.disk_usage(folder).free < ROOM + most
