"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer


def _noise_level(sigma: float | None) -> float | None:
    if sigma is not None:
        from kdgen.types import arguments

        arguments.check_argument("--sigma", "sigma", sigma, arguments.Sigma)
    return sigma


Code = Annotated[
    list[Path] | None,
    typer.Option(
        "--code",
        metavar="FILE",
        help="A Python file of yours that registers nets or methods; it is run.",
    ),
]
Named = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A run or student folder, a bundled name, a Hub id (ORG/NAME), or a JSON file that declares a checkpoint.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for machines.")]
Sigma = Annotated[
    float | None,
    typer.Option(
        callback=_noise_level, help="Noise level in 8-bit units, 0 to 100; default what the model was made for."
    ),
]
Clean = Annotated[
    Path | None,
    typer.Option(help="Folder of the clean pictures, where --data holds the damaged ones by the same names."),
]
Seed = Annotated[int, typer.Option(help="Seed of the noise or the latents.")]
Teacher = Annotated[str | None, typer.Option(help="The model whose images theirs are measured against.")]
Track = Annotated[
    list[str] | None,
    typer.Option("--track", metavar="NAME", help="Also send figures to tensorboard or trackio, if it is installed."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print the run folder at the end and nothing else.")]
