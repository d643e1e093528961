"""The presets of perception: teacher, student and controls over several seeds, in a table each.

    python benchmarks/perception.py --data ../shared/data
    python benchmarks/perception.py classify vessels --data ../shared/data --seeds 0 --out runs/perception

The folder of data holds the published weights and images that the presets say how to get, in folders named as `LINKS`
has them; the pictures of a retina and of an astronaut are scikit-image's. Teachers that are runs of other presets are
trained first. Runs that are there already are not run again. What a preset trains on here is less than a user has: of
CIFAR-10 4,000 images, of streets one frame, of retinas half of one, of people three faces.
"""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from perception_data import cifar10
from PIL import Image
from presets import run

from kdgen import Recipe, preset
from kdgen.report.compare import merge
from kdgen.report.report import Report

TAUGHT_BY = {"two-teachers": "clothes-teacher", "diagnose": "diagnose-teacher"}
"""Presets whose teacher is the run of another."""

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

PRESETS = ("classify", "grey-sees-colour", "harden-classify", "diagnose", "two-teachers", "segment-street",
           "segment-portrait", "vessels", "solar-cells", "depth", "night-sees-day")  # fmt: skip


def streets(data: Path, home: Path) -> None:
    """One frame to train on, the other to measure on."""
    first, second = (Image.open(file) for file in sorted((data / "segment-espnet").glob("*.jpg")))
    _save({"streets": [first], "streets-test": [second]}, home)


def retinas(data: Path, home: Path) -> None:
    """The left half of a photograph to train on, the right half to measure on."""
    from skimage.data import retina

    whole = Image.fromarray(retina()).resize((512, 512), Image.Resampling.LANCZOS)
    _save({"retinas": [whole.crop((0, 0, 256, 512))], "retinas-test": [whole.crop((256, 0, 512, 512))]}, home)


def portraits(data: Path, home: Path) -> None:
    """Three faces to train on, an astronaut to measure on."""
    from skimage.data import astronaut

    faces = [Image.open(data / "sr-sets" / "Set5" / "HR" / f"{name}.png") for name in ("baby", "head", "woman")]
    _save({"portraits": faces, "portraits-test": [Image.fromarray(np.asarray(astronaut()))]}, home)


MADE: Mapping[str, Callable[[Path, Path], object]] = {
    "cifar10.npz": lambda data, home: cifar10(data / "cifar10-subset", home),
    "streets": streets,
    "retinas": retinas,
    "portraits": portraits,
}


def prepare(data: Path, home: Path) -> None:
    """A folder in which presets find their files by the names that they say."""
    home.mkdir(parents=True, exist_ok=True)
    for name, source in LINKS.items():
        if not (home / name).exists():
            (home / name).symlink_to(data / source)
    for name, make in MADE.items():
        if not (home / name).exists():
            make(data, home)


def _save(folders: Mapping[str, Sequence[Image.Image]], home: Path) -> None:
    for name, pictures in folders.items():
        (home / name).mkdir()
        for number, picture in enumerate(pictures):
            picture.convert("RGB").save(home / name / f"{number}.png")


def measured(name: str, seeds: Sequence[int]) -> Report | None:
    """A preset's report over the seeds; None where a run was stopped."""
    if (first := TAUGHT_BY.get(name)) and not ended(preset(first), Path("runs", first)):
        return None
    folders = {seed: Path("runs", f"{name}-{seed}") for seed in seeds}
    for seed, folder in folders.items():
        if not ended(preset(name).model_copy(update={"seed": seed, "evaluate_every": None}), folder):
            return None
    return merge([Report.read(folder) for folder in folders.values()])


def ended(recipe: Recipe, folder: Path) -> bool:
    """Whether a recipe's run has come to its end, which it is brought to here."""
    return (folder / "report.json").is_file() or run(recipe, folder)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=PRESETS, help="default all of perception")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/perception"))
    args = parser.parse_args()
    prepare(args.data.absolute(), args.out)
    os.chdir(args.out)
    for name in args.presets:
        if (report := measured(name, args.seeds)) is None:
            return
        print(f"\n{report.to_markdown()}", flush=True)


if __name__ == "__main__":
    main()
