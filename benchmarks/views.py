"""A teacher with a privileged view beside one with the student's own view.

    python benchmarks/views.py --data ../shared/data --steps 1500 --seeds 0 1 2

The published ResNet-20 of CIFAR-10 teaches a student at an eighth of its cost that sees less than it: grey for colour,
low resolution for high, night for day, one exposure for the mean of sixteen. For each pair the same student, from the
same first weights and in as many steps, is taught by the teacher in its privileged view, taught by the same net after
it has learnt the student's view by labels, and trained by the labels alone. Prints accuracy on the test images in the
student's view, mean and standard deviation over seeds, and of each teacher in the view in which it taught.
"""

import argparse
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from perception_data import cifar10, told

from kdgen import distill
from kdgen.presets import preset
from kdgen.recipe import CacheSpec, Checkpoint, Recipe, Stage
from kdgen.registry import Spec
from kdgen.report.compare import Report

DARK = {"name": "dark", "args": {"gain": 0.08, "gamma": 1.5, "noise": 4}}
PAIRS: dict[str, tuple[list[Any], list[Any]]] = {
    "grey for colour": (["grey"], []),
    "low resolution for high": ([{"name": "shrink", "args": {"scale": 2}}], []),
    "night for day": ([DARK], []),
    "one exposure for sixteen": ([{"name": "noise", "args": {"sigma": 60}}],
                                 [{"name": "noise", "args": {"sigma": 15}}]),
}  # fmt: skip
"""What the student sees, and what the privileged teacher does."""

SAME = 0.002
"""Accuracies closer than this are called the same."""


def recipe(data: Path, images: Path) -> Recipe:
    """The preset ``classify`` with files that are at hand."""
    plain = preset("classify")
    assert isinstance(plain.teacher, Checkpoint)
    teacher = plain.teacher.model_copy(update={"file": str(data / "resnet-cifar10" / plain.teacher.file)})
    task = Spec(name="classify", args={**plain.task.args, **told(images)})
    return plain.model_copy(update={"task": task, "teacher": teacher, "evaluate_every": None})


def seen(plan: Recipe, student: list[Any], teacher: list[Any]) -> Spec:
    """The task, as student and teacher see it."""
    inner = plan.task.model_dump(mode="json")
    return Spec(name="views", args={"task": inner, "student": student, "teacher": teacher})


def at_home(plan: Recipe, view: list[Any], folder: Path, seconds: float) -> str:
    """The plan's teacher after it has learnt a view by labels, as a run."""
    assert isinstance(plan.teacher, Checkpoint)
    changes = {"teacher": None, "student": plan.teacher.net, "init": plan.teacher, "task": seen(plan, view, []),
               "stages": (Stage(optimizer="muon", lr=1e-3),), "cache": CacheSpec(inputs=0), "controls": False,
               "ema": 0.99}  # fmt: skip
    made(plan.model_copy(update=changes).lasting(seconds=seconds), folder)
    return str(folder)


def accuracies(plan: Recipe, folder: Path) -> dict[str, float]:
    """Accuracy by role of a plan's run."""
    return {row.role: row.metrics["accuracy"] for row in made(plan, folder).rows}


def made(plan: Recipe, folder: Path) -> Report:
    """The report of a plan's run, which is made unless it is there."""
    if not (folder / "report.json").is_file():
        for _ in distill(plan, folder):
            pass
    return Report.read(folder)


def shown(values: list[float]) -> str:
    """Mean and standard deviation in words."""
    return f"{fmean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def verdict(privileged: list[float], own: list[float]) -> str:
    """Which teacher was the better one, judged by the mean difference of equal seeds and its standard error."""
    differences = [a - b for a, b in zip(privileged, own, strict=True)]
    error = stdev(differences) / len(differences) ** 0.5 if len(differences) > 1 else 0.0
    if abs(fmean(differences)) < max(SAME, 2 * error):
        return f"the same ({fmean(differences):+.3f})"
    return f"{'privileged' if fmean(differences) > 0 else 'own'} ({fmean(differences):+.3f})"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with resnet-cifar10 and cifar10-subset")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--teacher-seconds", type=float, default=120, help="in which it learns the student's view")
    parser.add_argument("--out", type=Path, default=Path("runs/views"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    plan = recipe(args.data.absolute(), cifar10(args.data / "cifar10-subset", args.out.absolute()))
    short = plan.model_copy(update={"cache": plan.cache.model_copy(update={"inputs": 8000})}).lasting(steps=args.steps)
    print("| pair | privileged teacher | its student | own-view teacher | its student | labels alone | better |\n"
          "|---|---:|---:|---:|---:|---:|---|", flush=True)  # fmt: skip
    for pair in args.pairs:
        student, teacher = PAIRS[pair]
        name = pair.replace(" ", "-")
        own = at_home(plan, student, args.out / f"{name}-teacher", args.teacher_seconds)
        taught: dict[str, list[dict[str, float]]] = {"privileged": [], "own": []}
        for seed in args.seeds:
            for kind, changes in (
                ("privileged", {"task": seen(plan, student, teacher), "controls": True}),
                ("own", {"task": seen(plan, student, student), "teacher": own, "controls": False}),
            ):
                run = short.model_copy(update={**changes, "seed": seed})
                taught[kind].append(accuracies(run, args.out / f"{name}-{args.steps}-{kind}-{seed}"))
        columns = [[row[role] for row in taught[kind]] for kind, role in (
            ("privileged", "teacher"), ("privileged", "student"), ("own", "teacher"), ("own", "student"),
            ("privileged", "control_steps"))]  # fmt: skip
        print(f"| {pair} | {' | '.join(map(shown, columns))} | {verdict(columns[1], columns[3])} |", flush=True)


if __name__ == "__main__":
    main()
