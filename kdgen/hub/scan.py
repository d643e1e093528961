"""What a published file must be: of a kind that is listed, without tokens, keys and paths of the user's home."""

import json
import os
import re
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors import SafetensorError, safe_open

from kdgen.types import Text, text

PICTURES = (".png", ".jpg", ".webp")
TEXTS = (".css", ".js", ".json", ".jsonl", ".md", ".py", ".toml", ".txt", ".typed", "LICENSE")
KINDS = (".safetensors", *PICTURES, *TEXTS)
"""Suffixes, and names without one, of all files that may be sent."""

SECRET = re.compile(
    r"hf_\w{16,}|api_org_\w{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|AKIA[0-9A-Z]{16}|"
    r"\bsk-[\w-]{20,}|xox[abprs]-[\w-]{10,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|eyJ[\w-]{15,}\.eyJ[\w-]{15,}\."
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


def outside(path: Path, folder: Path) -> bool:
    """Whether a path in a folder is, or lies under, a symbolic link out of it."""
    return folder.resolve() not in path.resolve().parents


def objection(path: Path) -> Text | None:
    """Why a file must not be sent, None if it may."""
    if (path.suffix.lower() or path.name) not in KINDS:
        return text("no_published_kind", "is of no kind that is published")
    try:
        words = _text(path)
    except (OSError, SyntaxError, ValueError, SafetensorError):
        return text("not_as_named", "is damaged, or not what its name says")
    if SECRET.search(words):
        return text("holds_secret", "holds what looks like a token or a key")
    home = os.path.expanduser("~")
    for form in (home, json.dumps(home)[1:-1]):
        if len(form) > 1 and re.search(rf"(?<!\w){re.escape(form)}(?![\w-])", words):
            return text("holds_home", "holds the path of a home folder, {home}", home=home)
    return None


def _text(path: Path) -> str:
    """The words in a file: of weights and pictures, what their header holds beside the data.

    Raises:
        OSError, SyntaxError, ValueError, SafetensorError: for a file that is none of its kind.
    """
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        with safe_open(path, "pt") as weights:
            return str(weights.metadata())
    if suffix in PICTURES:
        with Image.open(path) as image:
            return str(image.info)
    return path.read_text(encoding="utf-8")


def without_paths(text: str) -> tuple[str, list[str]]:
    """A text, or JSON, with the last part of every absolute path in the path's place; and those paths."""
    paths: list[str] = []

    def last_part(path: str) -> str:
        paths.append(path)
        return re.split(r"[/\\]+", path.rstrip("/\\"))[-1]

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {cut(key): cut(item) for key, item in value.items()}
        if isinstance(value, list):
            return [cut(item) for item in value]
        if not isinstance(value, str):
            return value
        return last_part(value) if WHOLE_PATH.fullmatch(value) else PATH.sub(lambda match: last_part(match[0]), value)

    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return PATH.sub(lambda match: last_part(match[0]), text), paths
    clean = cut(data)
    return (json.dumps(clean, indent=2, ensure_ascii=False) + "\n" if paths else text), paths
