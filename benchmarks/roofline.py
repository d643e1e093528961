"""Where the time of a step goes, and how near the nets come to what the machine can do.

    python benchmarks/roofline.py --out roofline.json

Runs recipes through kdgen's own loop with a clock around each part: the teacher's forward pass, the student's forward
and backward pass, the optimiser, reading or making the batch; what remains is the loop's own. "Outside" is everything
but the nets and the optimiser. The machine's peak is what a large matrix product and a wide 3x3 convolution reach here;
a step's share of it is the time that its multiply-accumulates would take at the convolution's peak, each net's in the
precision that it computes in, over the time that the nets took. A backward pass counts as two forward ones. Times are
medians of rounds that alternate between the recipes; the peak is the best of all rounds.
"""

import argparse
import json
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from workloads import Workload, workloads

import kdgen.training.train_step
from kdgen import Recipe, distill, load, preset
from kdgen.metrics import macs
from kdgen.models.model import build_net
from kdgen.registry import build
from kdgen.training.optimizers import Optimizer
from kdgen.training.train_step import Learner
from kdgen.training.trainer import Trainer
from kdgen.utils.devices import channels_last, fastest_seconds, machine

PARTS = ("teacher forward", "student forward", "student backward", "optimiser", "batch")
NETS = PARTS[:4]
ANSWER = Learner._answer


class Clock:
    """Seconds by part, and the number of steps."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.steps = 0
        self.teacher = ""

    def answering(self, learner: Learner, *args: Any) -> Any:
        """The teacher asked, timed, and what it answered in noted."""
        self.teacher = learner.teacher.precision if learner.teacher is not None else ""
        return self.around("teacher forward", ANSWER)(learner, *args)

    def around(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                self.seconds[part] += time.perf_counter() - began

        return timed

    def batches(self, stream: Iterator[Any]) -> Iterator[Any]:
        """The stream, each batch timed."""
        following = self.around("batch", lambda: next(stream))
        while True:
            yield following()


class Timed:
    """While open, the loop's parts are timed by a clock."""

    def __init__(self, clock: Clock) -> None:
        self.places = [
            (Learner, "_answer", lambda learner, *args: clock.answering(learner, *args)),
            (Learner, "_look", clock.around("student forward", Learner._look)),
            (
                kdgen.training.train_step,
                "backward",
                clock.around("student backward", kdgen.training.train_step.backward),
            ),
            (Optimizer, "step", clock.around("optimiser", Optimizer.step)),
            (Trainer, "_stream", lambda trainer, make=Trainer._stream: clock.batches(make(trainer))),
        ]
        self.before = [(owner, name, getattr(owner, name)) for owner, name, _ in self.places]

    def __enter__(self) -> None:
        for owner, name, function in self.places:
            setattr(owner, name, function)

    def __exit__(self, *error: object) -> None:
        for owner, name, function in self.before:
            setattr(owner, name, function)


@torch.inference_mode()
def peaks(dtype: torch.dtype) -> dict[str, float]:
    """Multiply-accumulates a second of a product of 1024x1024 matrices and of a 3x3 convolution of 64 channels."""
    cpu, (a, b) = torch.device("cpu"), torch.randn(2, 1024, 1024).to(dtype)
    conv = channels_last(nn.Conv2d(64, 64, 3, padding=1)).to(dtype)
    x = torch.randn(16, 64, 48, 48).to(dtype).contiguous(memory_format=torch.channels_last)
    return {
        "matrix": 1024**3 / fastest_seconds(lambda: a @ b, cpu, 9),
        "convolution": x.numel() * 64 * 9 / fastest_seconds(lambda: conv(x), cpu, 9),
    }


def measure(name: str, recipe: Recipe, teacher: nn.Module, steps: int, inputs: int) -> dict[str, Any]:
    """One recipe: seconds a step by part, and the nets' multiply-accumulates a second."""
    folder = Path(tempfile.mkdtemp())
    spec = recipe.cache.model_copy(update={"inputs": inputs, "dir": str(folder / "cache")})
    more = {"cache": spec, "controls": False, "evaluate_every": None, "checkpoint_every": 1e9}
    recipe = recipe.lasting(steps=steps).model_copy(update=more)
    clock, seconds, dtype = Clock(), 0.0, ""
    with Timed(clock):
        for event in distill(recipe, folder / "run", teacher=teacher):
            if event.kind == "phase":
                seconds = event.data["seconds"]
                break
    dtype = torch.load(folder / "run" / "checkpoints" / "student" / "last.pt")["dtype"]
    shutil.rmtree(folder)
    batch = next(build("task", recipe.task).batches(batch_size=1, seed=0))
    student, _ = build_net(recipe.student, getattr(build("task", recipe.task), "channels", 1))
    crop = (recipe.cache.crop or batch.x.shape[-1]) if inputs else batch.x.shape[-1]
    x = batch.x[..., :crop, :crop] if batch.x.ndim == 4 else batch.x
    work = {"student": 3 * macs(student, x, batch.cond), "teacher": 0 if inputs else macs(teacher, x, batch.cond)}
    each = {part: clock.seconds[part] / steps for part in PARTS}
    total = seconds / steps
    inside = sum(each[part] for part in NETS)
    return {
        "name": name,
        "dtype": {"student": dtype, "teacher": clock.teacher},
        "steps": steps,
        "seconds": total,
        "parts": each | {"loop": total - inside - each["batch"]},
        "outside": 1 - inside / total,
        "macs": {net: recipe.batch_size * each for net, each in work.items()},
        "in_nets": sum(each[part] for part in NETS[:3]),
    }


def middle(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A recipe's figures from those of its rounds: medians of all times, and of what lay outside the nets."""
    parts = {part: statistics.median(row["parts"][part] for row in rows) for part in rows[0]["parts"]}
    times = {key: statistics.median(row[key] for row in rows) for key in ("seconds", "outside", "in_nets")}
    return {**rows[0], **times, "parts": parts}


def main() -> None:
    """Run, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with the published denoiser; without it, random weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0, help="times the steps")
    parser.add_argument("--out", type=Path, default=Path("roofline.json"))
    args = parser.parse_args()
    known: dict[str, Workload] = dict(workloads(args.data))
    mine, asking = preset("denoise"), known["denoiser"].recipe.model_copy(update={"precision": "int8"})
    plans = [
        ("preset denoise, cached", mine, load(str(mine.teacher)).net, 150, 512),
        ("denoiser 17x64 to 7x24, cached", known["denoiser"].recipe, known["denoiser"].teacher, 60, 512),
        ("denoiser 17x64 to 7x24, teacher asked", asking, known["denoiser"].teacher, 20, 0),
        ("diffusion U-Net, teacher asked", known["diffusion"].recipe, known["diffusion"].teacher, 15, 0),
        ("GAN generator, teacher asked", known["gan"].recipe, known["gan"].teacher, 60, 0),
    ]
    seen: dict[str, list[dict[str, Any]]] = {}
    peak: dict[str, dict[str, float]] = {"float32": {}, "bfloat16": {}}
    for number in range(args.rounds + 1):
        for dtype, best in peak.items():
            reached = peaks(getattr(torch, dtype))
            best.update({kind: max(rate, best.get(kind, 0.0)) for kind, rate in reached.items()})
        for name, recipe, teacher, steps, inputs in plans:
            row = measure(name, recipe, teacher, max(round(steps * args.scale), 2), inputs)
            if number:  # the first round warms up
                seen.setdefault(name, []).append(row)
    where = f"{machine(torch.device('cpu'))}, {torch.get_num_threads()} thread(s), torch {torch.__version__}"
    print(f"{where}; medians of {args.rounds} rounds\n\n| GMAC/s | matrix | convolution |\n|---|---:|---:|")
    for dtype, each in peak.items():
        cells = [f"{each[kind] / 1e9:.0f}" if kind in each else "" for kind in ("matrix", "convolution")]
        print(f"| {dtype} | {' | '.join(cells)} |")
    columns = [*PARTS, "loop"]
    print(f"\n| ms a step | all | {' | '.join(columns)} | outside | GMAC/s | of convolution peak |")
    print("|---|" + "---:|" * (len(columns) + 4))
    rows = [middle(each) for each in seen.values()]
    for row in rows:
        parts = " | ".join(f"{1e3 * row['parts'][part]:.2f}" for part in columns)
        asked = {net: each for net, each in row["macs"].items() if each}
        known_peaks = all(row["dtype"][net] in peak for net in asked)
        at_peak = (
            sum(each / peak[row["dtype"][net]]["convolution"] for net, each in asked.items()) if known_peaks else 0
        )
        precisions = " and ".join(f"{net} in {row['dtype'][net]}" for net in asked)
        rate, share = sum(asked.values()) / row["in_nets"] / 1e9, at_peak / row["in_nets"]
        print(f"| {row['name']}, {precisions} | {1e3 * row['seconds']:.1f} | {parts} | {row['outside']:.1%} "
              f"| {rate:.0f} | {f'{share:.0%}' if known_peaks else ''} |")  # fmt: skip
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\npeak memory of the process: {memory:.2f} GiB")
    report = {"machine": where, "rounds": args.rounds, "peaks": peak, "rows": rows, "peak_gib": memory}
    args.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
