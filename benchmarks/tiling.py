"""The memory that a large photograph takes: whole and in tiles, each in a process of its own.

    python benchmarks/tiling.py --megapixels 12 --model denoiser

Prints the peak resident memory over that of the loaded model and the image, the seconds, and the largest difference
between the two results.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from kdgen import load
from kdgen.data.dead_leaves import DeadLeaves
from kdgen.models import tiling


def photograph(megapixels: float) -> torch.Tensor:
    """A synthetic photograph, ``(1, 3, H, W)`` in [-1, 1] with noise of sigma 25: dead leaves, mirrored to its size."""
    height = round((megapixels * 1e6 * 3 / 4) ** 0.5)
    width = round(megapixels * 1e6 / height)
    leaf = DeadLeaves().patches(1, 512, channels=3, seed=0).numpy()
    big = np.pad(leaf[0], ((0, 0), (0, height - 512), (0, width - 512)), mode="reflect")[None]
    noise = torch.randn(big.shape, generator=torch.Generator().manual_seed(0))
    return torch.from_numpy(big) + 2 * 25 / 255 * noise


def peak_gib() -> float:
    """The largest resident memory of this process so far, in GiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def restore(model: str, megapixels: float, tiled: bool, target: Path) -> None:
    """Restore the photograph in this process, print peak GiB and seconds, and keep the result."""
    if not tiled:
        tiling.apply.__kwdefaults__["limit"] = 2**62
    loaded, x = load(model), photograph(megapixels)
    before, started = peak_gib(), time.perf_counter()
    out = loaded.restore(x, sigma=25)
    print(peak_gib() - before, time.perf_counter() - started)
    np.save(target, out.numpy().astype(np.float32))


def main() -> None:
    """Run both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="denoiser")
    parser.add_argument("--megapixels", type=float, default=12.0)
    parser.add_argument("--only", choices=["whole", "tiles"], help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        restore(args.model, args.megapixels, args.only == "tiles", args.target)
        return
    print(f"{args.model}, {args.megapixels:g} megapixels in colour, {torch.get_num_threads()} thread(s)\n")
    print("| | peak GiB beyond model and image | s |\n|---|---:|---:|")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for way in ("whole", "tiles"):
            target = Path(folder) / f"{way}.npy"
            again = [sys.executable, __file__, "--model", args.model, "--megapixels", str(args.megapixels)]
            done = subprocess.run([*again, "--only", way, "--target", str(target)], capture_output=True, text=True)
            if done.returncode:
                print(f"| {way} | failed with {done.returncode} | |")
                continue
            gib, seconds = map(float, done.stdout.split())
            print(f"| {way} | {gib:.2f} | {seconds:.1f} |", flush=True)
            results.append(np.load(target))
    if len(results) == 2:
        print(f"\nlargest difference: {np.abs(results[0] - results[1]).max():.2g}")


if __name__ == "__main__":
    main()
