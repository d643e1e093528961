"""Images per second of training against batch, image size, student size and number of processes.

    python benchmarks/scaling.py --out scaling.json

Each figure is a short run of the denoiser's distillation, 17 layers into 7, with the teacher's answers cached, through
the loop as users run it. One thing changes at a time; the rest stays at 16 patches of 48x48 and a width of 24. Several
processes are started as `torchrun` starts them, each with an equal share of this process's threads, and share the same
batch: two are faster only where there are cores for both.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from workloads import denoiser, denoising_teacher

from kdgen.devices import machine
from kdgen.model import Model
from kdgen.recipe import Pool, Recipe
from kdgen.registry import Use

SCRIPT = "from kdgen.__main__ import main; main()"
AXES: dict[str, tuple[int, ...]] = {
    "batch_size": (1, 4, 16, 64, 256),
    "patch": (32, 64, 128, 256, 512),
    "width": (8, 16, 32, 64),
    "processes": (1, 2),
}
LARGEST = 16 * 256 * 256
"""Pixels of a batch at most: larger patches come in smaller batches."""


def plan(axis: str, value: int) -> tuple[dict[str, int], int]:
    """The arguments of the workload, and the processes, with one thing changed."""
    if axis == "processes":
        return {}, value
    changed = {axis: value}
    if axis == "patch":
        changed["batch_size"] = max(min(16, LARGEST // value**2), 1)
    return changed, 1


def images_per_second(recipe: Recipe, processes: int, threads: int, folder: Path) -> float:
    """Run a recipe in processes of its own and read the log: images a second of training."""
    file = folder / "recipe.json"
    file.write_text(recipe.to_json())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    known = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes),
             "OMP_NUM_THREADS": str(max(threads // processes, 1))}  # fmt: skip
    command = [sys.executable, "-c", SCRIPT, "distill", str(file), "--out", str(folder / "run"), "--quiet"]
    running = [
        subprocess.Popen(command, env={**known, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stdout=subprocess.DEVNULL)
        for rank in range(processes)
    ]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit("a run failed; its message stands above")
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    (leg,) = (line["data"] for line in lines if line["kind"] == "leg")
    return recipe.batch_size * leg["steps"] / leg["seconds"]


def main() -> None:
    """Run, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of training for each figure")
    parser.add_argument("--only", nargs="*", choices=list(AXES), help="which axes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of all processes together")
    parser.add_argument("--out", type=Path, default=Path("scaling.json"))
    args = parser.parse_args()
    where = f"{machine(torch.device('cpu'))}, {args.threads} thread(s), torch {torch.__version__}"
    report: dict[str, Any] = {"machine": where, "rows": []}
    print(f"{where}\n\n| | | images/s | megapixels/s |\n|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as work:
        teacher = Path(work) / "teacher"
        use = Use(name="dncnn", args={"depth": 17, "width": 64, "norm": True, "bias": False})
        Model(denoising_teacher(None), name="large", channels=1, task={"name": "denoise", "sigma": 25}, use=use).save(
            teacher
        )
        for axis in args.only or AXES:
            for value in AXES[axis]:
                changed, processes = plan(axis, value)
                recipe = denoiser(**changed)
                pool = Pool(patches=max(recipe.batch_size, 16), dir=str(Path(work) / "cache"))
                recipe = recipe.lasting(steps=2).model_copy(update={"teacher": str(teacher), "pool": pool})
                for number, length in enumerate(({"steps": 2}, {"seconds": args.seconds})):  # the first fills the pool
                    folder = Path(work) / f"{axis}-{value}-{number}"
                    folder.mkdir()
                    speed = images_per_second(recipe.lasting(**length), processes, args.threads, folder)
                pixels = speed * changed.get("patch", 48) ** 2
                report["rows"].append({"axis": axis, "value": value, "images_per_second": speed, **changed})
                print(f"| {axis} | {value} | {speed:.1f} | {pixels / 1e6:.2f} |", flush=True)
                args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
