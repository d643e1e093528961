"""A teacher with a privileged view beside one with the student's own view.

    python benchmarks/views.py --data ../shared/data --steps 1500 --seeds 0 1 2

For each pair the same student, from the same first weights and in as many steps, is taught by a teacher in its
privileged view, taught by one that sees what the student does, and trained by the truth alone. Prints accuracy or PSNR
on test images in the student's view, mean and standard deviation over seeds, and of each teacher in the view in which
it taught.

Classes: the published ResNet-20 of CIFAR-10 teaches a student at an eighth of its cost that sees grey for colour, low
resolution for high, or night for day. The other teacher is the same net after it has learnt the student's view by
labels. Pictures: students see X-rays of one exposure for the mean of sixteen others, electroluminescence images of
solar cells in low resolution for high, and photographs by night for day. Each teacher is the bundled model for what it
sees, and as it is: nothing clean is at hand from which it could learn such images, as the truth of the last column is.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from perception_data import cifar10, told

from kdgen import distill
from kdgen.presets import preset
from kdgen.presets.views import seen as wrapped
from kdgen.recipe import CacheSpec, Checkpoint, Recipe, Stage
from kdgen.registry import Spec
from kdgen.report.compare import Report

DARK = {"name": "dark", "args": {"gain": 0.08, "gamma": 1.5, "noise": 4}}
SMALL = {"name": "shrink", "args": {"scale": 2}}
SMALLER = {"name": "shrink", "args": {"scale": 4}}

SAME = {"accuracy": 0.002, "psnr": 0.02}
"""Figures closer than this are called the same."""

KEPT = 5
"""Every so many images of a folder are kept for measuring."""


@dataclass(frozen=True)
class Place:
    """Where data are, where runs are made, and how long a teacher learns its student's view."""

    data: Path
    out: Path
    seconds: float


Pair = Callable[[Place, str], tuple[Recipe, Recipe]]
"""The runs by the privileged teacher and by the other, with a name for what they need."""


def seen(plan: Recipe, task: Spec, student: list[Any], teacher: list[Any], /, **changes: Any) -> Recipe:
    """A plan with a task as student and teacher see it."""
    plain = plan.model_copy(update={"task": task, "evaluate_every": None, **changes})
    return wrapped(plain, plan.name, student=student, teacher=teacher)


def classes(student: list[Any]) -> Pair:
    """A classifier that sees images in some way, and its teacher as they are."""

    def pair(place: Place, name: str) -> tuple[Recipe, Recipe]:
        plain = preset("classify")
        assert isinstance(plain.teacher, Checkpoint)
        file = place.data / "resnet-cifar10" / plain.teacher.file
        images = cifar10(place.data / "cifar10-subset", place.out)
        plan = plain.model_copy(update={"cache": plain.cache.model_copy(update={"inputs": 8000}),
                                        "teacher": plain.teacher.model_copy(update={"file": str(file)})})  # fmt: skip
        task = Spec(name="classify", args={**plain.task.args, **told(images)})
        own = at_home(plan, task, student, place.out / f"{name}-teacher", place.seconds)
        return seen(plan, task, student, []), seen(plan, task, student, student, teacher=own)

    return pair


def exposures(place: Place, name: str) -> tuple[Recipe, Recipe]:
    """X-rays under the noise of one exposure; the denoiser sees the mean of sixteen others, or the same one."""
    images = told(place.data / "pneumoniamnist" / "pneumoniamnist.npz")
    task = Spec(name="denoise", args={"sigma": 0, "channels": 1, "loss": "l1", "patch": 28, **images})
    plan = preset("denoise").model_copy(update={"batch_size": 16, "cache": CacheSpec(inputs=12_000)})
    one, mean = ([{"name": "noise", "args": {"sigma": sigma}}] for sigma in (48.0, 12.0))
    return seen(plan, task, one, mean), seen(plan, task, one, one)


def cells(place: Place, name: str) -> tuple[Recipe, Recipe]:
    """Solar cells a quarter as high and wide; the denoiser sees them whole, or the upscaler what the student does."""
    folders = {split: place.out / name / split for split in ("train", "test")}
    for number, file in enumerate(sorted((place.data / "elpv-subset" / "images").iterdir())):
        link = folders["test" if number % KEPT == 0 else "train"] / file.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to(file)
    images, test = ({"name": "folder", "args": {"path": str(folder)}} for folder in folders.values())
    args = {"loss": "l1", "patch": 128, "images": images, "evaluate": test}
    plan, noise = preset("upscale-x4"), {"name": "noise", "args": {"sigma": 2}}
    return (
        seen(plan, Spec(name="denoise", args={"sigma": 2, "channels": 3, **args}), [SMALLER], [], teacher="denoiser"),
        seen(plan, Spec(name="restore", args={"damages": [noise], **args}), [SMALLER], [SMALLER]),
    )


def photographs(place: Place, name: str) -> tuple[Recipe, Recipe]:
    """Photographs by night; the generalist sees them by day, or by night too."""
    plan = preset("night-sees-day")
    task = Spec.model_validate(plan.task.args["task"])
    return seen(plan, task, ["dark"], []), seen(plan, task, ["dark"], ["dark"])


PAIRS: dict[str, Pair] = {
    "grey for colour": classes(["grey"]),
    "low resolution for high": classes([SMALL]),
    "night for day": classes([DARK]),
    "one exposure for sixteen, X-rays": exposures,
    "low resolution for high, solar cells": cells,
    "night for day, photographs": photographs,
}


def at_home(plan: Recipe, task: Spec, view: list[Any], folder: Path, seconds: float) -> str:
    """The plan's teacher after it has learnt a view by labels, as a run."""
    assert isinstance(plan.teacher, Checkpoint)
    stages = (Stage(optimizer="muon", lr=1e-3),)
    own = seen(plan, task, view, [], teacher=None, student=plan.teacher.net, init=plan.teacher, stages=stages,
               cache=CacheSpec(inputs=0), controls=False, ema=0.99)  # fmt: skip
    made(own.lasting(seconds=seconds), folder)
    return str(folder)


def figures(plan: Recipe, folder: Path) -> tuple[str, dict[str, float]]:
    """What a plan's run is measured by, and that by role."""
    report = made(plan, folder)
    return report.primary_metric, {row.role: row.metrics[report.primary_metric] for row in report.rows}


def made(plan: Recipe, folder: Path) -> Report:
    """The report of a plan's run, which is made unless it is there."""
    if not (folder / "report.json").is_file():
        for _ in distill(plan, folder):
            pass
    return Report.read(folder)


def shown(values: list[float], metric: str) -> str:
    """Mean and standard deviation in words."""
    places = 3 if metric == "accuracy" else 2
    return f"{fmean(values):.{places}f}" + (f" ± {stdev(values):.{places}f}" if len(values) > 1 else "")


def verdict(privileged: list[float], own: list[float], metric: str) -> str:
    """Which teacher was the better one, judged by the mean difference of equal seeds and its standard error."""
    differences = [a - b for a, b in zip(privileged, own, strict=True)]
    error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    if abs(fmean(differences)) < max(SAME[metric], 2 * error):
        return f"the same ({fmean(differences):+.3f})"
    return f"{'privileged' if fmean(differences) > 0 else 'own'} ({fmean(differences):+.3f})"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with published weights and images")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--teacher-seconds", type=float, default=120, help="in which a classifier learns a view")
    parser.add_argument("--out", type=Path, default=Path("runs/views"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    place = Place(args.data.absolute(), args.out.absolute(), args.teacher_seconds)
    print("| pair | | privileged teacher | its student | own-view teacher | its student | the truth alone | better |\n"
          "|---|---|---:|---:|---:|---:|---:|---|", flush=True)  # fmt: skip
    for pair in args.pairs:
        name = pair.replace(", ", " ").replace(" ", "-")
        privileged, own = (plan.lasting(steps=args.steps) for plan in PAIRS[pair](place, name))
        taught: dict[str, list[dict[str, float]]] = {"privileged": [], "own": []}
        for seed in args.seeds:
            for kind, plan in (("privileged", privileged), ("own", own)):
                run = plan.model_copy(update={"seed": seed, "controls": kind == "privileged"})
                metric, row = figures(run, args.out / f"{name}-{args.steps}-{kind}-{seed}")
                taught[kind].append(row)
        columns = [[row[role] for row in taught[kind]] for kind, role in (
            ("privileged", "teacher"), ("privileged", "student"), ("own", "teacher"), ("own", "student"),
            ("privileged", "control_steps"))]  # fmt: skip
        shares = " | ".join(shown(column, metric) for column in columns)
        print(f"| {pair} | {'accuracy' if metric == 'accuracy' else 'PSNR (dB)'} | {shares} "
              f"| {verdict(columns[1], columns[3], metric)} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
