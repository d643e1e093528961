"""A teacher with a privileged view beside one with the student's own view.

    python benchmarks/views.py --data ../shared/data --steps 1500 --seeds 0 1 2

The published ResNet-20 of CIFAR-10 teaches a student at an eighth of its cost that sees less than it: grey for colour,
low resolution for high, night for day, one exposure for the mean of sixteen. For each pair the same student, from the
same first weights and in as many steps, is taught by the teacher in its privileged view, taught by the same net in the
student's own view, and trained by the labels alone. Prints accuracy on the test images in the student's view, mean and
standard deviation over seeds, and of each teacher in the view in which it taught.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from perception_data import cifar10

from kdgen import distill
from kdgen.presets import preset
from kdgen.recipe import Checkpoint, Recipe
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


def recipe(data: Path, images: Path, steps: int, seed: int, cache: Path) -> Recipe:
    """The preset ``classify`` with files that are at hand."""
    plain = preset("classify")
    assert isinstance(plain.teacher, Checkpoint)
    teacher = plain.teacher.model_copy(update={"file": str(data / "resnet-cifar10" / plain.teacher.file)})
    parts = {kind: {"name": "npz", "args": {"path": str(images), "split": split}}
             for kind, split in (("images", "train"), ("evaluate", "test"))}  # fmt: skip
    task = Spec(name="classify", args={**plain.task.args, **parts})
    update = {"task": task, "teacher": teacher, "seed": seed, "device": "cpu", "evaluate_every": None,
              "cache": plain.cache.model_copy(update={"dir": str(cache), "inputs": 8000})}  # fmt: skip
    return plain.model_copy(update=update).lasting(steps=steps)


def accuracies(
    plan: Recipe, student: list[Any], teacher: list[Any], folder: Path, *, controls: bool
) -> dict[str, float]:
    """Accuracy by role of a run in these views."""
    inner = plan.task.model_dump(mode="json")
    task = Spec(name="views", args={"task": inner, "student": student, "teacher": teacher})
    for _ in distill(plan.model_copy(update={"task": task, "controls": controls}), folder):
        pass
    return {row.role: row.metrics["accuracy"] for row in Report.read(folder).rows}


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
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("| pair | privileged teacher | its student | own-view teacher | its student | labels alone | better |\n"
          "|---|---:|---:|---:|---:|---:|---|", flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        images = cifar10(args.data / "cifar10-subset", folder)
        for pair in args.pairs:
            student, teacher = PAIRS[pair]
            taught: dict[str, list[dict[str, float]]] = {"privileged": [], "own": []}
            for seed in args.seeds:
                plan = recipe(args.data, images, args.steps, seed, folder / "cache")
                for kind, view in (("privileged", teacher), ("own", student)):
                    out = folder / f"{pair}-{kind}-{seed}".replace(" ", "-")
                    taught[kind].append(accuracies(plan, student, view, out, controls=kind == "privileged"))
            columns = [[row[role] for row in taught[kind]] for kind, role in (
                ("privileged", "teacher"), ("privileged", "student"), ("own", "teacher"), ("own", "student"),
                ("privileged", "control_steps"))]  # fmt: skip
            print(f"| {pair} | {' | '.join(map(shown, columns))} | {verdict(columns[1], columns[3])} |", flush=True)


if __name__ == "__main__":
    main()
