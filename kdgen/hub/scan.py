"""What must never be sent: tokens, pickles, paths and names of the machine, links that lead elsewhere."""

import getpass
import json
import mmap
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from huggingface_hub import get_token
from PIL import Image

TOKEN = re.compile(
    rb"hf_\w{16,}|api_org_\w{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|"
    rb"\bsk-[\w-]{20,}|xox[abprs]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|eyJ[\w-]{15,}\.eyJ[\w-]{15,}\."
)
"""Tokens and keys of the services that people use beside one another."""

PATH = re.compile(
    r"file://\S+|(?<![\w.:/~<>)\]}-])/(?:[\w.@+~-]+/)+[\w.@+~-]*|"
    r"(?<![\w.:/~<>)\]}-])/(?:home|root|tmp|Users|mnt|var|work|workspace|data|opt|srv)\b(?!/)|"
    r"(?<![\w/])[A-Za-z]:\\{1,2}[\w.@+~-]+(?:\\{1,2}[\w.@+~-]+)*"
)
"""Absolute paths of Unix and of Windows."""

PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy", ".npz")
COMMON = {"root", "user", "admin", "ubuntu", "runner", "jovyan", "home", "app", "data", "docker", "node", "python"}
"""Names of users that say nothing of anybody."""

TEXT = (".json", ".md", ".txt", ".yaml", ".yml", ".toml", ".py", ".css", ".html", ".js")


def outside(path: Path, folder: Path) -> bool:
    """Whether a path in a folder is, or lies under, a symbolic link out of it."""
    return folder.resolve() not in path.resolve().parents


def objection(path: Path, *, private: bool = True, allowed: str = "") -> str | None:
    """Why a file must not be sent, None if it may.

    Args:
        path: the file.
        private: whether paths and names of this machine are an objection too.
        allowed: ids of repositories, whose parts are no names of users.
    """
    try:
        return _objection(path, private=private, allowed=set(re.split(r"[/\s]", allowed)))
    except OSError as error:
        return f"cannot be read: {error.strerror or 'it is damaged'}"


def _objection(path: Path, *, private: bool, allowed: set[str]) -> str | None:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            pickled = data[:2] in PICKLE or (data[:2] == b"PK" and data.find(b"data.pkl") > 0)
            if pickled or path.suffix.lower() in SUFFIXES:
                return "is a pickle or an archive of one, which may run code"
            if TOKEN.search(data) or ((own := get_token()) and data.find(own.encode()) >= 0):
                return "holds what looks like a token or a key"
    return next((why for text in _texts(path) if (why := _private(text, allowed))), None) if private else None


def without_paths(text: str) -> tuple[str, list[str]]:
    """A text with the last part of every absolute path in the path's place, and those paths."""
    found: list[str] = []

    def shorten(match: re.Match[str]) -> str:
        found.append(match[0])
        return re.split(r"[/\\]+", match[0].rstrip("/\\"))[-1]

    return PATH.sub(shorten, text), found


def _private(text: str, allowed: set[str]) -> str | None:
    if path := PATH.search(text):
        return f"holds an absolute path, {path[0]}"
    for name in _names():
        if name not in allowed and re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text):
            return f"holds the name of a user, {name}"
    return None


def _names() -> Iterator[str]:
    """What the users of this machine are called, where that tells anybody from anybody."""
    names = {Path.home().name, os.environ.get("USER", ""), os.environ.get("LOGNAME", "")}
    with suppress(KeyError, OSError):
        names.add(getpass.getuser())
    return (name for name in sorted(names) if len(name) >= 3 and name.lower() not in COMMON)


def _texts(path: Path) -> Iterator[str]:
    """The words in a file: its text, the header of safetensors, the notes in a picture."""
    suffix = path.suffix.lower()
    if suffix in TEXT:
        yield path.read_text(encoding="utf-8", errors="replace")
    elif suffix == ".safetensors":
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(min(length, 10**7)).decode("utf-8", errors="replace")
        yield header
    elif suffix in (".png", ".jpg", ".jpeg", ".webp"):
        with Image.open(path) as image:
            yield json.dumps({str(key): str(value)[:10000] for key, value in image.info.items()})
