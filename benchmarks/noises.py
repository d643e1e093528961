"""A finished run of few steps under several noises: teacher, student and controls, mean and spread over the seeds.

    python benchmarks/noises.py runs/text-few runs/text-lora
    python benchmarks/noises.py runs/text-few --seeds 0 1 2 --metrics fd_features32 perceptual

Every seed draws other noise, for the nets and for the teacher's pictures that theirs are measured against. The
teacher's row has its own sampler's steps, in many and in as few as the student's.
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean, stdev

from kdgen import load, registry
from kdgen.models.model import Model
from kdgen.recipe import read
from kdgen.training import run as _run  # noqa: F401
from kdgen.types import Task

ROLES = ("student", "control_steps", "control_seconds")


def nets(folder: Path, teacher: Model) -> Iterator[tuple[str, Model]]:
    """The teacher, and what the run has trained."""
    yield "teacher", teacher
    for role in ROLES:
        home = folder / role if role == "student" else folder / "controls" / role
        if home.is_dir():
            yield role, load(home)


def measured(folder: Path, seeds: list[int]) -> dict[str, list[Mapping[str, float]]]:
    """The figures of each net of a run, a mapping for each seed."""
    recipe = read(folder / "recipe.json")
    task: Task = registry.build("task", recipe.task)
    assert recipe.teacher is not None, "a run of few steps has a teacher"
    teacher = load(recipe.teacher).eval()
    reference = task.guided(teacher.net)
    rows: dict[str, list[Mapping[str, float]]] = {}
    for role, model in nets(folder, teacher):
        net = reference if role == "teacher" else model.eval().net
        for seed in seeds:
            rows.setdefault(role, []).append(task.evaluate(net, reference=reference, seed=seed))
            print(folder.name, role, seed, dict(rows[role][-1]), flush=True)
    return rows


def spread(values: list[float]) -> str:
    """A mean and, of several, the sample standard deviation."""
    return f"{fmean(values):.3g}" + (f" ± {stdev(values):.2g}" if len(values) > 1 else "")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--metrics", nargs="+", default=["fd_features32", "perceptual", "r_precision"])
    args = parser.parse_args()
    lines = []
    for folder in args.runs:
        for role, figures in measured(folder, args.seeds).items():
            shown = [key for key in figures[0] if key.partition("@")[0] in args.metrics]
            lines += [
                f"| {folder.name} | {role} | {key} | {spread([each[key] for each in figures])} |" for key in shown
            ]
    print("\n| run | net | figure | mean and spread |\n|---|---|---|---:|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
