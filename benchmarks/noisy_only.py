"""From a folder of noisy pictures alone: the clean ones are thrown away and the teacher is the only guide.

    python benchmarks/noisy_only.py --data ../shared/data --seconds 90

Adds noise of sigma 25 to 400 photographs (Train400), keeps it as float TIFFs, and trains the same student for the same
seconds from the noisy files with a published DnCNN as teacher, and from the clean files with ground truth. Prints PSNR
on BSD68 and Set12 (grey, sigma 25).
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import torch
from denoiser import quality, recipe, teacher_in
from PIL import Image

from kdgen import distill, load
from kdgen.recipe import override


def make_noisy(clean: Path, noisy: Path, sigma: float = 25.0) -> None:
    """Write each picture of a folder with Gaussian noise, in 8-bit units, neither rounded nor clipped."""
    noisy.mkdir(parents=True)
    random = np.random.default_rng(0)
    for path in sorted(clean.glob("*.png")):
        picture = np.asarray(Image.open(path).convert("L"), dtype=np.float32)
        grain = sigma * random.standard_normal(picture.shape, dtype=np.float32)
        Image.fromarray(picture + grain).save(noisy / f"{path.stem}.tif")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with dncnn-saoyan and denoise-sets")
    parser.add_argument("--seconds", type=float, default=90)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sets = {name: args.data / "denoise-sets" / name for name in ("BSD68", "Set12")}
    teacher = teacher_in(args.data)
    work = Path(tempfile.mkdtemp())
    make_noisy(args.data / "denoise-sets" / "Train400", work / "noisy")
    rows = {}
    for name, folder, who in (
        ("noisy pictures and the teacher", work / "noisy", teacher),
        ("clean pictures, ground truth", args.data / "denoise-sets" / "Train400", None),
    ):
        images = {"name": "folder", "args": {"path": str(folder)}}
        patches = round(10 * args.seconds) if who else 0
        plan = recipe("run", args.seconds, args.seed, teacher=who, images=images, patches=patches, cache=work / "cache")
        if who:
            plan = override(plan, ["task.args.clean=false"])
        for event in distill(plan, work / name.replace(" ", "-")):
            if event.kind == "phase":
                print(f"{name}: {event.step} steps", flush=True)
        rows[name] = quality(load(work / name.replace(" ", "-")).net, sets)
    shutil.rmtree(work)
    print(f"\n| {args.seconds:g} s on {args.threads} thread(s), from | BSD68 | Set12 |\n|---|---:|---:|")
    for name, figures in rows.items():
        print(f"| {name} | {figures['BSD68']:.2f} | {figures['Set12']:.2f} |")


if __name__ == "__main__":
    main()
