"""A student of two tasks beside two students of one each, of the same cost together.

    python benchmarks/two_tasks.py --preset diagnose --steps 2000 --seeds 0 1 2

Single students are the same net with about half the multiply-accumulates, taught by one of the two teachers for as many
steps on the same batches, so that both together take what the student of two tasks takes, in training and in use. All
are measured on the same damaged images after the last step. Needs what the preset names, its classifier too.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from kdgen import Recipe, Spec, distill, preset, resume
from kdgen.recipe import CacheSpec
from kdgen.report.report import Report, Row

FIGURES = {"restore": "psnr", "classify": "accuracy"}
"""What each of the two tasks is judged by."""


def single(recipe: Recipe, part: str) -> Recipe:
    """The recipe with half the net, for one of its parts alone."""
    widths = [round(width * 0.5**0.5) for width in (16, 32, 64)]
    own = tuple(
        stage.model_copy(update={"methods": tuple(
            use for use in stage.methods if (use.teacher or "restore") == part)}) for stage in recipe.stages
    )  # fmt: skip
    task = recipe.task.model_dump(mode="json")
    task["args"]["task"]["args"]["weights"] = {name: float(name == part) for name in FIGURES}
    net = Spec(name=recipe.student.name, args={**recipe.student.args, "widths": widths})
    return recipe.model_copy(update={"student": net, "stages": own, "task": Spec.model_validate(task)})


def student(recipe: Recipe, folder: Path) -> tuple[Row, list[Row]]:
    """The student's row of a run and the teachers', trained unless it is there."""
    if not (folder / "report.json").is_file():
        for event in resume(folder) if (folder / "recipe.json").is_file() else distill(recipe, folder):
            if event.kind in ("phase", "warning"):
                print(f"{folder.name} {event.phase}: {dict(event.data)}", flush=True)
            if event.kind == "stopped":
                raise SystemExit(130)
    report = Report.read(folder)
    row = report.find("student")
    assert row is not None, "a run has a student"
    return row, report.taught


def shown(rows: list[Row], part: str) -> str:
    """The figure of a part, its mean and its spread over seeds."""
    values = [row.metrics[FIGURES[part]] for row in rows]
    spread = f" ± {stdev(values):.3g}" if len(values) > 1 else ""
    return f"{fmean(values):.4g}{spread}"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=("two-teachers", "diagnose"), default="two-teachers")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--inputs", type=int, default=8000, help="that the teachers answer; 0 asks at every step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/two-tasks"))
    args = parser.parse_args()
    found: dict[str, list[Row]] = {}
    teachers: list[Row] = []
    for seed in args.seeds:
        cache = CacheSpec(inputs=args.inputs)
        changes: Mapping[str, Any] = {"cache": cache, "seed": seed, "controls": False, "evaluate_every": None}
        both = preset(args.preset).lasting(steps=args.steps).model_copy(update=changes)
        for name, recipe in {"both": both, **{part: single(both, part) for part in FIGURES}}.items():
            row, teachers = student(recipe, args.out / f"{args.preset}-{args.steps}-{name}-{seed}")
            found.setdefault(name, []).append(row)
    print("\n| | MACs | PSNR (dB) | accuracy |\n|---|---:|---:|---:|")
    for row in teachers:
        print(f"| {row.name} | {row.macs:,} | " + " | ".join(
            f"{row.metrics[key]:.4g}" if key in row.metrics else "" for key in FIGURES.values()) + " |")  # fmt: skip
    print(f"| two tasks in one | {found['both'][0].macs:,} | " + " | ".join(
        shown(found["both"], part) for part in FIGURES) + " |")  # fmt: skip
    for part in FIGURES:
        figures = [shown(found[part], part) if part == each else "" for each in FIGURES]
        print(f"| {part} alone | {found[part][0].macs:,} | {' | '.join(figures)} |")


if __name__ == "__main__":
    main()
