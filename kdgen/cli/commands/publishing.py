"""Publish and pull: `push`, `pull` and `deploy`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from kdgen.cli.arguments import register_all
from kdgen.cli.commands.options import Code
from kdgen.cli.console import stderr, stdout

if TYPE_CHECKING:
    from kdgen.hub import Pushed

app = typer.Typer()

Private = Annotated[bool | None, typer.Option("--private/--public", help="For a new one; default as its owner has it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Send nothing; print the files, their sizes and the page.")]


@app.command(
    epilog="""
Examples:

- `kdgen push runs/denoise me/tiny-denoiser --dry-run`

- `kdgen push runs/denoise me/tiny-denoiser --license apache-2.0`

- `kdgen push runs/denoise somebody/theirs --create-pr` (a pull request, where you may not write)

Log in with `hf auth login`, or set HF_TOKEN.
"""
)
def push(
    source: Annotated[Path, typer.Argument(metavar="RUN_OR_STUDENT", help="A finished run or a student folder.")],
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Where to; it is created if need be.")],
    private: Private = None,
    revision: Annotated[str | None, typer.Option(help="The branch; made if need be.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Propose the change rather than make it.")] = False,
    license: Annotated[str | None, typer.Option(help="Of the student in the Hub's words, e.g. apache-2.0.")] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(metavar="ORG/NAME", help="One of the Hub's it learned from.")
    ] = None,
    dry_run: DryRun = False,
    code: Code = None,
) -> None:
    """Publish a student on the Hugging Face Hub with its card, report and recipe; checked before and after."""
    register_all(code)
    from kdgen import hub

    with _kept_when_interrupted():
        pushed = hub.push_to_hub(source, name, private=private, revision=revision, create_pr=create_pr, license=license,
                          datasets=dataset or (), dry_run=dry_run)  # fmt: skip
    _show(pushed)


@app.command(
    epilog="""
Examples:

- `kdgen pull me/tiny-denoiser` (into the cache; then `kdgen restore me/tiny-denoiser noisy.png clean.png`)

- `kdgen pull me/tiny-denoiser --to here --revision v1`

- `kdgen pull google/ddpm-cifar10-32` (a model of diffusers, to teach from)
"""
)
def pull(
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="A student or a model of diffusers on the Hub.")],
    to: Annotated[Path | None, typer.Option(help="A new folder for the files; default the cache alone.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit; default the newest.")] = None,
    code: Code = None,
) -> None:
    """Fetch a model from the Hub, check that it loads, and print where it lies. Needs no network the next time."""
    register_all(code)
    from kdgen import hub
    from kdgen.models.hub_cache import HubId

    id = HubId.read(name)
    print(hub.pull(id.at(revision or id.revision), to))


@app.command(
    epilog="""
Examples:

- `kdgen deploy me/kdgen --dry-run`

- `kdgen deploy me/kdgen --student me/tiny-denoiser --student me/tiny-gan --private`

- `kdgen deploy me/kdgen --hardware zero-a10g` (ZeroGPU: runs train on the visitors' own quota)
"""
)
def deploy(
    name: Annotated[str, typer.Argument(metavar="ORG/SPACE", help="Where to; it is created if need be.")],
    student: Annotated[list[str] | None, typer.Option(metavar="ORG/NAME", help="A student to preload.")] = None,
    hardware: Annotated[
        str | None,
        typer.Option(help="That it is made for and asks for: cpu-basic (default, free), zero-a10g, t4-small, ..."),
    ] = None,
    private: Private = None,
    dry_run: DryRun = False,
) -> None:
    """Make or renew a Space that runs the app, from a checkout of kdgen."""
    register_all(None)
    from kdgen import hub

    with _kept_when_interrupted():
        pushed = hub.deploy(name, students=student or (), private=private, hardware=hardware, dry_run=dry_run)
    _show(pushed)


@contextmanager
def _kept_when_interrupted() -> Iterator[None]:
    """An interruption is one line and no harm."""
    try:
        yield
    except KeyboardInterrupt:
        stderr.print("kdgen: interrupted: nothing here changed, what was uploaded is kept; run the same command "
                     "again to go on", markup=False)  # fmt: skip
        raise typer.Exit(130) from None


def _show(pushed: "Pushed") -> None:
    """The files and their sizes; of a dry run the page as well."""
    for note in pushed.notes:
        stderr.print(f"kdgen: {note}", markup=False)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(justify="right")
    for path, size in pushed.files.items():
        table.add_row(f"{size:,}", escape(path))
    stdout.print(table)
    if pushed.commit is None:
        print(f"\n{pushed.card}")
        stderr.print(f"nothing was sent; without --dry-run it goes to {pushed.url}", markup=False)
    else:
        print(pushed.url)
