"""Train on hardware of the Hugging Face Hub: `distill --on` and `jobs`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from kdgen.cli.arguments import register_all
from kdgen.cli.commands.options import Json, Quiet
from kdgen.cli.console import make_display, print_report, stderr, stdout
from kdgen.utils.durations import clock

if TYPE_CHECKING:
    from kdgen.recipe import Recipe

app = typer.Typer()
HUB = "hf:"


@app.command(
    epilog="""
Examples:

- `kdgen jobs` (yours that kdgen began)

- `kdgen jobs --hardware` (what there is, and its price)

- `kdgen jobs 687fb701029421ae5549d998` (follow one), with `--cancel` to end it

Begin one with `kdgen distill denoise --on hf:a10g-small`.
"""
)
def jobs(
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="Follow this one; default lists all.")] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End it.")] = False,
    hardware: Annotated[bool, typer.Option("--hardware", help="List hardware and prices.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """List, follow or end runs on the hardware of the Hugging Face Hub."""
    register_all(None)
    from kdgen.hub import jobs as remote
    from kdgen.types import UserError

    if hardware:
        from kdgen.hub.hardware import hardware as offered

        print("\n".join(str(machine) for machine in offered()))
        return
    if cancel and job is None:
        raise UserError("--cancel wants a job: `kdgen jobs` lists them")
    if job is None:
        table = Table(box=None, pad_edge=False)
        for title in ("job", "recipe", "hardware", "stage", "student"):
            table.add_column(title, overflow="fold")
        for each in remote.jobs():
            table.add_row(each.id, each.name, each.hardware, each.stage.lower(), each.repo_id)
        stdout.print(table)
    elif cancel:
        remote.cancel(job)
        stderr.print(f"kdgen: job {job} is cancelled", markup=False)
    else:
        follow(job, quiet=quiet, as_json=as_json)


def run_on(
    place: str, recipe: "Recipe", *, push: str | None, private: bool | None, timeout: int | None, quiet: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Run a recipe as a job and follow it."""
    from kdgen.hub import jobs as remote
    from kdgen.hub.hardware import find_hardware
    from kdgen.types import UserError

    if not place.startswith(HUB):
        raise UserError(f"--on takes {HUB} and the name of hardware, {HUB}a10g-small, not {place!r}")
    machine = find_hardware(place.removeprefix(HUB))
    seconds = 60 * timeout if timeout else remote.time_limit(recipe)
    most = machine.dollars * seconds / 3600
    stderr.print(f"kdgen: on {machine}; ended after {clock(seconds)}, so ${most:.2f} at most", markup=False)
    job = remote.begin(recipe, machine.name, repo_id=push, private=True if private is None else private,
                       seconds=seconds)  # fmt: skip
    stderr.print(f"kdgen: job {job.id}, {job.url}; its student goes to {job.repo_id}", markup=False)
    follow(job.id, quiet=quiet, as_json=as_json)


def follow(id: str, *, quiet: bool, as_json: bool) -> None:
    """Show a job until it ends, then its report. An interruption leaves it at work, or ends it if that is wished."""
    from kdgen.hub import jobs as remote
    from kdgen.models.hub_cache import HubId, fetch
    from kdgen.report.report import Report

    try:
        with make_display(quiet=quiet, as_json=as_json) as display:
            for each in remote.follow(id):
                if not isinstance(each, str):
                    display.show(each)
                elif not quiet and each.strip():
                    stderr.print(each, markup=False)
    except KeyboardInterrupt:
        if sys.stdin.isatty() and typer.confirm("\nEnd the job too?", default=False, err=True):
            remote.cancel(id)
            stderr.print(f"kdgen: job {id} is cancelled", markup=False)
        else:
            stderr.print(f"kdgen: the job goes on: `kdgen jobs {id}` follows it again, `kdgen jobs {id} --cancel` "
                         "ends it", markup=False)  # fmt: skip
        raise typer.Exit(130) from None
    if as_json:
        return
    repo_id = remote.inspect(id).repo_id
    if not repo_id:
        return
    folder = fetch(HubId.read(repo_id)).folder
    if quiet:
        print(repo_id)
        return
    if (Path(folder) / "report.json").is_file():
        print_report(Report.read(folder))
    stdout.print(f"\nstudent:  {repo_id}", markup=False)
