"""Use: `generate` and `restore`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, track

from kdgen.cli.arguments import register_all
from kdgen.cli.commands.options import Code, Named, Sigma
from kdgen.cli.console import stderr

app = typer.Typer()


@app.command(
    epilog="""
Examples:

- `kdgen generate gan images.png --num-images 64`

- `kdgen generate runs/diffusion images/ --num-images 100 --seed 7 --num-steps 20` (a folder: one file an image)

- `kdgen generate runs/digits sevens.png --label 7` (several: `--label 1 --label 7`, in turn)

- `kdgen generate pipeline/ hearts.png --prompt "red heart" --guidance 5` (several: `--prompt` again, in turn)
"""
)
def generate(
    model: Named,
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A .png file for one sheet, or a folder for files.")],
    num_images: Annotated[int, typer.Option(min=1, help="How many images.")] = 16,
    seed: Annotated[int, typer.Option(help="The same seed draws the same images on one machine.")] = 0,
    num_steps: Annotated[int | None, typer.Option(min=1, help="Steps of a diffusion model's sampler.")] = None,
    label: Annotated[
        list[int] | None, typer.Option(min=0, help="Class of a class-conditional model; several come in turn.")
    ] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What a text-to-image model is asked for; several come in turn.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(min=0, help="How far a pipeline goes towards what it is told; 1 is no further.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Height and width in pixels of what a pipeline of latents draws.")
    ] = None,
    code: Code = None,
) -> None:
    """Draw images with a generator or a diffusion model."""
    register_all(code)
    from kdgen.models.model import load
    from kdgen.types import UserError
    from kdgen.utils.convert import sheet

    if target.suffix and target.suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"{target} is no picture: name a .png, .jpg or .webp file, or a folder")
    loaded = load(model)
    with Progress(console=stderr, disable=not stderr.is_terminal) as bars:
        bar = bars.add_task("drawing", total=num_images)
        pictures = loaded.generate(num_images, seed=seed, num_steps=num_steps, label=label or None,
                                   prompt=prompt or None, guidance=guidance, resolution=resolution,
                                   progress=lambda done, of: bars.update(bar, completed=done))  # fmt: skip
    if target.suffix:
        target.parent.mkdir(parents=True, exist_ok=True)
        sheet(pictures).save(target)
    else:
        target.mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(pictures):
            picture.save(target / f"{number:05}.png")
    stderr.print(f"{num_images} images with seed {seed} in {target}", markup=False)


@app.command(
    epilog="""
Examples:

- `kdgen restore denoiser noisy.png clean.png --sigma 25`

- `kdgen restore runs/denoise noisy/ restored/` (nested folders keep their names)

- `kdgen restore runs/inpaint scratched.png whole.png --mask scratches.png` (white is missing)
"""
)
def restore(
    model: Named,
    source: Annotated[Path, typer.Argument(metavar="IN", help="An image or a folder of images.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="Where the restored images go; never over IN.")],
    sigma: Sigma = None,
    mask: Annotated[
        Path | None, typer.Option(help="For inpainters: a picture that is white where IN is missing, or a folder.")
    ] = None,
    stops: Annotated[
        float | None, typer.Option(min=0, max=8, help="For nets told that: how many times the light was halved.")
    ] = None,
    code: Code = None,
) -> None:
    """Restore or enlarge an image or a folder of images, upright, with their depth, transparency and colour profiles.

    Damaged images are named and skipped; what the format of a restored file cannot hold is named.
    """
    register_all(code)
    from kdgen.cli.files import Unreadable, pairs, restore_file
    from kdgen.cli.masks import mask_for
    from kdgen.models.model import load
    from kdgen.types import UserError

    files = pairs(source, target)
    loaded = load(model)
    skipped = 0
    for read, write in track(files, "restoring", console=stderr, disable=not stderr.is_terminal):
        try:
            hides = None if mask is None else mask_for(read, mask, source)
            lost = restore_file(loaded, read, write, sigma, hides, stops)
        except Unreadable as error:
            if len(files) == 1:
                raise UserError(f"no image could be restored, {read}: {error}") from None
            skipped += 1
            stderr.print(f"kdgen: skipped {read}: {error}", markup=False)
            continue
        if lost:
            stderr.print(f"kdgen: {read}: {'; '.join(lost)}", markup=False)
    if skipped == len(files):
        raise UserError("no image could be restored")
    stderr.print(f"{len(files) - skipped} of {len(files)} restored to {target}", markup=False)
