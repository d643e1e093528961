"""Train: `distill` and `resume`."""

import json
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdgen.cli.arguments import find_recipe_and_teacher, free_folder, register_all
from kdgen.cli.commands.elsewhere import run_on
from kdgen.cli.commands.options import Code, Json, Quiet, Track
from kdgen.cli.console import event_line, make_display, print_report, stderr, stdout
from kdgen.cli.streams import left, settle

if TYPE_CHECKING:
    from kdgen.types import Event

app = typer.Typer()


@app.command(
    epilog="""
Examples:

- `kdgen distill denoise`

- `kdgen distill denoise --seconds 600 --out runs/long`

- `kdgen distill 4x_somebodys.pth --cheaper 20 --minutes 10` (a restorer's file; `kdgen show` prints what is inferred)

- `kdgen distill style.onnx --images photos/` (any net that makes images of images; the teacher alone says how)

- `kdgen distill pipeline/ --prompts prompts.txt --cheaper 4` (a pipeline of diffusers that draws by words or classes)

- `kdgen show denoise > mine.json`, edit it, then `kdgen distill mine.json --set batch_size=32 --set stages.0.lr=1e-3`

- `kdgen distill mine.json --code my_nets.py --device cuda --json`

- `kdgen distill denoise --on hf:a10g-small --push me/tiny` (on hardware of the Hub, from a machine without a GPU)
"""
)
def distill(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="PRESET_OR_RECIPE_OR_TEACHER",
            help="A name, see `kdgen list presets`; a recipe's JSON file; or a teacher's file (a "
            "restorer's weights, an .onnx, or the JSON that declares one) or a pipeline's folder, for which a "
            "recipe is inferred.",
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Run folder; default runs/NAME, numbered if that exists.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, see `kdgen show --explain`.")
    ] = None,
    cheaper: Annotated[
        float | None,
        typer.Option(
            min=1,
            help="Of a teacher's file: how many times fewer MACs the student has; 10, of a pipeline 4, or more where "
            "the time is short.",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Of a teacher's file: train on these, not on procedural images.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Of a pipeline of words: what to train on, a text file with a prompt a line."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Train for so many steps.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Train for so many seconds.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0.1, help="For all of it: training, that of the controls, the report.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, data and noise.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = None,
    controls: Annotated[
        bool | None,
        typer.Option("--controls/--no-controls", help="Also train the same student without its teacher."),
    ] = None,
    repeatable: Annotated[
        bool,
        typer.Option(
            "--repeatable",
            help="The same student bit for bit each time: a preset's steps instead of seconds, "
            "float32 unless the recipe says otherwise.",
        ),
    ] = False,
    on: Annotated[
        str | None,
        typer.Option(
            metavar="hf:HARDWARE", help="Run it as a job of the Hugging Face Hub, see `kdgen jobs --hardware`."
        ),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="ORG/NAME", help="Publish the student when it is done; a job does always."),
    ] = None,
    private: Annotated[
        bool | None, typer.Option("--private/--public", help="What is published; a job's student is private.")
    ] = None,
    timeout: Annotated[int | None, typer.Option(min=1, help="Minutes after which a job is ended.")] = None,
    track: Track = None,
    code: Code = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Teach a student by a recipe, train its controls, and report."""
    register_all(code)
    from kdgen.presets.steps import repeatable as repeated
    from kdgen.recipe import override, training_seconds
    from kdgen.training import run
    from kdgen.training.tracking import track as tracked
    from kdgen.types import UserError

    if sum(each is not None for each in (steps, seconds, minutes)) > 1:
        raise UserError("give one of --steps, --seconds and --minutes")
    if repeatable and (seconds is not None or minutes is not None):
        raise UserError("a repeatable run is counted in steps: give --steps in place of --seconds and --minutes")
    options = {"steps": steps, "seconds": seconds, "seed": seed, "device": device, "controls": controls}
    overrides = [f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None]
    length = math.inf if steps is not None or repeatable else seconds
    length = length if minutes is None else training_seconds(minutes, controlled=controls is not False)
    found, teacher = find_recipe_and_teacher(recipe, cheaper=cheaper, images=images, prompts=prompts, seconds=length)
    chosen = override(found, [*(settings or ()), *overrides])
    chosen = chosen if minutes is None else chosen.within(minutes)
    chosen = repeated(chosen) if repeatable else chosen
    if on is not None:
        if code or track or out:
            raise UserError(
                "--on runs elsewhere, with what comes with kdgen alone: leave out --code, --track and --out"
            )
        run_on(on, chosen, push=push, private=private, timeout=timeout, quiet=quiet, as_json=as_json)
        return
    folder, teacher = out or free_folder(chosen.name), teacher if chosen.teacher == found.teacher else None
    _follow(tracked(run.distill(chosen, folder, teacher=teacher), track or ()), quiet=quiet, as_json=as_json)
    if push is not None:
        from kdgen import hub

        print(hub.push_to_hub(folder, push, private=private).url)


@app.command(epilog="Example: `kdgen resume runs/denoise`")
def resume(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    track: Track = None,
    code: Code = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on with a run where it was left, however it ended."""
    register_all(code)
    from kdgen.training import run
    from kdgen.training.tracking import track as tracked

    _follow(tracked(run.resume(folder), track or ()), quiet=quiet, as_json=as_json)


def _follow(events: Iterator["Event"], *, quiet: bool, as_json: bool) -> None:
    last: dict[str, Event] = {}
    listening = True
    from kdgen.models.parts import telling

    with make_display(quiet=quiet, as_json=as_json) as display, telling(display.drawn):
        for event in events:
            last[event.kind] = event
            try:
                if listening:
                    display.show(event)
            except (OSError, SystemExit) as error:
                if not left(error):
                    raise
                listening = False
                settle()
                stderr.print("kdgen: nobody reads this any more: saving", markup=False)
                signal.raise_signal(signal.SIGINT)
    if "stopped" in last:
        if not listening:
            stderr.print(event_line(last["stopped"]), markup=False)
        raise typer.Exit(130)
    if as_json or "done" not in last:
        return
    done = last["done"].data
    folder = Path(done["folder"])
    if quiet:
        print(folder)
        return
    if (folder / "report.json").is_file():
        from kdgen.report.report import Report

        print_report(Report.read(folder))
    stdout.print(f"\nstudent:  {done['student']}", markup=False)
    for what, name in (("report", "report.md"), ("pictures", "samples.png"), ("curves", "curves.png")):
        if (folder / name).is_file():
            stdout.print(f"{what + ':':<9} {folder / name}", markup=False)
