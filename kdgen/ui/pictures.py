"""Photographs to compare on: bundled ones, and those that a session uploaded, which it alone can name."""

import hashlib
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

from PIL import Image

from kdgen.types import UserError, text
from kdgen.ui.comparing import photographs
from kdgen.ui.job import owner_of
from kdgen.ui.limits import Limits
from kdgen.ui.uploads import open_picture

FIRST = "chelsea"
OWN = re.compile(r"own:([0-9a-f]{16})")
KEPT = 8
KEPT_SECONDS = 86_400.0


class Pictures:
    """Pictures by name. Uploaded ones lie in a folder of their session, the last few of them, for a day.

    Args:
        limits: bounds, and the folder.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self.folder = limits, limits.folder / "pictures"
        self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, path: str, session: str) -> str:
        """Keep an uploaded picture. Returns its name; raises UserError for what is no picture, or has no session."""
        image = open_picture(path, self.limits)
        name = hashlib.sha256(image.tobytes()).hexdigest()[:16]
        place = self.folder / owner_of(session)
        place.mkdir(exist_ok=True)
        image.save(place / f"{name}.png", compress_level=1)
        for old in sorted(place.iterdir(), key=_changed)[:-KEPT]:
            old.unlink(missing_ok=True)
        self.sweep()
        return f"own:{name}"

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
        """Remove what was uploaded more than a day ago."""
        for place in self.folder.iterdir():
            with suppress(OSError):
                if time.time() - _changed(place) > KEPT_SECONDS:
                    shutil.rmtree(place)


def _changed(path: Path) -> float:
    return path.stat().st_mtime
