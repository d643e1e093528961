"""Faults of solar cells: where a student fails, beside plain nearest neighbours on the teacher's features.

    python benchmarks/anomaly.py --data DATA --weights efficientnet-lite0-57934424.pth
    python benchmarks/anomaly.py --data DATA --weights FILE --splits 0 1 2 3 4 --steps 300

DATA is a folder with ELPV's `images` and `labels.csv` (github.com/zae-bayern/elpv-dataset). Each split holds out other
good cells to be told from the faulty ones. Of nearest neighbours, `places` takes the largest distance of a place to the
nearest place of a good cell, and `pictures` the distance of a cell's mean features to the nearest good cell's.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from kdgen import Recipe, distill, load, preset, recipe, registry
from kdgen.metrics.ranking import auroc
from kdgen.models.fault_maps import FeatureMaps
from kdgen.registry import Spec
from kdgen.tasks.anomaly import Anomaly
from kdgen.utils.devices import evaluating

HARD = {"name": "hard_feature", "args": {"p_hard": 0.9}}
STUDENTS = {
    "student, l2": ("patch_features", [{"name": "output"}], 0.0),
    "student, hard features (0.9)": ("patch_features", [HARD], 0.0),
    "student, hard features (0.999)": ("patch_features", [{"name": "hard_feature"}], 0.0),
    "student with autoencoder": ("efficient_ad", [HARD, {"name": "global_feature"}], 0.0),
    "student with autoencoder, 3 cells for validation": ("efficient_ad", [HARD, {"name": "global_feature"}], 0.125),
}
"""The net of each, its methods, and the share of good cells to train on that is left to set the scale of maps."""


def run(data: Path, weights: Path, split: int, steps: int) -> Recipe:
    """The preset on one split of the pictures."""
    said = [f"task.args.{key}.args.{name}={value}" for key in ("images", "evaluate")
            for name, value in (("path", data.absolute()), ("seed", split))]  # fmt: skip
    said += [f"teacher.file={weights.absolute()}", f"steps={steps}", f"seed={split}", "cache.share=null"]
    return recipe.override(preset("solar-cells"), [*said, "evaluate_every=null"])


def variant(base: Recipe, net: str, methods: list[dict[str, Any]], validation: float) -> Recipe:
    """A run with another student of the preset's size."""
    assert isinstance(base.student, Spec)
    said = [f"student.name={net}", f"stages.0.methods={json.dumps(methods)}"]
    if validation:
        cells = {**base.task.args["images"]["args"], "validation": validation}
        said += [f"task.args.{key}={json.dumps({'name': 'inspected', 'args': {**cells, 'part': part}})}"
                 for key, part in (("images", "train"), ("validation", "validation"))]  # fmt: skip
    return recipe.override(base, said)


def student(made: Recipe, folder: Path) -> torch.nn.Module:
    """The student of a run, trained unless it is there, without the report."""
    if not (folder / "student" / "config.json").is_file():
        for event in distill(made, folder):
            if event.kind == "phase":
                break
    return load(folder / "student").net


@torch.no_grad()
def by_pictures(task: Anomaly, teacher: FeatureMaps) -> float:
    """AUROC of the distance of mean features to the nearest of 64 draws of good pictures."""

    def features(x: Tensor) -> Tensor:
        with evaluating(teacher):
            return torch.cat([teacher(part).mean((2, 3)) for part in torch.split(x, 16)])

    found = list(task.findings())
    good = task.source.patches(64, task.patch, channels=task.channels, seed=0)
    distances = torch.cdist(features(torch.cat([each.image for each in found])), features(good)).amin(1)
    return auroc(distances, torch.tensor([each.faulty for each in found]))


def figures(data: Path, weights: Path, split: int, steps: int, out: Path) -> dict[str, float]:
    """AUROC of pictures on one split, by the way that they are scored."""
    base = run(data, weights, split, steps)
    task: Anomaly = registry.build("task", base.task)
    assert base.teacher is not None
    teacher = load(base.teacher).net
    places = task.evaluate(teacher, reference=teacher)["image_auroc"]
    row = {"neighbours, pictures": by_pictures(task, task.guided(teacher)), "neighbours, places": places}
    for number, (name, way) in enumerate(STUDENTS.items()):
        made = variant(base, *way)
        task = registry.build("task", made.task)
        row[name] = task.evaluate(student(made, out / f"{split}-{steps}-{number}"), reference=teacher)["image_auroc"]
        print(split, name, row, flush=True)
    return row


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--splits", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("runs/anomaly"))
    args = parser.parse_args()
    rows = [figures(args.data, args.weights, split, args.steps, args.out) for split in args.splits]
    print(f"\n| scored by | AUROC of pictures, mean of {len(rows)} splits | deviation |\n|---|---:|---:|")
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"| {name} | {mean(values):.3f} | {stdev(values) if len(values) > 1 else 0:.3f} |")


if __name__ == "__main__":
    main()
