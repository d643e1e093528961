"""The pictures of a run: nets side by side on evaluation images, and the curves of training."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from kdgen.models import tiling
from kdgen.report import tiles as parts
from kdgen.report.captions import blank, captioned, information
from kdgen.report.tiles import LINE, TILE, title, write
from kdgen.tasks.abilities import shown_by
from kdgen.types import Batch, Task
from kdgen.utils.convert import sheet, to_pictures
from kdgen.utils.devices import evaluating
from kdgen.utils.palette import class_names

DRAWN = 24
"""How many images of a net are shown."""

CAPTIONED = 128
"""Side of an image that has a caption, in pixels."""

GAP = 8

View = Callable[[Batch], Tensor]
"""What makes images ``(B, C, H, W)`` in [-1, 1] to look at of a net's answers to a batch."""


@runtime_checkable
class Pictured(Protocol):
    """A task whose nets change images, or say something of each place in them: it can show its evaluation images.

    Attributes:
        gives: what they answer with, ``images`` say.
    """

    gives: ClassVar[str]

    def evaluation_images(self, *, seed: int = 0, limit: int | None = None) -> Iterator[tuple[str, Batch]]:
        """Name and one-image batch of each, ``(1, C, H, W)`` in [-1, 1]; ``y`` is the truth where there is any."""
        ...

    def pictured(self, answer: Tensor) -> Tensor:
        """Answers or truths ``(B, ...)`` as images ``(B, C, H, W)`` in [-1, 1] to look at."""
        ...


@runtime_checkable
class Asking(Protocol):
    """A task that asks nets itself for what is to be looked at, since one answer alone does not show it."""

    def pictured_by(self, net: nn.Module) -> View:
        """What makes of batches what a net, as it is now, says of them, as images ``(B, C, H, W)`` in [-1, 1]."""
        ...


@runtime_checkable
class Drawn(Protocol):
    """A task whose nets make images."""

    def draw(self, net: nn.Module, *, num_images: int, seed: int = 0) -> Tensor:
        """Images ``(num_images, C, H, W)`` in [-1, 1] of a net; equal seeds mean equal latents."""
        ...

    def draw_teacher(self, net: nn.Module, *, num_images: int, seed: int = 0) -> Tensor:
        """The same of the teacher, which may draw in a way of its own."""
        ...

    def captions(self, num_images: int) -> Sequence[str]:
        """What each of the first images was asked for, in words; nothing where nothing is asked."""
        ...


def picture(
    path: Path, task: object, nets: Mapping[str, nn.Module], *, reference: nn.Module | None = None, seed: int = 0
) -> None:
    """Write the picture that suits a task: restored images side by side, or images drawn from the same latents.

    ``reference`` is the one of the nets that is the teacher, if one is.
    """
    if isinstance(task, Pictured):
        samples(path, task, nets, reference=reference, seed=seed)
    elif isinstance(task, Drawn):
        ways = {name: task.draw_teacher if net is reference else task.draw for name, net in nets.items()}
        drawn = {name: draw(nets[name], num_images=DRAWN, seed=seed) for name, draw in ways.items()}
        drawings(path, drawn, task.captions(DRAWN))


def drawings(path: Path, images: Mapping[str, Tensor], captions: Sequence[str] = ()) -> None:
    """Write a picture of images ``(N, C, H, W)`` in [-1, 1] by name: a block for each, the same place one latent.

    With ``captions``, N of them, each image has its own below it, and the file tells them.
    """
    blocks = []
    for caption, drawn in images.items():
        grid = sheet([tile.convert("RGBA") for tile in tiles(drawn, captions)], columns=4)
        block = blank(grid.width + GAP, grid.height + LINE + GAP)
        write(ImageDraw.Draw(block), (2, 2), title(caption), room=grid.width, bold=True)
        block.paste(grid, (0, LINE))
        blocks.append(block)
    canvas = blank(sum(b.width for b in blocks), max(b.height for b in blocks))
    left = 0
    for block in blocks:
        canvas.paste(block, (left, 0))
        left += block.width
    canvas.save(path, format="PNG", pnginfo=information(captions))


def tiles(drawn: Tensor, captions: Sequence[str] = ()) -> list[Image.Image]:
    """Images ``(N, C, H, W)`` in [-1, 1] as pictures of a size to be seen; of one size with captions below them."""
    if not captions:
        side = drawn.shape[-1] * max(TILE // 4 // drawn.shape[-1], 1)
        return [tile.resize((side, side), Image.Resampling.NEAREST) for tile in to_pictures(drawn)]
    return captioned([_tile(picture) for picture in to_pictures(drawn)], captions)


def _tile(picture: Image.Image) -> Image.Image:
    """A picture as wide as its caption, its pixels as squares where that comes out even."""
    way = Image.Resampling.NEAREST if CAPTIONED % picture.width == 0 else Image.Resampling.LANCZOS
    return picture.resize((CAPTIONED, CAPTIONED), way)


def samples(
    path: Path,
    task: Pictured,
    nets: Mapping[str, nn.Module],
    *,
    reference: nn.Module | None = None,
    seed: int = 0,
    limit: int = 3,
) -> None:
    """Write a picture of nets side by side on evaluation images.

    Columns are the input, each net and the truth, with PSNR. Below each stand a threefold zoom into the patch with
    the most detail, and the absolute error there, in one colour scale for all columns of an image. What is larger or
    smaller than the truth, or without truth than the largest, is resampled to its size (bicubic). Of clips the frame in
    the middle is shown.

    Classes of places are in colours, whose key is at the end.

    Args:
        path: PNG file to write.
        task: gives the evaluation images.
        nets: by caption or role, in the order of the columns.
        reference: the one of them that is the teacher, which may see the images otherwise.
        seed: seed of the noise.
        limit: number of images.
    """
    shown = task.evaluation_images(seed=seed, limit=limit)
    views = {caption: _view(task, net) for caption, net in nets.items()}
    bands = [_band(name, batch, nets, views, task, reference) for name, batch in shown]
    assert bands, "a task has at least one evaluation image"
    if isinstance(task, Task) and task.gives == "logits":
        facts = task.describe()
        names = class_names(facts, int(str(facts["num_classes"])))
        bands.append(parts.key(names, max(band.width for band in bands)))
    sheet = blank(max(b.width for b in bands), sum(b.height for b in bands))
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    sheet.save(path, format="PNG")


@torch.inference_mode()
def _band(
    name: str,
    batch: Batch,
    nets: Mapping[str, nn.Module],
    views: Mapping[str, View],
    task: Pictured,
    reference: nn.Module | None,
) -> Image.Image:
    columns = {"input": batch.x}
    for caption, net in nets.items():
        where = next((p.device for p in net.parameters()), torch.device("cpu"))
        at = shown_by(task, net, batch, teaches=net is reference).to(where)
        with evaluating(net):
            columns[caption] = views[caption](at)
    columns = {caption: parts.middle_frame(x) for caption, x in columns.items()}
    right = None if batch.y is None else parts.middle_frame(task.pictured(batch.y).nan_to_num(0.0))
    size = right.shape[-2:] if right is not None else max((x.shape[-2:] for x in columns.values()), key=math.prod)
    arrays = {caption: parts.unit(parts.resized(x, size)) for caption, x in columns.items()}
    truth = None if right is None else parts.unit(right)
    if truth is not None:
        arrays["truth"] = truth
    guide = arrays["input"] if truth is None else truth
    side = min(parts.CROP, *guide.shape[:2])
    top, left = parts.textured(guide, side)
    box = (left, top, left + side, top + side)
    crops = {caption: array[top : top + side, left : left + side] for caption, array in arrays.items()}
    compared = truth is not None and not isinstance(task, Asking)
    answers = [key for key in crops if key != "input" or task.gives == "images"] if compared else []
    errors = {key: np.abs(crops[key] - crops["truth"]).mean(2) for key in answers}
    judge = parts.decibels if task.gives == "images" else parts.share_alike
    judged = [error for key, error in errors.items() if key not in ("input", "truth")]
    scale = max(1 / 255, *(float(np.quantile(error, 0.995)) for error in judged)) if judged else 1.0

    thumb_height = min(TILE, round(TILE * guide.shape[0] / guide.shape[1]) or 1)
    height = 2 * LINE + thumb_height + GAP + TILE + (LINE + TILE if errors else 0) + 2 * GAP
    band = blank(GAP + (TILE + GAP) * len(arrays), height)
    draw = ImageDraw.Draw(band)
    write(draw, (GAP, 2), f"{name}, {guide.shape[1]}x{guide.shape[0]}", bold=True)
    for column, (caption, array) in enumerate(arrays.items()):
        x, y = GAP + column * (TILE + GAP), LINE
        quality = judge(array, truth) if truth is not None and caption in errors and array is not truth else ""
        write(draw, (x, y), title(caption), room=TILE - 76 * bool(quality))
        write(draw, (x + TILE - 72, y), quality)
        band.paste(parts.thumbnail(array, box, thumb_height), (x, y := y + LINE))
        band.paste(parts.enlarged(crops[caption]), (x, y := y + thumb_height + GAP))
        if caption in errors and caption != "truth":
            write(draw, (x, y := y + TILE), f"|{title(caption)} - truth|", room=TILE)
            band.paste(parts.enlarged(parts.heat(errors[caption] / scale)), (x, y + LINE))
        elif caption == "truth":
            band.paste(parts.legend(scale * 255), (x, y + TILE))
    return band


def _view(task: Pictured, net: nn.Module) -> View:
    if isinstance(task, Asking):
        return task.pictured_by(net)
    return lambda batch: task.pictured(tiling.whole(net, batch.x, batch.cond))
