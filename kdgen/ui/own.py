"""What visitors bring: teachers and pictures. Each is its session's alone, lies here for an hour, and goes with a run.

A run that names one has a copy of it in its home folder, where its caches are too, and all of it goes with the run.
"""

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from kdgen.types import Text, UserError, text
from kdgen.types.text import restored, with_texts
from kdgen.ui import disk
from kdgen.ui.job import owner_of
from kdgen.ui.limits import Limits
from kdgen.utils.convert import write_text

Kind = Literal["teacher", "pictures"]

NAME = re.compile(r"own:([0-9a-f]{16})")
"""How visitors name what they brought."""

WITHIN = re.compile(r"\./own/([0-9a-f]{16})(?:/checkpoint\.json|/[\w.-]+\.(?:safetensors|onnx))?")
"""How the recipe of a run names it."""

FOLDER, CACHE = "own", "cache"
ABOUT, DECLARATION = "about.json", "checkpoint.json"
KEPT_SECONDS = 3600.0
EACH = 6
"""What a session may have here at once, teachers and sets of pictures together."""

EVERYBODY = 10
"""How many times the bytes of one session all of them may have."""


@dataclass(frozen=True, slots=True)
class About:
    """What a visitor brought.

    Attributes:
        kind: what it is.
        name: what the visitor called it.
        task: what a teacher was made for, by name.
        count: parameters of a teacher, or how many pictures.
        notes: what is to be known of it, in lines.
    """

    kind: Kind
    name: str
    task: str = ""
    count: int = 0
    notes: tuple[Text, ...] = ()


class Own:
    """What all sessions brought.

    Args:
        limits: bounds, and the folder.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits, self.folder = limits, limits.folder / FOLDER
        self.folder.mkdir(parents=True, exist_ok=True)

    def begin(self, session: str) -> tuple[str, Path]:
        """A name, and an empty folder, which is thrown away unless ``finish`` is told of it.

        Raises:
            UserError: where the session has too much here, all of them together have, or the disk is full.
        """
        self.sweep()
        place = self.folder / owner_of(session)
        place.mkdir(exist_ok=True)
        most = self.limits.own_bytes
        if len(list(place.iterdir())) >= EACH or disk.size_of(place) > most:
            raise UserError(
                text("brought_much", "you have brought much already, and it is kept for an hour: come back then")
            )
        if disk.size_of(self.folder) > EVERYBODY * most or disk.full(self.folder, most):
            raise UserError(text("brought_full", "too much was brought here lately: come back in an hour"))
        name = secrets.token_hex(8)
        (place / name).mkdir(parents=True)  # a sweep may just have removed what was empty
        return f"own:{name}", place / name

    def finish(self, folder: Path, about: About | None) -> None:
        """Keep what lies in a folder that ``begin`` gave, or throw it away."""
        if about is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            write_text(folder / ABOUT, json.dumps(with_texts(asdict(about))))

    def listed(self, session: str, kind: Kind) -> dict[str, About]:
        """What a session brought, by name."""
        found = {}
        with suppress(UserError, OSError):
            for place in sorted((self.folder / owner_of(session)).iterdir()):
                about = about_of(place)
                if about is not None and about.kind == kind:
                    found[f"own:{place.name}"] = about
        return found

    def sweep(self) -> None:
        """Remove what lay here for an hour."""
        for place in self.folder.glob("*/*"):
            with suppress(OSError):
                if time.time() - place.stat().st_mtime > KEPT_SECONDS:
                    shutil.rmtree(place)
        for owner in self.folder.iterdir():
            with suppress(OSError):  # of an empty one alone
                owner.rmdir()


def find(reference: object, kind: Kind | None, places: Iterator[Path]) -> Path:
    """The folder of what a session brought.

    Args:
        reference: as visitors name it.
        kind: what it is to be; None for either.
        places: folders that are the session's, in which it may lie.

    Raises:
        UserError: for anything else.
    """
    match = NAME.fullmatch(reference) if isinstance(reference, str) else None
    for place in places if match else ():
        about = about_of(place / match[1]) if match else None
        if match and about is not None and kind in (None, about.kind):
            return place / match[1]
    raise UserError(
        text("brought_gone", "there is nothing of that name that you brought: it is kept for an hour, bring it again")
    )


def about_of(folder: Path) -> About | None:
    """What lies in a folder; None for nothing, or what was not finished."""
    try:
        data = restored(json.loads((folder / ABOUT).read_text(encoding="utf-8")))
        return About(**{**data, "notes": tuple(data["notes"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def within(folder: Path) -> str:
    """What the recipe of a run says in place of the folder of a teacher."""
    return f"./{FOLDER}/{entry(folder).relative_to(folder.parent)}"


def entry(folder: Path) -> Path:
    """What ``kdgen.load`` opens of a folder: a declaration, a file that nothing lies beside, or the folder itself."""
    if (folder / DECLARATION).is_file():
        return folder / DECLARATION
    beside = any((folder / name).is_file() for name in ("config.json", "model_index.json"))
    alone = [] if beside else [path for kind in ("safetensors", "onnx") for path in folder.glob(f"*.{kind}")]
    return next(iter(alone), folder)


def brought(recipe: str) -> list[str]:
    """The names of what the recipe of a run names, each once."""
    return [f"own:{name}" for name in dict.fromkeys(WITHIN.findall(recipe))]


def copy(folder: Path, home: Path) -> None:
    """Put what a visitor brought beside a run."""
    target = home / FOLDER / folder.name
    target.mkdir(parents=True)
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            (target / path.relative_to(folder)).mkdir(exist_ok=True)
        else:
            os.link(path, target / path.relative_to(folder))
