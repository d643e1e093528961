"""What must never be sent: tokens, pickles, paths and names of the machine, links that lead elsewhere."""

import getpass
import json
import mmap
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

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
"""Absolute paths of Unix and of Windows within a text."""

WHOLE_PATH = re.compile(r"/.*/.*|[A-Za-z]:[\\/].*|\\\\.*", re.DOTALL)
"""A text that is an absolute path from end to end, spaces included."""

PACKAGE = Path(__file__).resolve().parents[1]

PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".joblib", ".npy", ".npz")
COMMON = {"root", "user", "admin", "ubuntu", "runner", "jovyan", "home", "app", "data", "docker", "node", "python"}
"""Names of users that say nothing of anybody."""

TEXT = (".json", ".md", ".txt", ".yaml", ".yml", ".toml", ".py", ".css", ".html", ".js")


def outside(path: Path, folder: Path) -> bool:
    """Whether a path in a folder is, or lies under, a symbolic link out of it."""
    return folder.resolve() not in path.resolve().parents


def objection(path: Path, *, private: bool = True, named: Collection[str] = ()) -> str | None:
    """Why a file must not be sent, None if it may.

    Args:
        path: the file.
        private: whether paths and names of this machine are an objection too.
        named: ids of repositories, whose parts are no names of users.
    """
    try:
        return _objection(path, private=private, allowed={part for id in named for part in id.split("/")})
    except OSError as error:
        return f"cannot be read: {error.strerror or 'it is damaged'}"


def _objection(path: Path, *, private: bool, allowed: set[str]) -> str | None:
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            if path.suffix.lower() in SUFFIXES or _pickled(data, path):
                return "is a pickle or an archive of one, which may run code"
            if TOKEN.search(data) or ((own := get_token()) and data.find(own.encode()) >= 0):
                return "holds what looks like a token or a key"
    return next((why for text in _texts(path) if (why := _private(text, allowed))), None) if private else None


def _pickled(data: mmap.mmap, path: Path) -> bool:
    """Whether a file begins as pickles do. So does a safetensors file whose header has 640 bytes, but for the brace."""
    if path.suffix.lower() == ".safetensors" and data[8:9] == b"{":
        return False
    return data[:2] in PICKLE or (data[:2] == b"PK" and data.find(b"data.pkl") > 0)


def without_paths(text: str) -> tuple[str, list[str]]:
    """A text, or JSON, with the last part of every absolute path in the path's place; and those paths."""
    found: list[str] = []

    def last_part(path: str) -> str:
        found.append(path)
        return re.split(r"[/\\]+", path.rstrip("/\\"))[-1]

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {cut(key): cut(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [cut(inner) for inner in value]
        if not isinstance(value, str):
            return value
        return last_part(value) if WHOLE_PATH.fullmatch(value) else PATH.sub(lambda match: last_part(match[0]), value)

    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return PATH.sub(lambda match: last_part(match[0]), text), found
    clean = cut(data)
    return (json.dumps(clean, indent=2, ensure_ascii=False) + "\n" if found else text), found


def _private(text: str, allowed: set[str]) -> str | None:
    if path := PATH.search(text):
        return f"holds an absolute path, {path[0]}"
    for name in _names():
        if name not in allowed and _says(text, name) and not _is_ordinary(name):
            return f"holds the name of a user, {name}"
    return None


def _says(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


@cache
def _is_ordinary(name: str) -> bool:
    """Whether kdgen's own code says the name, as an English word: somebody called May publishes too."""
    return any(_says(path.read_text(encoding="utf-8"), name) for path in PACKAGE.rglob("*.py"))


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
        text = path.read_text(encoding="utf-8", errors="replace")
        yield text
        if suffix == ".json":
            with suppress(ValueError, RecursionError):
                yield json.dumps(json.loads(text), ensure_ascii=False)
    elif suffix == ".safetensors":
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(min(length, 10**7)).decode("utf-8", errors="replace")
        yield header
    elif suffix in (".png", ".jpg", ".jpeg", ".webp"):
        with Image.open(path) as image:
            yield json.dumps({str(key): str(value)[:10000] for key, value in image.info.items()})
