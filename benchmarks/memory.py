"""Peak memory of a step of training, measured, beside what `kdgen plan` says of it from the configuration alone.

    python benchmarks/memory.py

A U-Net of diffusers with random weights learns two steps in a process of its own for each row, on the CPU. Measured is
the peak of the memory that the process holds, less what it held before there was a net. The C library is told to give
back at once what is freed, as the allocators of GPUs do.
"""

import argparse
import multiprocessing
import os
import resource
import sys
from typing import Any

import torch

import kdgen.training.registered  # noqa: F401
from kdgen import registry
from kdgen.models.model import build_net
from kdgen.recipe import Recipe, parse
from kdgen.training.footprint import batch_of, footprint
from kdgen.training.optimizers import int8_adamw
from kdgen.training.train_step import Learner
from kdgen.utils.distributed import Team

ROWS = {
    "as it is": {},
    "checkpointing": {"checkpointing": True},
    "8-bit states": {"optimizer_states": "int8"},
    "weights in bfloat16": {"weights": "bfloat16"},
    "all three": {"checkpointing": True, "optimizer_states": "int8", "weights": "bfloat16"},
}
STEPS = 2
SET = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
MIB = 2**20


def recipe_of(row: str, batch_size: int) -> Recipe:
    """The recipe of a row; nothing teaches, for a teacher's weights are easily counted."""
    net = {"name": "unet2d", "args": {"block_out_channels": [32, 64, 128, 256, 576], "layers_per_block": 2, "size": 64,
                                      "norm_num_groups": 32}}  # fmt: skip
    return parse({"name": "memory", "task": {"name": "diffuse", "args": {"size": 64}}, "student": net, "steps": STEPS,
                  "batch_size": batch_size, "cache": {"inputs": 0}, "memory": ROWS[row],
                  "precision": "auto" if "weights" in ROWS[row] else "float32"})  # fmt: skip


def train(recipe: Recipe, told: Any) -> None:
    """Tell the peak of some steps in this process, in bytes."""
    task = registry.build("task", recipe.task)
    batch = batch_of(task, recipe)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    student = build_net(recipe.student, task.channels, task.describe())[0]
    learner = Learner(recipe, task=task, student=student, teacher=None, probe=batch.split(4)[0],
                      device=torch.device("cpu"), dtype=torch.float32, team=Team("cpu"))  # fmt: skip
    for number in range(STEPS):
        learner.step(batch, None, number=number, progress=number / STEPS, retries=0)
    told.put(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def measured(recipe: Recipe) -> int:
    """The same in a process of its own."""
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()
    process = fork.Process(target=train, args=(recipe, told))
    process.start()
    found = int(told.get())
    process.join()
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--only", nargs="*", choices=ROWS, default=list(ROWS), help="rows")
    args = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in SET.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **SET})
    from diffusers import UNet2DModel  # noqa: F401 - what is imported is not to count

    int8_adamw()
    recipes = {row: recipe_of(row, args.batch_size) for row in args.only}
    peaks = {}
    for row, recipe in recipes.items():
        peaks[row] = measured(recipe)
        print(f"{row}: {peaks[row] / MIB:,.0f} MiB", file=sys.stderr, flush=True)
    print("| MiB | weights | average | gradients | states | step | plan | measured | off |\n|---|" + "---:|" * 8)
    for row, recipe in recipes.items():
        plan = footprint(recipe, {})
        parts = (
            plan.student + plan.masters,
            plan.average,
            plan.gradients,
            plan.states,
            plan.step,
            plan.total,
            peaks[row],
        )
        cells = " | ".join(f"{part / MIB:,.0f}" for part in parts)
        print(f"| {row} | {cells} | {100 * (plan.total / peaks[row] - 1):+.0f} % |", flush=True)


if __name__ == "__main__":
    main()
