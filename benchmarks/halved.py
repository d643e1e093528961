"""Published classifiers of CIFAR-10 at half their cost.

    python benchmarks/halved.py --data ../shared/data --seconds 900 --seeds 0

The student is its teacher with half the channels between the two convolutions of each block: those that weigh most, so
that it begins as a poor copy. It learns what the teacher says of mixed images, asked anew at each step (Beyer et al.
2022, arXiv 2106.05237), and of no label. Beside it are its controls, which begin alike and learn the labels of the same
images. Prints accuracy on the test images, agreement with the teacher, and multiply-accumulates.
"""

import argparse
from pathlib import Path

from perception import ended
from perception_data import cifar10, told

from kdgen import Recipe, Spec, preset
from kdgen.recipe import CacheSpec, Checkpoint, Guidance, Stage
from kdgen.report.compare import merge
from kdgen.report.report import Report

EXAMPLES = Path(__file__).parents[1] / "examples"

NETS = ("resnet20", "resnet_uva")
"""Described in the examples: by akamaster/pytorch_resnet_cifar10, and by the UvA's deep learning tutorials."""

SHARE = 0.49
"""Of the channels between convolutions: with norms and shortcuts, half the multiply-accumulates."""


def recipe(name: str, data: Path, images: Path, seconds: float) -> Recipe:
    """The preset ``classify`` with a published net and its half."""
    described = Checkpoint.model_validate_json((EXAMPLES / f"cifar_{name}.json").read_text("utf-8"))
    teacher = described.model_copy(update={"file": str(data / described.file)})
    plain = preset("classify")
    changes = {
        "name": f"half-{name}",
        "task": Spec(name="classify", args={**plain.task.args, **told(images), "mix": "both"}),
        "teacher": teacher,
        "student": Spec(name=teacher.net.name, args={**teacher.net.args, "inner": SHARE}),
        "init": "teacher",
        "stages": (Stage(methods=(Guidance(name="logits"),), optimizer="muon", lr=5e-3, final=0.01),),
        "cache": CacheSpec(inputs=0),
        "ema": 0.99,
        "evaluate_every": None,
    }
    return plain.model_copy(update=changes).lasting(seconds=seconds)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=NETS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--no-controls", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/halved"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    images = cifar10(args.data.absolute() / "cifar10-subset", args.out.absolute())
    for name in args.nets:
        plan = recipe(name, args.data.absolute(), images, args.seconds)
        folders = {seed: args.out / f"{name}-{seed}" for seed in args.seeds}
        for seed, folder in folders.items():
            changes = {"seed": seed, "controls": not args.no_controls}
            if not ended(plan.model_copy(update=changes), folder):
                return
        print(f"\n{merge([Report.read(folder) for folder in folders.values()]).to_markdown()}", flush=True)


if __name__ == "__main__":
    main()
