"""Pictures with all that a privileged teacher may know of them, and recipes of students that do not."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import kdgen
from kdgen import registry
from kdgen.recipe import parse
from kdgen.registry import Spec
from kdgen.report.compare import Report
from kdgen.tasks import Views

SIZE, EACH = 16, 12
CLASSES = ("cold", "hot")
PHOTOGRAPH, WITH_MAP = [{"name": "channels"}], [{"name": "channels", "args": {"keep": [0, 1, 2, 3]}}]
NET = {"name": "feature_net", "args": {"width": 4}}


def one_exposure(count: int = 1) -> list[dict[str, Any]]:
    return [{"name": "exposures", "args": {"gains": [1.0] * count, "noise": 60}}]


def pictured(path: Path) -> Path:
    """Photographs of patches, warm or cold in colour, with maps of how hot they are and what each says in numbers."""
    random = np.random.default_rng(0)
    words: dict[str, Any] = {}
    for number, name in enumerate(CLASSES):
        for part in ("colour", "heat", "labels"):
            (path / part / name).mkdir(parents=True)
        for index in range(EACH):
            heat = np.full((SIZE, SIZE), 60.0 + 120 * number)
            tint = np.array([30.0, 0, -30]) * (2 * number - 1)
            pixels = (random.normal(128, 20, (SIZE, SIZE, 3)) + tint).clip(0, 255).astype(np.uint8)
            heat[:4, :4] = np.nan
            Image.fromarray(pixels).save(path / "colour" / name / f"{index}.png")
            np.save(path / "heat" / name / f"{index}.npy", heat)
            Image.fromarray(np.full((SIZE, SIZE), number, np.uint8)).save(path / "labels" / name / f"{index}.png")
            words[f"{name}/{index}.png"] = random.normal(4 * number - 2, 0.1, 3)
    np.savez(path / "words.npz", **words)
    return path


def photographs(folders: Path) -> dict[str, Any]:
    return {"name": "image_folder", "args": {"path": str(folders / "colour")}}


def stacks(folders: Path, **args: Any) -> dict[str, Any]:
    heat = {"name": "sensor", "args": {"path": str(folders / "heat"), "high": 255, "gaps": True}}
    return {"name": "aligned", "args": {"pictures": photographs(folders), "maps": [heat], **args}}


def classes(images: dict[str, Any], **args: Any) -> dict[str, Any]:
    return {"name": "classify", "args": {"images": images, "patch": SIZE, "num_images": 24, **args}}


def viewed(task: dict[str, Any], **views: Any) -> dict[str, Any]:
    return {"name": "views", "args": {"task": task, **views}}


def recipe(out: Path, task: dict[str, Any], *, steps: int = 6, teacher: str | None = None, **more: Any) -> Any:
    methods = [{"name": "logits"}] if teacher else []
    return parse({
        "name": "student", "task": task, "teacher": teacher, "student": NET, "stages": [{"methods": methods, "lr": 0.01}],
        "steps": steps, "batch_size": 8, "cache": {"inputs": 32, "dir": str(out / "cache")}, "device": "cpu",
        "evaluate_every": None, "precision": "float32", "controls": False, **more,
    })  # fmt: skip


def built(task: dict[str, Any]) -> Views:
    made: Views = registry.build("task", Spec.model_validate(task))
    return made


def accuracies(folder: Path, figure: str = "accuracy") -> dict[str, float]:
    return {row.role: row.metrics[figure] for row in Report.read(folder).rows}


def first_layer(folder: Path) -> torch.Size:
    net = kdgen.load(folder / "student").net
    return next(iter(net.parameters())).shape
