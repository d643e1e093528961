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
from kdgen.arguments import find_recipe, register_all


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
    headline, answers = "", 0.0
    curves: dict[str, list[tuple[float, float]]] = {}
    for event in distill(recipe, args.out):
        if event.kind == "start":
            headline = event.data["headline"]
        if event.kind == "answers" and event.leg == "student" and not event.data["from_disk"]:
            answers = event.data["seconds"]
        if event.kind == "evaluate" and headline in event.data:
            spent = event.data["seconds"] + (answers if event.leg == "student" else 0.0)
            curves.setdefault(event.leg, []).append((spent, event.data[headline]))
    (args.out / "quality.json").write_text(json.dumps({"headline": headline, "curves": curves}, indent=2) + "\n")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for leg, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=leg.replace("_", " "))
        print(f"{leg}: " + ", ".join(f"{seconds:.0f} s {value:.3f}" for seconds, value in points))
    axes.set(xlabel="seconds, the teacher's answers included", ylabel=headline)
    axes.legend()
    figure.savefig(args.out / "quality.png", dpi=150)


if __name__ == "__main__":
    main()
