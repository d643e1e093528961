"""What models are for, as the page lists it, whether there are presets for that or not."""

from pathlib import Path

import kdgen.training.registered  # noqa: F401
from kdgen import registry
from kdgen.models.task_arguments import task_class
from kdgen.ui.words import ENGLISH

CARDS = Path(__file__).parent / "cards"

CLASSES = [task_class({"name": name}) for name in registry.having("task")]

SHELVES = {
    kind: [task for task in CLASSES if task.group == kind]
    for kind in (word.removeprefix("kind_") for word in ENGLISH if word.startswith("kind_"))
}
"""Kinds of work, and the tasks that belong to each."""


def shelf_of(task: str) -> str:
    """The kind that a task belongs to; the first for one of no kind."""
    group = task_class({"name": task}).group
    return group if group in SHELVES else next(iter(SHELVES))


def card(kind: str) -> Path:
    """The picture of a kind; that of diffusion, which all others draw by, for one that has none of its own."""
    own = CARDS / f"{kind}.webp"
    return own if own.is_file() else CARDS / "diffusion.webp"


__all__ = ["CLASSES", "SHELVES", "card", "shelf_of"]
