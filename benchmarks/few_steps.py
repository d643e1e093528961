"""Every few-step preset on this machine in one table, beside the teacher at 1 to 50 steps, a baseline and a control.

    python benchmarks/few_steps.py
    python benchmarks/few_steps.py consistency progressive --seconds 120 --out runs/few
    python benchmarks/few_steps.py --teacher runs/cifar10 --data cifar10/ --seconds 600 --num-images 5000   # on a GPU

Each is a run of `kdgen distill PRESET` in a folder of its own; those that are there already are gone on with, not begun
anew. Images are those of the models' own samplers, as plain diffusers draws them; distances are to as many of the
teacher's at 50 steps from other noise, and the teacher's own at 50 steps say how far equal distributions are apart in
samples so few. A ladder's figures are those of the rung made for that number of steps. With --data the control without
a teacher learns from that folder, else from the teacher's images. It writes `few_steps.json` and `steps.png`.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from kdgen import Model, Recipe, distill, load, preset, resume
from kdgen.devices import machine, pick_device
from kdgen.recipe import override
from kdgen.step_curve import Point, draw_points, step_curve

PRESETS = ("consistency", "consistency-distillation", "progressive", "rectified-flow", "distribution-matching",
           "score-identity", "mean-flow", "few-steps-baseline", "few-steps-control", "small-and-few", "small-only")  # fmt: skip
SHOWN = (1, 2, 4, 8, 50)


def recipe_of(name: str, args: argparse.Namespace) -> Recipe:
    """A preset with the settings of this benchmark."""
    recipe = preset(name)
    settings = [f"seed={args.seed}", f"evaluate_every={args.evaluate_every}"]
    if args.teacher != "diffusion":
        task = load(args.teacher).task
        settings += [f"task.args.{key}={task[key]}" for key in ("size", "channels")]
        settings += [f"task.args.images.args.model={args.teacher}"]
        settings += [f"student.args.{key}={task[key]}" for key in ("size", "channels")]
        settings += [] if recipe.teacher is None else [f"teacher={args.teacher}"]
    if args.data and recipe.teacher is None:
        settings += [f"task.args.images={json.dumps({'name': 'folder', 'args': {'path': args.data, 'whole': True}})}"]
    recipe = override(recipe, [*settings, *args.set])
    return recipe if args.seconds is None else recipe.lasting(seconds=args.seconds)


def students_of(name: str, folder: Path, recipe: Recipe) -> Iterator[tuple[str, Model]]:
    """The student of a run; of a ladder each rung, for the steps it was made for."""
    homes = [folder / "assistants" / f"assistant_{i + 1}" for i in range(len(recipe.assistants))]
    stages = [(link.stages or recipe.stages)[-1] for link in recipe.assistants] + [recipe.stages[-1]]
    for home, stage in zip([*homes, folder / "student"], stages, strict=True):
        model = load(home)
        if homes:
            steps = int(str(stage.methods[0].args["steps"]))
            if steps not in (1, 2, 4):
                continue
            model.task["steps"] = [steps]
        yield (f"{name}, rung of {model.task['steps'][0]}" if homes else name), model


def line(point: Point, calls: int, seconds: float | None) -> str:
    """A row of the table."""
    fd, precision, recall = (point.figures[key] for key in (next(iter(point.figures)), "precision", "recall"))
    cells = [point.model, str(point.steps), str(point.calls), f"{fd:.2f}", f"{precision:.2f}", f"{recall:.2f}"]
    cells += [f"{1000 * point.seconds:.1f}", f"{calls / point.calls:.0f}x", "" if seconds is None else f"{seconds:.0f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=PRESETS, help="default all for few steps")
    parser.add_argument("--teacher", default="diffusion", help="a diffusion model: bundled, a run, a folder")
    parser.add_argument("--data", help="a folder of images for the control; default the teacher's own images")
    parser.add_argument("--seconds", type=float, help="for each student; default what the preset says")
    parser.add_argument("--num-images", type=int, default=500, help="for each point")
    parser.add_argument("--evaluate-every", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of every recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/few-steps"))
    args = parser.parse_args()
    students: dict[str, Model] = {}
    seconds: dict[str, float] = {}
    for name in args.presets:
        recipe, folder = recipe_of(name, args), args.out / name
        for event in resume(folder) if (folder / "recipe.json").is_file() else distill(recipe, folder):
            if event.kind in ("leg", "warning", "evaluate"):
                print(f"{name} {event.leg} at step {event.step}: {dict(event.data)}", flush=True)
        made = dict(students_of(name, folder, recipe))
        students |= made
        spent = json.loads((folder / "report.json").read_text())["rows"][-1]["seconds"]
        seconds |= dict.fromkeys(made, spent)
    device = pick_device("auto")
    teacher = load(args.teacher).to(device)
    points = []
    for point in step_curve(teacher, {k: m.to(device) for k, m in students.items()}, num_images=args.num_images):
        points.append(point)
        print(f"{point.model} in {point.steps}: {dict(point.figures)}", flush=True)
    own = {point.steps: point for point in points if point.model == teacher.name}
    headline = next(iter(own[1].figures))
    shown = [p for p in points if p.model != teacher.name or p.steps in SHOWN]
    print(f"\n{args.num_images} images a point, {machine(device)}, {torch.get_num_threads()} threads\n")
    titles = ["model", "steps", "calls", headline, "precision", "recall", "ms/image", "fewer calls", "seconds"]
    print(f"| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}")
    print("\n".join(line(point, own[50].calls, seconds.get(point.model)) for point in shown))
    bar = own[8].figures[headline]
    nearer = [p.model for p in points if p.model != teacher.name and p.steps == 2 and p.figures[headline] < bar]
    print(f"\nNearer to the teacher at 50 steps in 2 than it is in 8 ({bar:.2f}): {', '.join(nearer) or 'none'}.")
    record = {"machine": machine(device), "threads": torch.get_num_threads(), "num_images": args.num_images,
              "seed": args.seed, "training_seconds": seconds, "points": [asdict(point) for point in points]}  # fmt: skip
    (args.out / "few_steps.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    draw_points(args.out / "steps.png", points)


if __name__ == "__main__":
    main()
