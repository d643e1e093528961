"""The command line: arguments become a recipe, and what happens in its run is printed."""

import sys
from collections.abc import Sequence

import typer

from kdgen.cli.commands import (
    elsewhere,
    exporting,
    listing,
    measuring,
    planning,
    proposing,
    publishing,
    training,
    using,
)
from kdgen.cli.console import explain, plain_warnings, stderr
from kdgen.cli.streams import secure, settle

app = typer.Typer(
    name="kdgen",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Teach a small, fast image net from a big one, and prove on a table what was kept and what was saved.",
    epilog="A MODEL is a run folder, a student folder, a diffusers folder, a bundled name, a Hub id (ORG/NAME), "
    "or a JSON file that declares a foreign checkpoint. `kdgen COMMAND --help` shows examples. Start with "
    "`kdgen distill denoise`.",
)
for commands in (training, using, measuring, planning, proposing, exporting, publishing, elsewhere, listing):
    app.add_typer(commands.app)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    0 when all is done, 2 for a mistake to mend, 3 for a full disk or a Hub out of reach, 130 after a signal.
    """
    secure()
    with plain_warnings():
        try:
            app(list(arguments) if arguments is not None else None, prog_name="kdgen")
        except Exception as error:
            code, message = explain(error)
            if code is None:
                raise
            stderr.print(f"kdgen: {message}", markup=False)
            sys.exit(code)
        finally:
            settle()


if __name__ == "__main__":
    main()
