"""Peak memory of a step of training, measured, beside what `kdgen plan` says of it from the configuration alone.

    python benchmarks/memory.py

A U-Net of diffusers with random weights learns two steps in a process of its own for each row, on the CPU; the LoRA is
of a text-to-image U-Net and learns from it; by FSDP two processes share a batch, and the one that takes more is told.
Measured is the peak of the memory that the process holds, less what it held before there was a net. The C library is
told to give back at once what is freed, as the allocators of GPUs do.
"""

import argparse
import multiprocessing
import os
import resource
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import kdgen.training.registered  # noqa: F401
from kdgen import registry
from kdgen.models.adapters.lora_base import lend
from kdgen.models.model import build_net
from kdgen.recipe import Recipe, parse
from kdgen.registry import Spec
from kdgen.tasks.abilities import opened_by
from kdgen.training.footprint import CPU, batch_of, footprint
from kdgen.training.optimizers import int8_adamw
from kdgen.training.teacher import Teacher
from kdgen.training.train_step import Learner
from kdgen.utils.distributed import Team

ROWS: dict[str, dict[str, bool | str]] = {
    "as it is": {},
    "checkpointing": {"checkpointing": True},
    "8-bit states": {"optimizer_states": "int8"},
    "weights in bfloat16": {"weights": "bfloat16"},
    "all three": {"checkpointing": True, "optimizer_states": "int8", "weights": "bfloat16"},
}
LORA, SLICES = "LoRA", "FSDP, two processes"
PROCESSES = {SLICES: 2}
PIPELINE = "kdgen/pipeline"
STEPS = 2
SET = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
MIB = 2**20


def written(folder: Path) -> Path:
    """A text-to-image net with random weights, in a folder laid out as its pipeline's."""
    args = {"size": 32, "block_out_channels": [96, 192, 384, 512], "layers_per_block": 2, "norm_num_groups": 32,
            "words_dim": 512, "attention_head_dim": 8}  # fmt: skip
    registry.build("net", Spec(name="stable_diffusion", args=args)).save_files(folder)
    return folder


def recipe_of(row: str, batch_size: int, pipeline: str) -> Recipe:
    """The recipe of a row; nothing teaches but the LoRA's pipeline, for a teacher's weights are easily counted."""
    if row == LORA:
        task = {"name": "latent_diffusion", "args": {"model": pipeline, "prompts": ["a heart"]}}
        return parse({"name": "memory", "task": task, "teacher": pipeline, "steps": STEPS, "batch_size": batch_size,
                      "student": {"name": "lora", "args": {"model": pipeline}}, "cache": {"inputs": 0},
                      "stages": [{"methods": [{"name": "output"}]}], "precision": "float32"})  # fmt: skip
    net = {"name": "unet2d", "args": {"block_out_channels": [32, 64, 128, 256, 576], "layers_per_block": 2, "size": 64,
                                      "norm_num_groups": 32}}  # fmt: skip
    return parse({"name": "memory", "task": {"name": "diffuse", "args": {"size": 64}}, "student": net, "steps": STEPS,
                  "batch_size": batch_size, "cache": {"inputs": 0}, "memory": ROWS.get(row, {}),
                  "shard_student": row == SLICES,
                  "precision": "auto" if "weights" in ROWS.get(row, {}) else "float32"})  # fmt: skip


def train(recipe: Recipe, told: Any, joined: Mapping[str, str]) -> None:
    """Tell the peak of some steps in this process, in bytes."""
    os.environ.update(joined)
    team = Team("cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    task = registry.build("task", recipe.task)
    batch = batch_of(task, recipe)
    teacher = None
    if (held := opened_by(task, recipe.teacher)) is not None:
        lend(recipe.teacher, held.net)
        teacher = Teacher(held.net, batch, device=CPU)
    student = build_net(recipe.student, task.channels, task.describe())[0]
    learner = Learner(recipe, task=task, student=student, teacher=teacher, probe=batch.split(4)[0], device=CPU,
                      dtype=torch.float32, team=team)  # fmt: skip
    for number in range(STEPS):
        learner.step(batch, None, number=number, progress=number / STEPS, retries=0)
    told.put(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


def measured(recipe: Recipe, number: int) -> int:
    """The same in processes of their own, of the one that takes most."""
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = []
    for rank in map(str, range(number)):
        joined = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(number), "RANK": rank,
                  "LOCAL_RANK": rank}  # fmt: skip
        processes.append(fork.Process(target=train, args=(recipe, told, joined if number > 1 else {})))
        processes[-1].start()
    found = max(int(told.get()) for _ in processes)
    for process in processes:
        process.join()
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--only", nargs="*", choices=(*ROWS, LORA, SLICES), default=[*ROWS, LORA, SLICES], help="rows")
    args = parser.parse_args()
    if any(os.environ.get(name) != value for name, value in SET.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **SET})
    import torch.distributed.fsdp  # noqa: F401 - what is imported is not to count
    from diffusers import UNet2DModel  # noqa: F401

    if any(ROWS.get(row, {}).get("optimizer_states") == "int8" for row in args.only):
        int8_adamw()
    with tempfile.TemporaryDirectory(prefix="kdgen-memory-") as scratch:
        compare(args.only, args.batch_size, written(Path(scratch)))


def compare(rows: Sequence[str], batch_size: int, pipeline: Path) -> None:
    """Measure, then plan, and print the table."""
    recipes = {row: recipe_of(row, batch_size, str(pipeline)) for row in rows}
    peaks = {}
    for row, recipe in recipes.items():
        peaks[row] = measured(recipe, PROCESSES.get(row, 1))
        print(f"{row}: {peaks[row] / MIB:,.0f} MiB", file=sys.stderr, flush=True)
    print("| MiB | weights | average | gradients | states | step | plan | measured | off |\n|---|" + "---:|" * 8)
    for row in recipes:
        plan = footprint(recipe_of(row, batch_size, f"hub:{PIPELINE}"), {PIPELINE: pipeline},
                         processes=PROCESSES.get(row, 1))  # fmt: skip
        parts = (plan.teacher + plan.student + plan.masters, plan.average, plan.gradients, plan.states, plan.step,
                 plan.total, peaks[row])  # fmt: skip
        cells = " | ".join(f"{part / MIB:,.0f}" for part in parts)
        print(f"| {row} | {cells} | {100 * (plan.total / peaks[row] - 1):+.0f} % |", flush=True)


if __name__ == "__main__":
    main()
