"""A stage of self-supervised learning before the transfer, or its term beside it, against none, at equal length in all.

    python benchmarks/self_supervised.py --data DATA
    python benchmarks/self_supervised.py --data DATA --problem classifier --steps 300 --seeds 0

`classifier`: a small `feature_net` of Fashion-MNIST's ten classes (DATA holds `fashion-mnist`), from the labels and a
teacher that is the bundled `features32` with a head, trained for 300 steps; `denoiser`: the preset `denoise`. The stage
gets a quarter of the length.
"""

import argparse
from pathlib import Path
from statistics import fmean

from kdgen import Recipe, Spec, Stage, distill, preset
from kdgen.recipe import CacheSpec, Guidance, Term
from kdgen.report.report import Report

OBJECTIVES = ("masked", "rotation", "two_views")
SHARE = 0.25
"""Of the length, that the stage before gets."""

WEIGHT = 0.1
"""Of the term beside."""


def classifier(data: Path, out: Path) -> Recipe:
    """Labels, and what a classifier says that began as `features32`, whose trunk it took over."""

    def clothes(kind: str) -> dict[str, object]:
        images, labels = (
            str(data / "fashion-mnist" / f"{kind}-{what}-ubyte.gz") for what in ("images-idx3", "labels-idx1")
        )
        return {"name": "idx", "args": {"images": images, "labels": labels}}

    args = {"images": clothes("train"), "evaluate": clothes("t10k"), "channels": 3, "patch": 32}
    task, none = Spec(name="classify", args=args), CacheSpec(inputs=0)
    teacher = Recipe(name="clothes", task=task, student=Spec(name="feature_net"),
                     init="features32", stages=(Stage(name="train", lr=2e-3),), batch_size=64, steps=300, cache=none,
                     controls=False)  # fmt: skip
    if not (out / "teacher" / "report.json").is_file():
        list(distill(teacher, out / "teacher"))
    said = Guidance(name="logits", args={"temperature": 4.0})
    half = Spec(name="fixed", args={"alpha": 0.5})
    return Recipe(name="classifier", task=task, teacher=str(out / "teacher"),
                  student=Spec(name="feature_net", args={"width": 8}),
                  stages=(Stage(methods=(said,), ratio=half),), batch_size=64, seconds=60, cache=none)  # fmt: skip


def denoiser(data: Path, out: Path) -> Recipe:
    """The preset, its truth beside the teacher so that a term of the student's own can count."""
    recipe = preset("denoise")
    stages = [stage.model_copy(update={"ratio": Spec(name="fixed", args={"alpha": 0.5})}) for stage in recipe.stages]
    return recipe.model_copy(update={"stages": tuple(stages)})


def variants(recipe: Recipe) -> dict[str, Recipe]:
    """None, and each objective before the transfer and beside it."""
    found = {"none": recipe}
    for name in OBJECTIVES:
        term = Term(name=name)
        alone = Stage(name=name, share=SHARE, truth=False, objectives=(term,), optimizer=recipe.stages[0].optimizer,
                      lr=recipe.stages[0].lr / 2)  # fmt: skip
        rest = [stage.model_copy(update={"share": (1 - SHARE) * stage.share}) for stage in recipe.stages]
        beside = [stage.model_copy(update={"objectives": (Term(name=name, weight=WEIGHT),)}) for stage in recipe.stages]
        found[f"{name} before"] = recipe.model_copy(update={"stages": (alone, *rest)})
        found[f"{name} beside"] = recipe.model_copy(update={"stages": tuple(beside)})
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--problem", choices=("classifier", "denoiser"), nargs="+", default=["classifier", "denoiser"])
    parser.add_argument("--only", nargs="+", help="variants, such as `none` and `masked before`")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int, help="in place of seconds, on a machine that others use too")
    parser.add_argument("--inputs", type=int, help="cached answers of the teacher, where these are to be few")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/self-supervised"))
    args = parser.parse_args()
    for problem in args.problem:
        recipe = {"classifier": classifier, "denoiser": denoiser}[problem](args.data, args.out)
        recipe = recipe.lasting(steps=args.steps) if args.steps else recipe.lasting(seconds=args.seconds)
        changes = {"inputs": args.inputs} if args.inputs and recipe.cache.inputs else {}
        recipe = recipe.model_copy(update={"controls": False, "cache": recipe.cache.model_copy(update=changes)})
        print(f"| {problem} | {' | '.join(f'seed {seed}' for seed in args.seeds)} | mean | steps |")
        print(f"|---|{'---:|' * (len(args.seeds) + 2)}")
        for name, each in variants(recipe).items():
            if args.only and name not in args.only:
                continue
            rows = []
            for seed in args.seeds:
                folder = args.out / f"{problem}-{name.replace(' ', '-')}-{seed}"
                if not (folder / "report.json").is_file():
                    list(distill(each.model_copy(update={"seed": seed}), folder))
                report = Report.read(folder)
                rows.append(report.find("student"))
            figures = [row.metrics[report.primary_metric] for row in rows if row is not None]
            steps = fmean(row.steps or 0 for row in rows if row is not None)
            shown = [f"{figure:.4g}" for figure in (*figures, fmean(figures))]
            print(f"| {name} | {' | '.join(shown)} | {steps:.0f} |", flush=True)


if __name__ == "__main__":
    main()
