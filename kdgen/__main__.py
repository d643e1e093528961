"""The command line: arguments become a recipe, and what happens in its run is printed."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from kdgen.arguments import find_recipe, free_folder, measuring_task, register_all
from kdgen.console import explain, make_display, plain_warnings, print_report, stderr, stdout

if TYPE_CHECKING:
    from kdgen.registry import Kind
    from kdgen.types import Event

app = typer.Typer(
    name="kdgen",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Teach a small, fast image net from a big one, and prove on a table what was kept and what was saved.",
    epilog="A MODEL is a run folder, a student folder, a bundled name, or a JSON file that declares a foreign "
    "checkpoint. `kdgen COMMAND --help` shows examples. Start with `kdgen distill denoise`.",
)


class Listed(StrEnum):
    """What `kdgen list` can list."""

    presets = "presets"
    nets = "nets"
    tasks = "tasks"
    methods = "methods"
    ratios = "ratios"


Code = Annotated[
    list[Path] | None,
    typer.Option(
        "--code",
        metavar="FILE",
        help="A Python file of yours that registers nets or methods; it is run.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for machines.")]
Sigma = Annotated[float | None, typer.Option(help="Noise level in 8-bit units; default what the model was made for.")]
Seed = Annotated[int, typer.Option(help="Seed of the noise.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the run folder at the end and nothing else.")]


@app.command(
    epilog="""
Examples:

- `kdgen distill denoise`

- `kdgen distill denoise --seconds 600 --out runs/long`

- `kdgen show denoise > mine.json`, edit it, then `kdgen distill mine.json --set batch_size=32 --set stages.0.lr=1e-3`

- `kdgen distill mine.json --code my_nets.py --device cuda --json`
"""
)
def distill(
    recipe: Annotated[str, typer.Argument(metavar="PRESET_OR_RECIPE.json", help="See `kdgen list presets`.")],
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME, numbered if that exists.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, see `kdgen show --explain`.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Train for so many steps.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Train for so many seconds.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, data and noise.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    controls: Annotated[
        bool | None,
        typer.Option("--controls/--no-controls", help="Also train the same student without its teacher."),
    ] = None,
    code: Code = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Teach a student by a recipe, train its controls, and report."""
    register_all(code)
    from kdgen import run
    from kdgen.recipe import override
    from kdgen.types import UserError

    if steps is not None and seconds is not None:
        raise UserError("give --steps or --seconds, not both")
    options = {"steps": steps, "seconds": seconds, "seed": seed, "device": device, "controls": controls}
    given = [f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    chosen = override(find_recipe(recipe), [*(settings or ()), *given])
    _follow(run.distill(chosen, out or free_folder(chosen.name)), quiet=quiet, as_json=as_json)


@app.command(epilog="Example: `kdgen resume runs/denoise`")
def resume(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    code: Code = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on with a run where it was left, however it ended."""
    register_all(code)
    from kdgen import run

    _follow(run.resume(folder), quiet=quiet, as_json=as_json)


@app.command(
    epilog="""
Examples:

- `kdgen compare denoiser runs/denoise --data photographs --sigma 25 --out comparison`

- `kdgen compare runs/denoise runs/denoise-2 runs/denoise-3` (one recipe, three seeds: mean and spread)
"""
)
def compare(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models, or runs of one recipe.")],
    data: Annotated[Path | None, typer.Option(help="Folder of images; default a few bundled photographs.")] = None,
    sigma: Sigma = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the report and the pictures.")] = None,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Measure models side by side. Runs of one recipe with different seeds become one table of means and spreads."""
    register_all(code)
    from kdgen import compare as comparison
    from kdgen import pictures
    from kdgen.model import load

    same_recipe = (
        comparison.of_one_recipe([Path(model) for model in models]) if data is None and sigma is None else None
    )
    loaded = {reference: load(reference) for reference in models} if out or not same_recipe else {}
    if same_recipe:
        report = comparison.merge(same_recipe)
    else:
        use, task = measuring_task("denoise", loaded, data, sigma)
        names = [model.name for model in loaded.values()]
        rows = [comparison.measure("input", None, task, name="noisy input", seed=seed)]
        for reference, model in track(loaded.items(), "measuring", console=stderr, disable=not stderr.is_terminal):
            name = model.name if names.count(model.name) == 1 else reference
            rows.append(comparison.measure("model", model.net, task, name=name, seed=seed))
        report = comparison.compare(rows, task=use)
    if out:
        report.save(out)
        task = measuring_task("denoise", loaded, data, sigma)[1]
        pictures.samples(out / "samples.png", task, {name: model.net for name, model in loaded.items()}, seed=seed)
    if as_json:
        print(report.model_dump_json())
    else:
        print_report(report)
    if out:
        stderr.print(f"report and pictures: {out / 'report.md'}, {out / 'samples.png'}", markup=False)


@app.command(epilog="Example: `kdgen evaluate runs/denoise --task denoise --data photographs --sigma 25`")
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    task: Annotated[str, typer.Option(help="See `kdgen list tasks`.")] = "denoise",
    data: Annotated[Path | None, typer.Option(help="Folder of images; default a few bundled photographs.")] = None,
    sigma: Sigma = None,
    seed: Seed = 0,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Measure the quality of a model."""
    register_all(code)
    from kdgen.model import load

    loaded = load(model)
    use, built = measuring_task(task, {model: loaded}, data, sigma)
    metrics = built.evaluate(loaded.net, seed=seed)
    if as_json:
        print(json.dumps({"model": model, "task": use, "seed": seed, "metrics": dict(metrics)}))
        return
    units = {"psnr": " dB", "sharpness": " of the truth's"}
    for key, value in metrics.items():
        print(f"{key:<10} {value:.4f}{units.get(key, '')}")


@app.command(
    epilog="""
Examples:

- `kdgen restore denoiser noisy.png clean.png --sigma 25`

- `kdgen restore runs/denoise noisy/ restored/` (nested folders keep their names)
"""
)
def restore(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    source: Annotated[Path, typer.Argument(metavar="IN", help="An image or a folder of images.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where the restored images go; never over IN.")],
    sigma: Sigma = None,
    code: Code = None,
) -> None:
    """Restore an image or a folder of images. Damaged images are named and skipped."""
    register_all(code)
    from kdgen.files import pairs, restore_file
    from kdgen.model import load
    from kdgen.types import UserError

    files = pairs(source, target)
    loaded = load(model)
    skipped = 0
    for read, write in track(files, "restoring", console=stderr, disable=not stderr.is_terminal):
        reason = restore_file(loaded, read, write, sigma)
        if reason:
            skipped += 1
            stderr.print(f"kdgen: skipped {read}: {reason}", markup=False)
    if skipped == len(files):
        raise UserError("no image could be restored")
    stderr.print(f"{len(files) - skipped} of {len(files)} restored to {target}", markup=False)


@app.command(name="list", epilog="Example: `kdgen list methods`")
def list_names(
    what: Annotated[Listed, typer.Argument(help="What to list.")],
    code: Code = None,
) -> None:
    """List what a recipe can name, each with a line on what it is."""
    register_all(code)
    from kdgen import registry

    kind = cast("Kind", what.removesuffix("s"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for name in registry.names(kind):
        table.add_row(name, escape(registry.summary(kind, name)))
    stdout.print(table)


@app.command(epilog="Examples: `kdgen show denoise > mine.json`, `kdgen show denoise --explain`")
def show(
    preset: Annotated[str, typer.Argument(metavar="PRESET", help="See `kdgen list presets`.")],
    explain_keys: Annotated[bool, typer.Option("--explain", help="Print what every key means instead.")] = False,
    code: Code = None,
) -> None:
    """Print a preset's recipe as JSON, ready to edit."""
    register_all(code)
    from kdgen.recipe import document

    recipe = find_recipe(preset)
    if not explain_keys:
        print(recipe.to_json())
        return
    table = Table("key", "default", "meaning", box=None, pad_edge=False)
    for key, default, meaning in document():
        table.add_row(key, escape(default), escape(meaning))
    stdout.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 a mistake to mend, 3 a full disk, 130 stopped by a signal."""
    with plain_warnings():
        try:
            app(list(arguments) if arguments is not None else None, prog_name="kdgen")
        except Exception as error:
            code, message = explain(error)
            if code is None:
                raise
            stderr.print(f"kdgen: {message}", markup=False)
            sys.exit(code)


def _follow(events: Iterator["Event"], *, quiet: bool, as_json: bool) -> None:
    last: dict[str, Mapping[str, Any]] = {}
    with make_display(quiet=quiet, as_json=as_json) as display:
        for event in events:
            display.show(event)
            last[event.kind] = event.data
    if "stopped" in last:
        raise typer.Exit(130)
    if as_json or "done" not in last:
        return
    folder = Path(last["done"]["folder"])
    if quiet:
        print(folder)
        return
    if (folder / "report.json").is_file():
        from kdgen.report import Report

        print_report(Report.read(folder))
    stdout.print(f"\nstudent:  {last['done']['student']}", markup=False)
    for what, name in (("report", "report.md"), ("pictures", "samples.png"), ("curves", "curves.png")):
        if (folder / name).is_file():
            stdout.print(f"{what + ':':<9} {folder / name}", markup=False)


if __name__ == "__main__":
    main()
