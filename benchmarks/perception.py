"""The presets of perception: teacher, student and controls over several seeds, in a table each.

    python benchmarks/perception.py --data ../shared/data
    python benchmarks/perception.py classify vessels --data ../shared/data --seeds 0 --out runs/perception

The folder of data holds the published weights and images that the presets say how to get, in folders named as `LINKS`
has them; the pictures of a retina and of an astronaut are scikit-image's, and those of other people are in the tests of
`pip download --no-deps --no-binary :all: face_recognition==1.3.0`. Teachers that are runs of other presets are trained
first. Runs that are there already are not run again. What a preset trains on here is less than a user has: of CIFAR-10
4,000 images, of streets one frame, of retinas half of one, of people three faces and three portraits.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from perception_data import prepare
from presets import run

from kdgen import Recipe, preset
from kdgen.report.compare import merge
from kdgen.report.report import Report

TAUGHT_BY = {"two-teachers": "clothes-teacher", "diagnose": "diagnose-teacher"}
"""Presets whose teacher is the run of another."""

PRESETS = ("classify", "grey-sees-colour", "harden-classify", "diagnose", "two-teachers", "segment-street",
           "segment-portrait", "vessels", "solar-cells", "depth", "night-sees-day")  # fmt: skip


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
    parser.add_argument("--people", type=Path, help="the archive with portraits; none: three faces alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/perception"))
    args = parser.parse_args()
    prepare(args.data.absolute(), args.out, args.people)
    os.chdir(args.out)
    for name in args.presets:
        if (report := measured(name, args.seeds)) is None:
            return
        print(f"\n{report.to_markdown()}", flush=True)


if __name__ == "__main__":
    main()
