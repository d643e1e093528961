"""Steps per second: the loop everybody writes, kdgen asking the teacher at every step, kdgen with cached answers.

    python benchmarks/steps.py --data ../shared/data

The same work in one process: a published 17-layer DnCNN teaches a student of 57,828 parameters on dead leaves, 16
patches of 48x48 a step, L1 to the teacher's answer, AdamW, the same schedule and number of steps. PSNR on Set12 (grey,
sigma 25) shows that the result is the same. The plain loop and kdgen's uncached one see the same batches.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from denoiser import teacher_in
from torch import nn

from kdgen import Recipe, distill, load
from kdgen.models.model import build_net
from kdgen.recipe import CacheSpec, Guidance, Stage
from kdgen.registry import Spec, build
from kdgen.training.schedule import learning_rate
from kdgen.utils.seed import derive

STAGE = Stage(methods=(Guidance(name="output", args={"loss": "l1"}),), optimizer="adamw", lr=4e-3, clip=0.0)
STUDENT = Spec(name="half_res")
PATCH, BATCH = 48, 16


def task(data: Path) -> Spec:
    """Dead leaves to train on, Set12 to evaluate on."""
    folder = {"name": "folder", "args": {"path": str(data / "denoise-sets" / "Set12")}}
    return Spec(name="denoise", args={"sigma": 25, "patch": PATCH, "evaluate": folder})


def plain(data: Path, steps: int, seed: int) -> tuple[float, nn.Module]:
    """The loop everybody writes: eager, float32. Seconds a step, and the student."""
    big = load(teacher_in(data)).net.eval()
    torch.manual_seed(derive(seed, "weights"))
    student, _ = build_net(STUDENT, 1)
    optimizer = torch.optim.AdamW(student.parameters(), lr=STAGE.lr, weight_decay=0.0)
    batches = build("task", task(data)).batches(batch_size=BATCH, seed=derive(seed, "data", 0))
    started = time.perf_counter()
    for step in range(steps):
        batch = next(batches)
        with torch.no_grad():
            target = big(batch.x)
        loss = F.l1_loss(student(batch.x), target)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(STAGE, step / steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (time.perf_counter() - started) / steps, student


def kdgen(data: Path, steps: int, seed: int, patches: int) -> tuple[float, float, nn.Module]:
    """The same through kdgen. Seconds a step, seconds for the cached answers, and the student."""
    work = Path(tempfile.mkdtemp())
    recipe = Recipe(
        name="steps", task=task(data), teacher=teacher_in(data), student=STUDENT, stages=(STAGE,), steps=steps,
        seed=seed, batch_size=BATCH, cache=CacheSpec(inputs=patches, dir=str(work / "cache")), ema=0.0, controls=False,
        evaluate_every=None, checkpoint_every=1e9,
    )  # fmt: skip
    training = answers = 0.0
    for event in distill(recipe, work / "run"):
        if event.kind == "answers":
            answers = event.data["seconds"]
        if event.kind == "phase":
            training = event.data["seconds"]
    student = load(work / "run").net
    shutil.rmtree(work)
    return training / steps, answers, student


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with dncnn-saoyan and denoise-sets")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patches", type=int, default=4000, help="cached answers")
    args = parser.parse_args()
    measure = build("task", task(args.data)).evaluate
    base, student = plain(args.data, args.steps, args.seed)
    rows = [("plain loop, eager float32", base, 0.0, measure(student)["psnr"])]
    for name, patches in (("kdgen, teacher asked at every step", 0), (f"kdgen, {args.patches} cached", args.patches)):
        seconds, answers, student = kdgen(args.data, args.steps, args.seed, patches)
        rows.append((name, seconds, answers, measure(student)["psnr"]))
    print(f"{args.steps} steps on {torch.get_num_threads()} thread(s)\n")
    print("| loop | steps/s | ratio | seconds for answers | Set12 PSNR (dB) |\n|---|---:|---:|---:|---:|")
    for name, seconds, answers, psnr in rows:
        print(f"| {name} | {1 / seconds:.2f} | {base / seconds:.1f} | {answers:.0f} | {psnr:.2f} |")


if __name__ == "__main__":
    main()
