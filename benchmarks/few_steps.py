"""Every few-step preset on this machine in one table, beside the teacher at 1 to 50 steps, a baseline and a control.

    python benchmarks/few_steps.py
    python benchmarks/few_steps.py consistency progressive --seconds 120 --out runs/few
    python benchmarks/few_steps.py progressive --noise 1 2 3   # two steps of it, eight of the teacher, from other noise
    python benchmarks/few_steps.py --teacher runs/cifar10 --data cifar10 --seconds 600 --num-images 5000   # on a GPU

Each is a run of `kdgen distill PRESET` in a folder of its own; those that are there already are gone on with, not begun
anew, and not measured anew where they are done. Distances are to as many images of the teacher from other noise, drawn
by Heun's method in 49 calls; so drawn from this noise, the teacher says how far equal distributions are apart in so few
samples. In fewer steps it is drawn by DDIM's, one call each, which for this teacher is better at 8 calls than Heun's. A
ladder's figures are those of the rung made for that number of steps. With --data the control without a teacher learns
from that folder, else from the teacher's images. Those are drawn before the first run that learns from them, and count
for none. It prints the table after each preset, and writes `few_steps.json`.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from kdgen import Model, Recipe, distill, load, preset, resume
from kdgen.diffusion.few_steps import trailing_sigmas
from kdgen.metrics import cost
from kdgen.models.sampling import draw_few
from kdgen.recipe import override
from kdgen.registry import build
from kdgen.report.report import Report, count
from kdgen.utils.devices import machine, pick_device

PRESETS = ("consistency-distillation", "consistency-adversarial", "distribution-matching", "few-steps-baseline",
           "score-identity", "consistency", "progressive", "rectified-flow", "mean-flow", "few-steps-control",
           "small-and-few", "small-only")  # fmt: skip
STEPS = (1, 2, 4)
TIMED = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A row of the table: a model at a number of steps."""

    model: str
    steps: int
    calls: int
    fd: float
    precision: float
    recall: float
    ms_per_image: float
    macs: float
    seconds: float | None = None

    def cells(self) -> list[str]:
        """As text."""
        return [self.model, str(self.steps), str(self.calls), f"{self.fd:.2f}", f"{self.precision:.2f}",
                f"{self.recall:.2f}", f"{self.ms_per_image:.1f}", count(self.macs * self.calls),
                "" if self.seconds is None else f"{self.seconds:.0f}"]  # fmt: skip


def recipe_of(name: str, args: argparse.Namespace) -> Recipe:
    """A preset with the settings of this benchmark."""
    recipe = preset(name)
    settings = [f"seed={args.seed}", f"task.args.num_images={args.num_images}"]
    if args.teacher != "diffusion":
        task = load(args.teacher).task
        for key in ("size", "channels"):
            settings += [f"task.args.{key}={task[key]}", f"student.args.{key}={task[key]}"]
            settings += [f"assistants.{i}.student.args.{key}={task[key]}" for i in range(len(recipe.assistants))]
        settings += [f"task.args.images.args.model={args.teacher}"]
        settings += [] if recipe.teacher is None else [f"teacher={args.teacher}"]
    if args.data and recipe.teacher is None:
        folder = {"name": "folder", "args": {"path": args.data, "whole": True}}
        settings += [f"task.args.images={json.dumps(folder)}"]
    recipe = override(recipe, [*settings, *args.set])
    return recipe if args.seconds is None else recipe.lasting(seconds=args.seconds)


def timed(draw: Callable[[int], Tensor]) -> float:
    """Milliseconds for an image of those drawn at once."""
    draw(2)
    started = time.perf_counter()
    draw(TIMED)
    return 1000 * (time.perf_counter() - started) / TIMED


def of_teacher(teacher: Model, task: Any) -> Iterator[Line]:
    """The teacher at few steps by its own sampler, and at many."""
    net, shape = teacher.net, (task.channels, task.size, task.size)
    macs = cost.macs(net, task.example().x, task.example().cond)

    def line(steps: int, calls: int, figures: Any, draw: Callable[[int], Tensor]) -> Line:
        return Line(model=f"{teacher.name}, the teacher", steps=steps, calls=calls, fd=figures[task.primary_metric],
                    precision=figures["precision"], recall=figures["recall"], ms_per_image=timed(draw),
                    macs=macs)  # fmt: skip

    table: Any = getattr(net, "timesteps", "linear")
    for steps in (*STEPS, 8):

        def draw(number: int, steps: int = steps) -> Tensor:
            return draw_few(net, shape, number, 0, trailing_sigmas(steps, table), "euler")

        yield line(steps, steps, task.apart(draw(task.num_images), net), draw)
    many = task.num_steps
    figures = task.evaluate(net, reference=net)
    yield line(2 * many, 2 * many - 1, figures, lambda number: task.draw_teacher(net, num_images=number))


def homes(folder: Path, recipe: Recipe) -> list[tuple[Path, int | None]]:
    """The folders of a run's nets; of a ladder with the number of steps that each was made for, else with None."""
    if not recipe.assistants:
        return [(folder / "student", None)]
    rungs = [link.stages[-1].methods[0].args["steps"] for _, link in recipe.links()]
    at = [folder / "assistants" / f"assistant_{i + 1}" for i in range(len(recipe.assistants))] + [folder / "student"]
    return [(home, int(str(steps))) for home, steps in zip(at, rungs, strict=True)]


def of_run(name: str, folder: Path, recipe: Recipe, task: Any, teacher: Model) -> Iterator[Line]:
    """The student of a run; of a ladder each rung, at the steps it was made for."""
    report = Report.read(folder)
    rows = [row for row in report.rows if row.role in ("assistant", "student")]
    for row, (home, rung) in zip(rows, homes(folder, recipe), strict=True):
        net = load(home).net
        for steps in sorted(task.steps):
            if rung is not None and (steps != rung or rung not in STEPS):
                continue

            def draw(number: int, net: Any = net, steps: int = steps) -> Tensor:
                images: Tensor = task.draw_in(net, steps, num_images=number)
                return images

            figures = {key.removesuffix(f"@{steps}"): value for key, value in row.metrics.items()}
            if recipe.teacher is None:  # its report compares with the images that it learnt from
                figures = dict(task.apart(draw(task.num_images), teacher.net))
            fd, precision, recall = (figures[key] for key in (task.primary_metric, "precision", "recall"))
            yield Line(model=name, steps=steps, calls=steps, fd=fd, precision=precision, recall=recall,
                       ms_per_image=timed(draw), macs=row.macs, seconds=rows[-1].seconds)  # fmt: skip


def show(lines: list[Line]) -> None:
    """Print the table, and whose two steps are nearer than the teacher's eight."""
    titles = ["model", "steps", "calls", "fd", "precision", "recall", "ms/image", "MACs/image", "seconds of training"]
    print(f"\n| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}")
    print("\n".join(f"| {' | '.join(line.cells())} |" for line in lines))
    bar = next(line for line in lines if line.steps == 8 and "the teacher" in line.model)
    nearer = [line.model for line in lines if line.steps == 2 and line.fd < bar.fd]
    print(
        f"\nNearer to the teacher in 2 steps than it is in 8 ({bar.fd:.2f}): {', '.join(nearer) or 'none'}.", flush=True
    )


def drawn(task: Any, net: Any, num_images: int, seed: int) -> Tensor:
    """Images of a student in two steps."""
    images: Tensor = task.draw_in(net, 2, num_images=num_images, seed=seed)
    return images


def from_noise(name: str, seeds: Sequence[int], task: Any, teacher: Model, draw: Callable[[int], Tensor]) -> None:
    """Print how far images are, drawn from the noise of each seed: their mean, and the sample standard deviation."""
    found = [task.apart(draw(seed), teacher.net)[task.primary_metric] for seed in seeds]
    each = ", ".join(f"{value:.2f}" for value in found)
    print(f"{name}, other noise: {each}; mean {mean(found):.2f} ± {stdev(found):.2f}", flush=True)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=PRESETS, help="default all for few steps")
    parser.add_argument("--teacher", default="diffusion", help="a diffusion model: bundled, a run, a folder")
    parser.add_argument("--data", help="a folder of images for the control; default the teacher's own images")
    parser.add_argument("--seconds", type=float, help="for each student; default what the preset says")
    parser.add_argument("--num-images", type=int, default=500, help="for each figure")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=int, nargs="+", default=[], help="also draw from these seeds, two or more")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of every recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/few-steps"))
    args = parser.parse_args()
    device = pick_device("auto")
    teacher = load(args.teacher).to(device)
    task = build("task", recipe_of(args.presets[0], args).task)
    lines = list(of_teacher(teacher.eval(), task))
    if args.noise:
        table: Any = getattr(teacher.net, "timesteps", "linear")
        shape, eight = (task.channels, task.size, task.size), trailing_sigmas(8, table)
        from_noise("the teacher in 8 steps", args.noise, task, teacher,
                   lambda seed: draw_few(teacher.net, shape, args.num_images, seed, eight, "euler"))  # fmt: skip
    for name in args.presets:
        recipe, folder = recipe_of(name, args), args.out / name
        task = build("task", recipe.task)
        next(task.batches(batch_size=1, seed=0))  # so that its images lie on disk
        begun, done = (folder / "recipe.json").is_file(), (folder / "report.json").is_file()
        for event in () if done else resume(folder) if begun else distill(recipe, folder):
            if event.kind in ("phase", "warning", "evaluate"):
                print(f"{name} {event.phase} at step {event.step}: {dict(event.data)}", flush=True)
        lines += of_run(name, folder, recipe, task, teacher)
        show(lines)
        two = next((home for home, rung in homes(folder, recipe) if rung in (None, 2)), None)
        if args.noise and two is not None:
            net = load(two).net
            from_noise(f"{name} in 2 steps", args.noise, task, teacher, partial(drawn, task, net, args.num_images))
        known = {"machine": machine(device), "threads": torch.get_num_threads(), "num_images": args.num_images}
        record = {**known, "seed": args.seed, "lines": [asdict(line) for line in lines]}
        (args.out / "few_steps.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
