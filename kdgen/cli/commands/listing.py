"""Look up: `list` and `show`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.markup import escape
from rich.table import Table

from kdgen.cli.arguments import find_recipe, register_all
from kdgen.cli.commands.options import Code
from kdgen.cli.console import stdout

if TYPE_CHECKING:
    from kdgen.registry import Kind

app = typer.Typer()


class Listed(StrEnum):
    """What `kdgen list` can list."""

    presets = "presets"
    nets = "nets"
    adapters = "adapters"
    tasks = "tasks"
    methods = "methods"
    objectives = "objectives"
    images = "images"
    damages = "damages"
    ratios = "ratios"
    hub = "hub"


@app.command(name="list", epilog="Examples: `kdgen list methods`, `kdgen list hub --task denoise`")
def list_names(
    what: Annotated[Listed, typer.Argument(help="What to list.")],
    author: Annotated[str | None, typer.Option(help="Of `hub`: students of this user or organisation.")] = None,
    task: Annotated[str | None, typer.Option(help="Of `hub`: students for this task.")] = None,
    code: Code = None,
) -> None:
    """List what a recipe can name, each with a line on what it is; or the students published on the Hub."""
    if what == "hub":
        _list_hub(author, task)
        return
    register_all(code)
    from kdgen import registry

    kind = cast("Kind", what if what == "images" else what.removesuffix("s"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for name in registry.names(kind):
        shown = name.replace("_", "-") if kind == "preset" else name
        shown += f" ({', '.join(handles)})" if (handles := registry.handles_of(kind, name)) else ""
        table.add_row(shown, escape(registry.summary(kind, name)))
    stdout.print(table)


@app.command(epilog="Examples: `kdgen show denoise > mine.json`, `kdgen show denoise --explain`")
def show(
    preset: Annotated[
        str,
        typer.Argument(
            metavar="PRESET_OR_TEACHER", help="See `kdgen list presets`; or a teacher's file, or a pipeline's folder."
        ),
    ],
    prompts: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a pipeline of words, as for distill.")
    ] = None,
    explain_keys: Annotated[bool, typer.Option("--explain", help="Print what every key means instead.")] = False,
    code: Code = None,
) -> None:
    """Print a preset's recipe as JSON, ready to edit."""
    register_all(code)
    from kdgen.recipe import Recipe
    from kdgen.utils.schema import document

    recipe = find_recipe(preset, prompts=prompts)
    if not explain_keys:
        print(recipe.to_json())
        return
    table = Table("key", "default", "meaning", box=None, pad_edge=False)
    for key, default, meaning in document(Recipe):
        table.add_row(key, escape(default), escape(meaning))
    stdout.print(table)


def _list_hub(author: str | None, task: str | None) -> None:
    from kdgen import hub

    students = hub.published(author=author, task=task)
    table = Table("student", "task", "figures", "teacher", "licence", box=None, pad_edge=False)
    for student in students:
        figures = ", ".join(f"{key} {value:.4g}" for key, value in student.figures.items())
        table.add_row(*map(escape, (student.id, student.task, figures, student.teacher, student.license)))
    stdout.print(table if students else "no student is published that fits")
