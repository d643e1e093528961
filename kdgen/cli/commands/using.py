"""Use: `generate`, `restore` and `faults`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, track

from kdgen.cli.arguments import register_all
from kdgen.cli.commands.options import Code, Named, Sigma
from kdgen.cli.console import stderr, stdout

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


@app.command(
    epilog="""
Examples:

- `kdgen faults runs/solar-cells cell.png found/` (the picture, and beside it where it is unlike good ones)

- `kdgen faults runs/solar-cells cells/ found/ --save detector/` (student and teacher as one model)

- `kdgen faults detector/ cells/ found/`
"""
)
def faults(
    model: Named,
    source: Annotated[Path, typer.Argument(metavar="IN", help="An image or a folder of images.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="A folder for a picture of each with its map.")],
    save: Annotated[Path | None, typer.Option(help="Also write the detector into this folder.")] = None,
    code: Code = None,
) -> None:
    """Find what good pictures do not have: a score for each picture, the likeliest fault first, and a map.

    Of places of good pictures one in 200 has more than 0.1; a picture's score is the largest of its map.
    """
    register_all(code)
    from kdgen.data import Folder, read_picture, to_tensor
    from kdgen.models.fault_maps import heat
    from kdgen.tasks.fault_finding import find_faults, open_detector
    from kdgen.utils.convert import sheet, to_pictures

    detector = open_detector(model)
    if save is not None:
        detector.save(save)
    if source.is_dir():
        pictures = Folder(str(source)).images(detector.channels)
    else:
        pictures = iter([(source.name, to_tensor(read_picture(source), detector.channels))])
    scores = dict[str, float]()
    for name, image in track(pictures, "looking", console=stderr, disable=not stderr.is_terminal):
        scores[name], seen, found = find_faults(detector, image)
        shown = to_pictures(seen)[0].convert("RGB"), to_pictures(heat(found))[0]
        file = (target / name).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        sheet(shown, columns=2).save(file)
    for name, score in sorted(scores.items(), key=lambda each: -each[1]):
        stdout.print(f"{score:8.3f}  {name}", markup=False, highlight=False)
