"""Small students that say something of pictures, and their teachers, made by the loop of every run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from support import trained

from kdgen.recipe import parse
from kdgen.training import run

SIDE = 64
COLOURS = {"apple": (200, 40, 40), "leaf": (40, 180, 60), "sky": (50, 90, 220)}


@dataclass(frozen=True)
class Perceivers:
    """Run folders: of a teacher and a student that tell classes, of two that tell places, of one that finds faults."""

    classes: tuple[Path, Path]
    places: tuple[Path, Path]
    faults: Path
    apple: Path
    square: Path
    faulty: Path


def made(folder: Path) -> Perceivers:
    """Train all of them, on pictures of plain colours, of squares on a lawn, and of stripes."""
    random, files = np.random.default_rng(0), {}
    for number in range(6):
        noise = random.normal(0, 12, (SIDE, SIDE, 3))
        for name, colour in COLOURS.items():
            files[f"kinds/{name}/{number}"] = colour + noise
        labels = np.zeros((SIDE, SIDE))
        top, left = random.integers(4, 28, 2)
        labels[top : top + 30, left : left + 30] = 1
        both = np.array([COLOURS["leaf"], COLOURS["apple"]], dtype=float)
        files[f"images/{number}"], files[f"labels/{number}"] = both[labels.astype(int)] + noise, labels
        files[f"good/{number}"] = 128 + 60 * np.sin(np.arange(SIDE) / 2 + number)[:, None, None] + noise
    faulty = files["good/0"].copy()
    faulty[20:36, 24:40] = 250
    files["faulty"] = faulty
    for name, pixels in files.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.asarray(pixels).clip(0, 255).astype(np.uint8)).save(path)
    images = {"name": "image_folder", "args": {"path": str(folder / "kinds")}}
    classify = {"name": "classify", "args": {"images": images, "patch": 16, "augment": False, "num_images": 12}}
    maps = {"images": str(folder / "images"), "labels": str(folder / "labels"), "classes": ["lawn", "square"]}
    segment = {"name": "segment", "args": {"images": {"name": "label_maps", "args": maps}, "patch": 32}}
    good = {"name": "folder", "args": {"path": str(folder / "good"), "whole": True}}
    anomaly = {"name": "anomaly", "args": {"images": good, "patch": SIDE, "layer": "stages.1"}}
    nets: dict[str, Any] = {
        "classes-teacher": (classify, {"name": "feature_net", "args": {"width": 8}}, None, "logits"),
        "classes": (classify, {"name": "feature_net", "args": {"width": 4}}, "classes-teacher", "logits"),
        "places-teacher": (segment, {"name": "segmenter", "args": {"widths": [8, 8]}}, None, "logits"),
        "places": (segment, {"name": "segmenter", "args": {"widths": [4, 8], "blocks": 1}}, "places-teacher", "logits"),
        "faults": (anomaly, {"name": "patch_features", "args": {"features": 48, "width": 8, "depth": 0, "stride": 4}},
                   "features32", "output"),
    }  # fmt: skip
    for name, (task, student, teacher, method) in nets.items():
        reference = str(folder / teacher) if teacher in nets else teacher
        recipe = {
            "name": name, "task": task, "teacher": reference, "student": student, "steps": 40, "batch_size": 8,
            "stages": [{"methods": [{"name": method}] if teacher else [], "lr": 5e-3}], "controls": False,
            "cache": {"inputs": 0}, "device": "cpu", "precision": "float32", "seed": 1,
        }  # fmt: skip
        trained(run.distill(parse(recipe), folder / name))
    return Perceivers(
        (folder / "classes-teacher", folder / "classes"), (folder / "places-teacher", folder / "places"),
        folder / "faults", folder / "kinds" / "apple" / "0.png", folder / "images" / "0.png", folder / "faulty.png",
    )  # fmt: skip
