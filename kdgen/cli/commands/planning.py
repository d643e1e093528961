"""Plan: `plan`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from kdgen.cli.arguments import find_recipe, register_all
from kdgen.cli.commands.options import Code, Json
from kdgen.cli.console import make_display, stderr, stdout
from kdgen.utils.durations import clock

if TYPE_CHECKING:
    from kdgen.recipe import Recipe
    from kdgen.training.fitting import Way

app = typer.Typer()


@app.command(
    epilog="""
Examples:

- `kdgen plan denoise`

- `kdgen plan mine.json --steps 20000 --set batch_size=64`

- `kdgen plan mine.json --from-config`

- `kdgen plan mine.json --processes 4 --set shard_student=true`
"""
)
def plan(
    recipe: Annotated[str, typer.Argument(metavar="PRESET_OR_RECIPE.json", help="See `kdgen list presets`.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, see `kdgen show --explain`.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Of the run.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Of the run.")] = None,
    from_config: Annotated[
        bool, typer.Option(help="Count memory by configurations alone, as is done for models of the Hub.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="With the configuration of the teacher, an id of the Hub.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="That share each batch, on a GPU each; by configurations alone, of one of them.")
    ] = 1,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Estimate memory, disk and time of a run from a few of its steps; or by configurations alone what GPU it fits."""
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
    chosen = override(find_recipe(recipe), [*(settings or ()), *overrides])
    if from_config or config is not None or processes > 1 or _of_hub(chosen):
        _fit(chosen, config, processes, as_json)
        return
    stderr.print("measuring a few steps", markup=False)
    with make_display(quiet=as_json, as_json=False) as display, telling(display.drawn):
        found = estimate(chosen)
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


def _of_hub(recipe: "Recipe") -> bool:
    """Whether its teacher is one of the Hub whose configuration is at hand."""
    from kdgen.models.hub_cache import hub_id
    from kdgen.models.weightless import bundled

    id = hub_id(recipe.teacher.partition("#")[0]) if isinstance(recipe.teacher, str) else None
    return id is not None and id.name in bundled()


def _fit(recipe: "Recipe", config: Path | None, processes: int, as_json: bool) -> None:
    """Say what the training of a recipe takes by configurations alone, and on which GPUs it fits."""
    from kdgen.models.hub_cache import hub_id
    from kdgen.models.weightless import bundled
    from kdgen.training.fitting import fit
    from kdgen.types import UserError

    folders = dict(bundled())
    if config is not None:
        id = hub_id(str(recipe.teacher).partition("#")[0])
        if id is None or not config.is_dir():
            raise UserError(f"--config is the folder with the configuration of a teacher of the Hub, and "
                            f"{config if id else recipe.teacher} is none")  # fmt: skip
        folders[id.name] = config
    stderr.print("counting by configurations alone", markup=False)
    found = fit(recipe, folders, processes=processes)
    if as_json:
        print(found.model_dump_json())
        return
    table = Table("memory of a step", "GiB", show_edge=False, pad_edge=False)
    for name, size in found.own.footprint.model_dump().items():
        if size:
            table.add_row(name, f"{size / 2**30:.2f}")
    table.add_row("in all", f"{found.own.footprint.total / 2**30:.2f}")
    stdout.print(table)
    stdout.print()
    which = "a GPU" if processes == 1 else f"each of {processes} GPUs"
    for gib, way in found.fitting.items():
        if way is None:
            stdout.print(f"{which} of {gib} GiB: does not fit", markup=False)
        else:
            stdout.print(f"{which} of {gib} GiB: fits {_said(way, found.own)}, {way.footprint.total / 2**30:.1f} GiB",
                         markup=False)  # fmt: skip
    stdout.print("\nCounted by configurations alone, without weights: the peak of a step that computes in "
                 f"{'float32' if recipe.precision == 'float32' else 'bfloat16'}; a tenth of a GPU is left to its "
                 "driver, to libraries and to gaps. Pictures that are drawn to measure nets are not in it.",
                 markup=False)  # fmt: skip


def _said(way: "Way", own: "Way") -> str:
    """How a way differs from the recipe, as settings."""
    before, now = own.memory.model_dump(), way.memory.model_dump()
    settings = [f"--set memory.{key}={value if isinstance(value, str) else json.dumps(value)}"
                for key, value in now.items() if value != before[key]]  # fmt: skip
    settings += [f"a batch in {way.parts} parts, which a run finds by itself"] if way.parts > 1 else []
    return "with " + ", ".join(settings) if settings else "as it is"
