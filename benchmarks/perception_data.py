"""Labelled images as files that recipes name, made of what lies in a folder of data sets."""

from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 32


def cifar10(source: Path, target: Path) -> Path:
    """Write `cifar10.npz`, in parts, of CIFAR-10's images in strips: one image of 32x32 in each row of a PNG.

    Args:
        source: the folder with `cifar10_batch_*.png`, of which number 50 holds the test images, and `labels.npz`.
        target: the folder to write to.

    Returns:
        the file.
    """
    files = sorted(source.glob("cifar10_batch_*.png"), key=lambda path: int(path.stem.rpartition("_")[2]))
    strips = [np.asarray(Image.open(path)).reshape(-1, SIDE, SIDE, 3) for path in files]
    with np.load(source / "labels.npz", allow_pickle=False) as labels:
        parts = {"train_images": np.concatenate(strips[:-1]), "train_labels": labels["train"],
                 "test_images": strips[-1], "test_labels": labels["test"]}  # fmt: skip
    file = target / "cifar10.npz"
    np.savez(file, **parts)
    return file
