"""Photographs to compare on: bundled ones, and those that a session uploaded, which it alone can name."""

import hashlib
import re
import secrets
import shutil
import threading
import time
from contextlib import suppress
from pathlib import Path

from PIL import Image

from kdgen.types import UserError, text
from kdgen.ui import disk
from kdgen.ui.comparing import photographs
from kdgen.ui.job import owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.runs import SERVED
from kdgen.ui.uploads import open_picture

FIRST = "chelsea"
OWN = re.compile(r"own:([0-9a-f]{16})")
KEPT = 8
KEPT_SECONDS, ORIGINAL_SECONDS = 86_400.0, 3600.0
ORIGINAL = ".original"
"""How the names of files end that are as they came."""


class Pictures:
    """Pictures by name. Uploaded ones lie in a folder of their session, the last few of them, for a day.

    Args:
        limits: bounds, and the folder.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self.folder = limits, limits.folder / "pictures"
        self.folder.mkdir(parents=True, exist_ok=True)
        self._lock, self._rooms = threading.Lock(), dict[str, Path]()

    def add(self, path: str, session: str) -> str:
        """Keep an uploaded picture. Returns its name; raises UserError for what is no picture, or has no session."""
        image = open_picture(path, self.limits)
        name = hashlib.sha256(image.tobytes()).hexdigest()[:16]
        place = self.folder / owner_of(session)
        place.mkdir(exist_ok=True)
        for old in place.glob(f"*{ORIGINAL}"):
            old.unlink(missing_ok=True)
        image.save(place / f"{name}.png", compress_level=1)
        for old in sorted(place.iterdir(), key=_changed)[:-KEPT]:
            old.unlink(missing_ok=True)
        self.sweep()
        if disk.size_of(self.folder) < self.limits.uploads_bytes:
            shutil.copyfile(path, place / f"{name}{ORIGINAL}")
        return f"own:{name}"

    def original(self, name: object, session: str) -> Image.Image | Path:
        """A picture as large as it came: a bundled one, or the file that this session uploaded last.

        Raises:
            UserError: for a name that this session has not, and where only the shrunk picture is left.
        """
        shrunk = self.get(name, session)
        own = OWN.fullmatch(name) if isinstance(name, str) else None
        if own is None:
            return shrunk
        file = self.folder / owner_of(session) / f"{own[1]}{ORIGINAL}"
        if not file.is_file():
            raise UserError(text("original_gone", "the full-size picture is kept for an hour, and of several the last: "
                                 "upload it again"))  # fmt: skip
        return file

    def room(self, session: str) -> Path:
        """An empty folder of a name that nobody guesses, of which the page may send files, for an hour.

        Raises:
            UserError: where too much lies in such folders.
        """
        owner, parent = owner_of(session), self.limits.folder.resolve() / SERVED / "full"
        with self._lock:
            shutil.rmtree(self._rooms.pop(owner, parent / "none"), ignore_errors=True)
            for place in parent.glob("*"):
                if time.time() - _changed(place) > ORIGINAL_SECONDS:
                    shutil.rmtree(place, ignore_errors=True)
            if parent.is_dir() and disk.size_of(parent) > self.limits.uploads_bytes:
                raise UserError(text("downloads_busy", "many others are downloading at the moment: come back in an "
                                     "hour"))  # fmt: skip
            place = parent / secrets.token_hex(16)
            place.mkdir(parents=True)
            self._rooms[owner] = place
        return place

    def get(self, name: object, session: str) -> Image.Image:
        """A picture, no larger than is worked on. Raises UserError for a name that this session has not."""
        bundled = photographs()
        if isinstance(name, str) and name in bundled:
            return bundled[name]
        if isinstance(name, str) and (own := OWN.fullmatch(name)):
            with suppress(FileNotFoundError):
                return open_picture(self.folder / owner_of(session) / f"{own[1]}.png", self.limits)
        raise UserError(text("no_such_picture", "there is no such picture of yours: choose {names:, }, or upload one "
                             "again",
                             names=list(bundled)))  # fmt: skip

    def sweep(self) -> None:
        """Remove what was uploaded more than a day ago, and files as they came after an hour."""
        for file in self.folder.glob(f"*/*{ORIGINAL}"):
            with suppress(OSError):
                if time.time() - _changed(file) > ORIGINAL_SECONDS:
                    file.unlink()
        for place in self.folder.iterdir():
            with suppress(OSError):
                if time.time() - _changed(place) > KEPT_SECONDS:
                    shutil.rmtree(place)


def _changed(path: Path) -> float:
    return path.stat().st_mtime
