"""Images per second of training against batch, image size, student size and number of processes.

    python benchmarks/scaling.py --out scaling.json

Each figure is the median of short runs of the denoiser's distillation, 17 layers into 7, with the teacher's answers
cached, through the loop as users run it; rounds alternate between all of them. One thing changes at a time; the rest
stays at 16 patches of 48x48, a width of 24 and one process, whose pixels a second the ratios are to. Several processes
are started as `torchrun` starts them, each with an equal share of this process's threads, and share the same batch:
two are faster only where there are cores for both.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from workloads import denoiser, denoising_teacher

from kdgen.models.model import Model
from kdgen.recipe import CacheSpec, Recipe
from kdgen.registry import Spec
from kdgen.utils.devices import machine

SCRIPT = "from kdgen.__main__ import main; main()"
AXES: dict[str, tuple[int, ...]] = {
    "batch_size": (1, 4, 16, 64, 256),
    "patch": (32, 64, 128, 256, 512),
    "width": (8, 16, 32, 64),
    "processes": (1, 2),
}
BASE = ("processes", 1)
"""What the ratios are to: 16 patches of 48x48 in one process, a width of 24."""
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
    (phase,) = (line["data"] for line in lines if line["kind"] == "phase")
    return recipe.batch_size * phase["steps"] / phase["seconds"]


@dataclass(slots=True)
class RunContext:
    """One value on one axis, its recipe, and the images a second of each round."""

    axis: str
    value: int
    recipe: Recipe
    processes: int
    speeds: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Its medians and spread, in images and megapixels a second."""
        speed = statistics.median(self.speeds)
        pixels = speed * self.recipe.task.args["patch"] ** 2
        return {
            "axis": self.axis, "value": self.value, "batch_size": self.recipe.batch_size, "images_per_second": speed,
            "slowest": min(self.speeds), "fastest": max(self.speeds), "megapixels_per_second": pixels / 1e6,
        }  # fmt: skip


def places(axes: Sequence[str], work: Path) -> list[RunContext]:
    """All that is measured, the base of the ratios among them, with a teacher that lies in a folder."""
    use = Spec(name="dncnn", args={"depth": 17, "width": 64, "norm": True, "bias": False})
    teacher = Model(denoising_teacher(None), name="large", channels=1, task={"name": "denoise", "sigma": 25}, use=use)
    teacher.save(work / "teacher")
    found = []
    for axis in dict.fromkeys([*axes, BASE[0]]):
        for value in AXES[axis] if axis in axes else BASE[1:]:
            changed, processes = plan(axis, value)
            recipe = denoiser(**changed)
            cache = CacheSpec(inputs=max(recipe.batch_size, 16), dir=str(work / "cache"))
            update = {"teacher": str(work / "teacher"), "cache": cache}
            found.append(RunContext(axis, value, recipe.model_copy(update=update), processes))
    return found


def main() -> None:
    """Run, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0, help="of training in each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=list(AXES), help="which axes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of all processes together")
    parser.add_argument("--out", type=Path, default=Path("scaling.json"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        measured = places(args.only or list(AXES), Path(work))
        for number in range(args.rounds + 1):
            for place in measured:
                recipe = place.recipe.lasting(seconds=args.seconds) if number else place.recipe.lasting(steps=2)
                with tempfile.TemporaryDirectory(dir=work) as folder:
                    speed = images_per_second(recipe, place.processes, args.threads, Path(folder))
                if number:  # the first round fills the caches
                    place.speeds.append(speed)
    rows = [place.row() for place in measured]
    (base,) = (row["megapixels_per_second"] for row in rows if (row["axis"], row["value"]) == BASE)
    where = f"{machine(torch.device('cpu'))}, {args.threads} thread(s), torch {torch.__version__}"
    print(f"{where}; median of {args.rounds} rounds\n\n| | | images/s | spread | megapixels/s | ratio |")
    print("|---|---:|---:|---:|---:|---:|")
    for row in rows:
        row["ratio"] = row["megapixels_per_second"] / base
        print(f"| {row['axis']} | {row['value']} | {row['images_per_second']:.1f} | {row['slowest']:.1f} to "
              f"{row['fastest']:.1f} | {row['megapixels_per_second']:.2f} | {row['ratio']:.2f} |")  # fmt: skip
    report = {"machine": where, "rounds": args.rounds, "seconds": args.seconds, "rows": rows}
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
