"""Plan: `plan`."""

import json
from typing import Annotated

import typer
from rich.table import Table

from kdgen.cli.arguments import find_recipe, register_all
from kdgen.cli.commands.options import Code, Json
from kdgen.cli.console import make_display, stderr, stdout
from kdgen.utils.durations import clock

app = typer.Typer()


@app.command(
    epilog="""
Examples:

- `kdgen plan denoise`

- `kdgen plan mine.json --steps 20000 --set batch_size=64`
"""
)
def plan(
    recipe: Annotated[str, typer.Argument(metavar="PRESET_OR_RECIPE.json", help="See `kdgen list presets`.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, see `kdgen show --explain`.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of the run.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Of the run.")] = None,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Estimate the memory, the disk and the time of a run before it, from a few of its steps."""
    register_all(code)
    from kdgen.models.parts import telling
    from kdgen.recipe import override
    from kdgen.report.report import count
    from kdgen.training.estimate import plan as estimate
    from kdgen.types import UserError

    if steps is not None and seconds is not None:
        raise UserError("give --steps or --seconds, not both")
    overrides = [f"{key}={json.dumps(value)}" for key, value in {"steps": steps, "seconds": seconds}.items()
                 if value is not None]  # fmt: skip
    stderr.print("measuring a few steps", markup=False)
    with make_display(quiet=as_json, as_json=False) as display, telling(display.drawn):
        found = estimate(override(find_recipe(recipe), [*(settings or ()), *overrides]))
    if as_json:
        print(found.model_dump_json())
        return
    table = Table("net", "parameters", "MACs a call", "steps/s", "steps", "for answers", "in all",
                  show_edge=False, pad_edge=False)  # fmt: skip
    if found.teacher is not None:
        table.add_row("teacher", f"{found.teacher.num_params:,}", count(found.teacher.macs))
    for phase in found.phases:
        table.add_row(phase.phase, f"{phase.net.num_params:,}", count(phase.net.macs), f"{phase.steps_per_second:.3g}",
                      f"{phase.steps:,}", clock(phase.answer_seconds), clock(phase.seconds))  # fmt: skip
    if found.control_seconds:
        table.add_row("controls", "", "", "", "", "", clock(found.control_seconds))
    stdout.print(table)
    for name, net in {"teacher": found.teacher, **{phase.phase: phase.net for phase in found.phases}}.items():
        if net is not None and net.sizes is not None:
            stdout.print(f"\n{name} takes {net.sizes}", markup=False)
    stdout.print(
        f"\n{clock(found.seconds)} in all but for quick evaluations and the report; memory up to "
        f"{found.memory_bytes / 2**30:.2f} GiB; {found.disk_bytes / 2**20:.1f} MiB of disk for cached answers.\n"
        "Parameters, MACs and disk are counted, memory and steps/s measured on a few steps, the rest follows.",
        markup=False,
    )
