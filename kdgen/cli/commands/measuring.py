"""Measure: `compare` and `evaluate`."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress, track
from rich.table import Table

from kdgen.cli.arguments import register_all
from kdgen.cli.commands.options import Clean, Code, Json, Named, Seed, Sigma, Teacher
from kdgen.cli.console import counting, print_report, stderr, stdout

if TYPE_CHECKING:
    from kdgen.report.shift_report import ShiftReport

app = typer.Typer()


@app.command(
    epilog="""
Examples:

- `kdgen compare denoiser runs/denoise --data photographs --sigma 25 --out comparison`

- `kdgen compare runs/gan runs/gan-2 --teacher gan --out comparison` (for nets that make images)

- `kdgen compare runs/denoise runs/denoise-2 runs/denoise-3` (one recipe, three seeds: mean and spread)
"""
)
def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models, or runs of one recipe.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of images (for classifiers one a class), or an IDX file; default photographs."),
    ] = None,
    clean: Clean = None,
    sigma: Sigma = None,
    teacher: Teacher = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the report and the pictures.")] = None,
    curve: Annotated[
        bool, typer.Option(help="With --teacher and --out: of diffusion models, steps against quality and seconds too.")
    ] = True,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Measure models side by side. Runs of one recipe with different seeds become one table of means and spreads.

    Diffusion models beside their teacher are also measured step by step: the teacher in 1 to 50 steps, students in
    theirs, in `steps.png` and `steps.json`. The teacher's images are kept for later comparisons.
    """
    register_all(code)
    from kdgen.models.model import load
    from kdgen.report import compare as comparison
    from kdgen.report import sample_grids
    from kdgen.tasks.infer_task import measuring_task

    same_recipe = (
        comparison.of_one_recipe([Path(model) for model in models]) if data is None and sigma is None else None
    )
    loaded = {reference: load(reference) for reference in models} if out or not same_recipe else {}
    reference = load(teacher) if teacher and (out or not same_recipe) else None
    task: Any = None
    if loaded:
        use, task = measuring_task(loaded, _source(data, clean), sigma, teacher=reference)
    if same_recipe:
        report = comparison.merge(same_recipe)
    else:
        against = task.guided(reference.net) if reference else None
        names = [model.name for model in loaded.values()]
        nets = [
            comparison.Contender(
                role="model", name=model.name if names.count(model.name) == 1 else label, net=model.net, label=label
            )
            for label, model in loaded.items()
        ]
        if reference and against is not None:
            nets.insert(0, comparison.Contender(role="teacher", name=reference.name, net=against, label="teacher"))
        shown = track(nets, "measuring", console=stderr, disable=not stderr.is_terminal)
        report = comparison.assess(task, shown, title=use, reference=against, seed=seed)
    if out:
        report.save(out)
        nets_of = {name: model.net for name, model in loaded.items()}
        sample_grids.picture(
            out / "samples.png", task, nets_of, reference=task.guided(reference.net) if reference else None, seed=seed
        )
        if curve and reference:
            _curve(reference, loaded, out, seed)
    if as_json:
        print(report.model_dump_json())
    else:
        print_report(report)
    if out:
        stderr.print(f"report and pictures: {out / 'report.md'}, {out / 'samples.png'}", markup=False)


def _curve(teacher: Any, models: dict[str, Any], out: Path, seed: int) -> None:
    """Draw the curve of steps where all models are of diffusion."""
    from kdgen.report.step_curve import draws_in_steps, save_points, step_curve

    if not all(map(draws_in_steps, [teacher, *models.values()])):
        return
    points = step_curve(teacher, models, seed=seed)
    save_points(out, list(track(points, "measuring steps", console=stderr, disable=not stderr.is_terminal)))
    stderr.print(f"steps against quality and seconds: {out / 'steps.png'}", markup=False)


@app.command(
    epilog="""
Examples:

- `kdgen evaluate runs/denoise --data photographs --sigma 25`

- `kdgen evaluate runs/gan --teacher gan --num-images 500`

- `kdgen evaluate features32 --data pets/` (a folder for each class)

- `kdgen evaluate runs/mine --data damaged/ --clean clean/` (pictures of the same names)

- `kdgen evaluate runs/mine --shift --data other/ --out shifted` (its teacher, student and controls)
"""
)
def evaluate(
    model: Named,
    task: Annotated[str | None, typer.Option(help="See `kdgen list tasks`; default what it was made for.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of images (for classifiers one a class), or an IDX file; default photographs."),
    ] = None,
    clean: Clean = None,
    sigma: Sigma = None,
    teacher: Teacher = None,
    num_images: Annotated[int | None, typer.Option(min=1, help="Measure on so many images at most.")] = None,
    shift: Annotated[
        bool,
        typer.Option(
            "--shift",
            help="Measure on the same images under noise, blur, JPEG and less contrast as well; "
            "of a run its teacher, student and controls, and beside its own images those of --data.",
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="With --shift: folder for the tables and the curve.")] = None,
    seed: Seed = 0,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Measure the quality of a model. Exits with 1 where its answers hold values that are not finite."""
    register_all(code)
    from kdgen.types import UserError

    if shift:
        _shift(model, out, as_json, task=task, data=_source(data, clean), sigma=sigma, teacher=teacher,
               num_images=num_images, seed=seed)  # fmt: skip
        return
    if out is not None:
        raise UserError("--out is for what --shift finds: add --shift")
    from kdgen.report.evaluation import evaluate as measure

    with counting("evaluating") as progress:
        found = measure(model, task=task, data=_source(data, clean), sigma=sigma, teacher=teacher,
                        num_images=num_images, seed=seed, progress=progress)  # fmt: skip
    if as_json:
        metrics = {key: value if math.isfinite(value) else None for key, value in found.metrics.items()}
        print(json.dumps({"model": model, "task": found.task, "seed": seed, "metrics": metrics,
                          "measured": found.measured, "answers": found.answers,
                          "not_finite": found.not_finite}))  # fmt: skip
    else:
        units = {"psnr": " dB", "sharpness": " of the truth's"}
        for key, value in found.metrics.items():
            print(f"{key:<16} {value:.4f}{units.get(key, '')}")
        print(found.measured)
    if found.fault:
        stderr.print(f"kdgen: {model} {found.fault}", markup=False)
        raise typer.Exit(1)


def _shift(model: str, out: Path | None, as_json: bool, **how: Any) -> None:
    """Measure nets on shifted images: tables and sentences on stdout, or JSON."""
    from kdgen.report.shift import shift

    with Progress(console=stderr, disable=not stderr.is_terminal) as bars:
        bar = bars.add_task("measuring", total=None)
        found = shift(model, progress=lambda done, total: bars.update(bar, completed=done, total=total), **how)
    if out:
        found.save(out)
    if as_json:
        print(found.model_dump_json())
    else:
        _print_shift(found)
    if out:
        stderr.print(f"tables and curve: {out / 'shift.md'}, {out / 'shift.png'}", markup=False)


def _print_shift(report: "ShiftReport") -> None:
    """Print the tables and sentences of nets on shifted images on stdout."""
    for title, (header, cells) in report.tables():
        table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
        for number, column in enumerate(header):
            table.add_column(column, justify="right" if number > 1 else "left")
        for line in cells:
            table.add_row(*line)
        stdout.print(table, end="\n\n")
    for sentence in report.sentences():
        stdout.print(f"{sentence}\n", markup=False)


def _source(data: Path | None, clean: Path | None) -> Any:
    """What to measure on: a folder or a file, or the pairs of two folders."""
    from kdgen.types import UserError

    if clean is None:
        return data
    if data is None:
        raise UserError("--clean is the other half of --data: name the folder of damaged pictures by --data")
    return {"name": "pairs", "args": {"damaged": str(data), "clean": str(clean)}}
