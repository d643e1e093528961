"""What visitors may ask of the machine: from environment variables, with defaults that are safe in public."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from kdgen.types import UserError

PREFIX = "KDGEN_APP_"


STORAGE = Path("/data")
"""Where a Space's persistent storage is mounted."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on runs, uploads and disk. Each comes from ``KDGEN_APP_`` and its name in capitals.

    Attributes:
        folder: where runs, served files and cached answers are kept; by default the persistent storage of a Space that
            has some, else `runs/app`.
        at_once: runs that train at the same time.
        in_line: runs that may wait.
        per_session: runs of one session that train or wait.
        seconds: longest training, in seconds.
        steps: longest training, in steps.
        wall_seconds: longest time of a whole run with its controls and report, in seconds.
        slice_seconds: longest time in which a run holds a lent accelerator before it must ask again.
        pixels: pixels that a picture is worked on at; larger ones are shrunk to fit.
        full_pixels: pixels that a picture is restored at for download; larger ones are shrunk to fit.
        upload_pixels: pixels of an uploaded picture.
        upload_side: height and width of an uploaded picture.
        upload_bytes: bytes of an uploaded picture.
        teacher_bytes: bytes of a teacher that a visitor brings, unpacked too.
        own_bytes: bytes of what a session brought, above which it brings no more for an hour.
        pictures: pictures of their own that visitors may train on.
        trusted: whether visitors may name files of this machine as models: on the owner's own machine alone.
        uploads_bytes: bytes of all uploaded files together, each of which is kept for an hour.
        text_bytes: bytes of a recipe.
        download_bytes: bytes of the files of all models of the Hub that a run names, and of each in a comparison.
        memory_bytes: memory of a run; 0 sets no bound.
        disk_bytes: bytes of all runs together; the oldest go first.
        keep_hours: hours for which a finished run is kept.
        request_seconds: longest time for which models are asked for one answer of the page.
        request_bytes: memory of the process that asks them.
        images: images that are drawn for one comparison.
        num_steps: steps in which images are drawn.
        models: models of one comparison.
    """

    folder: Path = Path("runs/app")
    at_once: int = 1
    in_line: int = 40
    per_session: int = 3
    seconds: int = 600
    steps: int = 20_000
    wall_seconds: int = 3600
    slice_seconds: int = 60
    pixels: int = 512 * 512
    full_pixels: int = 8_000_000
    upload_pixels: int = 40_000_000
    upload_side: int = 10_000
    upload_bytes: int = 20_000_000
    teacher_bytes: int = 200_000_000
    own_bytes: int = 400_000_000
    pictures: int = 200
    trusted: bool = False
    uploads_bytes: int = 2 * 10**9
    text_bytes: int = 64_000
    download_bytes: int = 2_000_000_000
    memory_bytes: int = 8 * 2**30
    disk_bytes: int = 5 * 2**30
    keep_hours: int = 72
    request_seconds: int = 120
    request_bytes: int = 6 * 2**30
    images: int = 64
    num_steps: int = 100
    models: int = 6

    @property
    def lasting(self) -> bool:
        """Whether what is kept here outlives a restart."""
        return not on_a_space() or self.folder.resolve().is_relative_to(STORAGE)

    @classmethod
    def read(cls) -> Self:
        """The limits of this environment.

        Raises:
            UserError: for a variable that is no number, and for a Space that trusts everybody.
        """
        values: dict[str, Path | int | bool] = {"folder": STORAGE / "kdgen"} if storage() else {}
        for field in fields(cls):
            name = PREFIX + field.name.upper()
            text = os.environ.get(name, "").strip()
            if not text:
                continue
            if field.name == "folder":
                values[field.name] = Path(text)
            elif field.type is bool or field.type == "bool":
                values[field.name] = switched_on(field.name.upper())
            elif text.isdecimal():
                values[field.name] = int(text)
            else:
                raise UserError(f"{name} is a whole number, not {text!r}")
        if values.get("trusted") and on_a_space():
            raise UserError(f"{PREFIX}TRUSTED lets everybody who opens the page name files of this machine: a Space "
                            "is open to all, leave it out")  # fmt: skip
        return cls(**values)  # type: ignore[arg-type]


def storage() -> bool:
    """Whether this is a Space with persistent storage."""
    return on_a_space() and STORAGE.is_dir() and os.access(STORAGE, os.W_OK)


def on_a_space() -> bool:
    """Whether this is a Space of the Hub, whose own disk is wiped at every restart."""
    return bool(os.environ.get("SPACE_ID"))


def switched_on(name: str) -> bool:
    """Whether an environment variable ``KDGEN_APP_NAME`` says yes."""
    return os.environ.get(PREFIX + name, "").strip().lower() in ("1", "true", "yes", "on")
