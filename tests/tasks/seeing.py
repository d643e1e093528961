"""What tests of views share. The pictures are those of the fixture ``colours``."""

from pathlib import Path
from typing import Any

from kdgen import registry
from kdgen.registry import Spec
from kdgen.tasks import Views

DARK = {"name": "dark", "args": {"gain": 0.3, "gamma": 1, "noise": 4}}
HOLES = {"name": "mask", "args": {"share": 0.2, "shape": "boxes"}}


def exposed(count: int) -> dict[str, Any]:
    """So many exposures of a picture."""
    return {"name": "exposures", "args": {"gains": [1.0] * count, "noise": 20}}


def classes(colours: Path, **views: Any) -> dict[str, Any]:
    images = {"name": "folder", "args": {"path": str(colours), "jitter": {"shift": 0.1}}}
    return {"task": {"name": "classify", "args": {"images": images, "patch": 16, "num_images": 60}}, **views}


def restored(colours: Path, **views: Any) -> dict[str, Any]:
    images = {"name": "folder", "args": {"path": str(colours)}}
    args = {"damages": [{"name": "noise", "args": {"sigma": 5}}], "patch": 16, "images": images, "evaluate": images}
    return {"task": {"name": "restore", "args": args}, **views}


def task_of(described: dict[str, Any]) -> Views:
    task: Views = registry.build("task", Spec(name="views", args=described))
    return task
