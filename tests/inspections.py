"""Pictures of stripes, of which some have a fault, laid out as MVTec AD is."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 32


def draw(path: Path, shift: int, *, fault: bool = False) -> None:
    """Stripes, on a fault crossed by others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pixels = 128 + 100 * np.sin((rows + shift) * np.pi / 4)
    if fault:
        pixels[8:16, 12:20] = (128 + 100 * np.sin(columns * np.pi / 3))[8:16, 12:20]
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def inspected(folder: Path) -> Path:
    """A folder with good pictures to train on, and good and faulty ones to be told apart, with masks of the faults."""
    for i in range(8):
        draw(folder / "train" / "good" / f"{i}.png", i)
    for i in range(4):
        draw(folder / "test" / "good" / f"{i}.png", 2 * i)
        draw(folder / "test" / "cross" / f"{i}.png", 2 * i + 1, fault=True)
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[8:16, 12:20] = 255
        (folder / "ground_truth" / "cross").mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(folder / "ground_truth" / "cross" / f"{i}_mask.png")
    return folder


def arguments(folder: Path, **more: object) -> dict[str, object]:
    """The task ``anomaly`` on such a folder."""
    source = {"name": "inspected", "args": {"path": str(folder)}}
    test = {"name": "inspected", "args": {"path": str(folder), "part": "test"}}
    return {"images": source, "evaluate": test, "channels": 1, "patch": SIZE, **more}
