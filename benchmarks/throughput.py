"""Steps per second of the same distillation in kdgen, in a hand-written loop and in other libraries.

    python benchmarks/throughput.py --data ../shared/data --out throughput.json

Same nets, first weights, batches, losses and optimiser (AdamW at a constant rate). Every round runs each contender for
a few steps from the start, one after the other in this process; a figure is the median over the rounds. That the work
is the same shows in the students' losses on images that none was trained on:

    plain             the loop everybody writes: eager, float32
    plain bfloat16    the same with channels_last and bfloat16 autocast
    modelopt          the plain loop around NVIDIA's modelopt.torch.distill, where it is installed
    torchdistill      where it imports (it wants torchvision)
    kdgen float32     the teacher asked at every step, bfloat16 off
    kdgen             the teacher asked at every step, precision as the recipe's "auto" settles it in so few steps
    kdgen int8        the same with the teacher in 8-bit integers, as "auto" settles it in longer runs; not for features
    kdgen cached      the teacher's answers from disk

What came once stands apart: the seconds for cached answers, and for trying what suits the machine before the first
step.
"""

import argparse
import json
import statistics
from collections.abc import Mapping
from pathlib import Path

import torch
from contenders import Contender, Start, contenders
from torch import nn
from workloads import Workload, workloads

from kdgen.utils.conditions import call
from kdgen.utils.devices import machine
from kdgen.utils.seed import derive

HELD_OUT = 64
"""Images that the students' losses are compared on."""
SAME = 0.05
"""How far, relatively, the loss of a student may lie from that of the plain loop to pass for the same."""


@torch.inference_mode()
def held_out_loss(work: Workload, student: nn.Module) -> float:
    """A student's loss against the teacher on images that none was trained on, in float32."""
    start = Start(work, 0)
    held_out = next(start.task.batches(batch_size=HELD_OUT, seed=derive(work.recipe.seed, "held out")))
    batch = held_out.to(start.device)
    own, teacher = (call(net, batch.x, batch.cond) for net in (student.to(start.device).eval(), start.teacher))
    return start.loss(batch, own.float(), teacher.float()).item()


def race(work: Workload, everyone: Mapping[str, Contender], rounds: int) -> dict[str, dict[str, float]]:
    """Steps per second, ratios to the plain loop, seconds before the steps and final losses by contender."""
    seconds: dict[str, list[float]] = {name: [] for name in everyone}
    before: dict[str, float] = {}
    losses: dict[str, float] = {}
    for number in range(rounds + 1):
        for name, run in everyone.items():
            trained = run(work, 0)
            if number:  # the first round warms up
                seconds[name].append(trained.seconds)
            before[name] = trained.before
            losses[name] = held_out_loss(work, trained.student)
    base = statistics.median(seconds["plain"])
    return {
        name: {
            "steps_per_second": 1 / statistics.median(each),
            "slowest": 1 / max(each),
            "fastest": 1 / min(each),
            "ratio": base / statistics.median(each),
            "seconds_before": before[name],
            "loss": losses[name],
            "loss_off": losses[name] / losses["plain"] - 1,
        }
        for name, each in seconds.items()
    }


def main() -> None:
    """Run, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, help="folder with dncnn-saoyan; without it the denoiser's weights are random"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="denoiser, features, diffusion, gan")
    parser.add_argument("--scale", type=float, default=1.0, help="times the steps of a round")
    parser.add_argument("--out", type=Path, default=Path("throughput.json"))
    args = parser.parse_args()
    everyone, absent = contenders()
    where = f"{machine(torch.device('cpu'))}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    report: dict[str, object] = {"machine": where, "rounds": args.rounds, "absent": absent, "workloads": {}}
    print(f"{where}; median of {args.rounds} rounds\n")
    for name, reason in absent.items():
        print(f"{name} takes no part: {reason}\n")
    for key, work in workloads(args.data).items():
        if args.only and key not in args.only:
            continue
        features = any(use.name == "feature" for use in work.recipe.stages[0].methods)
        taking_part = {name: run for name, run in everyone.items() if not (features and name == "kdgen int8")}
        steps = max(round(work.steps * args.scale), 1)
        work = Workload(name=work.name, recipe=work.recipe, teacher=work.teacher, steps=steps)
        figures = race(work, taking_part, args.rounds)
        report["workloads"][key] = {"steps": steps, "contenders": figures}
        print(f"| {work.name}, {steps} steps | steps/s | ratio | loss | s before |\n|---|---:|---:|---:|---:|")
        for name, row in figures.items():
            mark = "" if abs(row["loss_off"]) <= SAME else f" ({row['loss_off']:+.0%})"
            print(f"| {name} | {row['steps_per_second']:.2f} | {row['ratio']:.2f} | {row['loss']:.5f}{mark} "
                  f"| {row['seconds_before']:.1f} |", flush=True)  # fmt: skip
        print()
        args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
