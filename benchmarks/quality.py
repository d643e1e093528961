"""Quality against seconds of training, the student and its controls, as curves.

    python benchmarks/quality.py denoise --seconds 100 --out runs/quality
    python benchmarks/quality.py gan --seconds 100 --out runs/quality-gan

Runs a preset or a recipe with many quick evaluations and draws the task's own headline figure (PSNR of a restorer in
dB, the Frechet distance of a generator) against the seconds that made the net: the teacher's answers count for the
student, which therefore starts late. Quick evaluations look at few images, and take none of the seconds.
"""

import argparse
import json
from pathlib import Path

import matplotlib.pyplot as plt

from kdgen import distill
from kdgen.cli.arguments import find_recipe, register_all


def main() -> None:
    """Run, draw and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a preset, or a recipe as JSON")
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--points", type=int, default=12, help="evaluations of each net")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark-quality"))
    args = parser.parse_args()
    register_all(None)
    recipe = find_recipe(args.recipe).lasting(seconds=args.seconds)
    recipe = recipe.model_copy(update={"evaluate_every": args.seconds / args.points})
    primary_metric, answers = "", 0.0
    curves: dict[str, list[tuple[float, float]]] = {}
    for event in distill(recipe, args.out):
        if event.kind == "start":
            primary_metric = event.data["primary_metric"]
        if event.kind == "answers" and event.phase == "student" and not event.data["from_disk"]:
            answers = event.data["seconds"]
        if event.kind == "evaluate" and primary_metric in event.data:
            spent = event.data["seconds"] + (answers if event.phase == "student" else 0.0)
            curves.setdefault(event.phase, []).append((spent, event.data[primary_metric]))
    (args.out / "quality.json").write_text(
        json.dumps({"primary_metric": primary_metric, "curves": curves}, indent=2) + "\n"
    )
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for phase, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=phase.replace("_", " "))
        print(f"{phase}: " + ", ".join(f"{seconds:.0f} s {value:.3f}" for seconds, value in points))
    axes.set(xlabel="seconds, the teacher's answers included", ylabel=primary_metric)
    axes.legend()
    figure.savefig(args.out / "quality.png", dpi=150)


if __name__ == "__main__":
    main()
