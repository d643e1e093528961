"""Files and folders as the presets of perception name them, made of what lies in a folder of data sets."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def told(file: Path) -> dict[str, Any]:
    """The arguments by which a task names such a file: what to train on, and what to measure on."""
    return {kind: {"name": "npz", "args": {"path": str(file), "split": split}}
            for kind, split in (("images", "train"), ("evaluate", "test"))}  # fmt: skip


LINKS = {
    "resnet20-12fca82f.th": "resnet-cifar10/resnet20-12fca82f.th",
    "espnet_p_2_q_8.pth": "segment-espnet/espnet_p_2_q_8.pth",
    "SINet.pth": "segment-portrait/SINet.pth",
    "model_checkpoint.pth": "vessels-lwnet/wnet_drive.pth",
    "efficientnet-lite0-57934424.pth": "efficientnet-lite0/efficientnet-lite0-57934424.pth",
    "elpv": "elpv-subset",
    "fashion-mnist": "fashion-mnist",
    "pneumoniamnist.npz": "pneumoniamnist/pneumoniamnist.npz",
}
"""What presets call files and folders, and where they lie in the folder of data."""


def prepare(data: Path, home: Path, people: Path | None) -> None:
    """A folder in which presets find their files by the names that they say; what is there already stays.

    Args:
        data: the folder of data sets.
        home: the folder to make.
        people: face_recognition's source archive, whose tests hold portraits.
    """
    home.mkdir(parents=True, exist_ok=True)
    for name, source in LINKS.items():
        if not (home / name).exists():
            (home / name).symlink_to(data / source)
    if not (home / "cifar10.npz").exists():
        cifar10(data / "cifar10-subset", home)
    for name, pictures in {**streets(data), **retinas(), **portraits(data, people)}.items():
        if not (home / name).exists():
            (home / name).mkdir()
            for number, picture in enumerate(pictures):
                picture.convert("RGB").save(home / name / f"{number}.png")


def streets(data: Path) -> dict[str, list[Image.Image]]:
    """One frame to train on, the other to measure on."""
    first, second = (Image.open(file) for file in sorted((data / "segment-espnet").glob("*.jpg")))
    return {"streets": [first], "streets-test": [second]}


def retinas() -> dict[str, list[Image.Image]]:
    """The left half of a photograph to train on, the right half to measure on."""
    from skimage.data import retina

    whole = Image.fromarray(retina()).resize((512, 512), Image.Resampling.LANCZOS)
    return {"retinas": [whole.crop((0, 0, 256, 512))], "retinas-test": [whole.crop((256, 0, 512, 512))]}


def portraits(data: Path, people: Path | None) -> dict[str, list[Image.Image]]:
    """Three faces and three portraits of one man to train on; an astronaut and another man to measure on."""
    from skimage.data import astronaut

    faces = [Image.open(data / "sr-sets" / "Set5" / "HR" / f"{name}.png") for name in ("baby", "head", "woman")]
    seen, unseen = (_members(people, names) for names in (("obama", "obama2", "obama3"), ("biden",)))
    return {"portraits": [*faces, *seen], "portraits-test": [Image.fromarray(astronaut()), *unseen]}


def _members(people: Path | None, names: Sequence[str]) -> list[Image.Image]:
    """Pictures of face_recognition's tests by name; none where the archive is not at hand."""
    if people is None:
        return []
    with tarfile.open(people) as archive:
        folder = archive.getnames()[0].partition("/")[0]
        files = [archive.extractfile(f"{folder}/tests/test_images/{name}.jpg") for name in names]
        return [Image.open(io.BytesIO(file.read())) for file in files if file]
