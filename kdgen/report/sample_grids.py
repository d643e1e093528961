"""The pictures of a run: nets side by side on evaluation images, and the curves of training."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import matplotlib
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from kdgen.models import tiling
from kdgen.report.captions import captioned, information
from kdgen.types import Batch
from kdgen.utils.convert import sheet, to_pictures
from kdgen.utils.devices import evaluating

ZOOM = 3
"""How many pixels of the picture one pixel of a zoomed crop takes."""

CROP = 96
"""Side of the zoomed crop in pixels."""

TILE = ZOOM * CROP
DRAWN = 24
"""How many images of a net are shown."""

CAPTIONED = 128
"""Side of an image that has a caption, in pixels."""

GAP = 8
LINE = 24

Array = NDArray[np.float32]


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

    def pictured_by(self, net: nn.Module, batch: Batch) -> Tensor:
        """What a net makes of a batch, as images ``(B, C, H, W)`` in [-1, 1]."""
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
        grid = sheet(tiles(drawn, captions), columns=4).convert("RGB")
        block = Image.new("RGB", (grid.width + GAP, grid.height + LINE + GAP), "white")
        _text(ImageDraw.Draw(block), (2, 2), _title(caption), room=grid.width, bold=True)
        block.paste(grid, (0, LINE))
        blocks.append(block)
    canvas = Image.new("RGB", (sum(b.width for b in blocks), max(b.height for b in blocks)), "white")
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

    Args:
        path: PNG file to write.
        task: gives the evaluation images.
        nets: by caption or role, in the order of the columns.
        reference: the one of them that is the teacher, which may see the images otherwise.
        seed: seed of the noise.
        limit: number of images.
    """
    shown = task.evaluation_images(seed=seed, limit=limit)
    bands = [_band(name, batch, nets, task, reference) for name, batch in shown]
    assert bands, "a task has at least one evaluation image"
    sheet = Image.new("RGB", (max(b.width for b in bands), sum(b.height for b in bands)), "white")
    top = 0
    for band in bands:
        sheet.paste(band, (0, top))
        top += band.height
    sheet.save(path, format="PNG")


def textured(truth: Array, side: int) -> tuple[int, int]:
    """Top and left of the square with the most detail: the largest mean squared difference between neighbours.

    Args:
        truth: ``(H, W, C)``.
        side: of the square, in pixels, at most H and W.
    """
    grey = truth.mean(axis=2, dtype=np.float64)
    detail = sum(np.diff(grey, axis=axis, append=np.take(grey, [-1], axis)) ** 2 for axis in (0, 1))
    total = np.pad(detail, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inside = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    top, left = np.unravel_index(np.argmax(inside), inside.shape)
    return int(top), int(left)


@torch.inference_mode()
def _band(
    name: str, batch: Batch, nets: Mapping[str, nn.Module], task: Pictured, reference: nn.Module | None
) -> Image.Image:
    columns = {"input": batch.x}
    for caption, net in nets.items():
        where = next((p.device for p in net.parameters()), torch.device("cpu"))
        at = (batch.for_teacher() if net is reference else batch).to(where)
        with evaluating(net):
            columns[caption] = _seen(task, net, at)
    columns = {caption: _frame(x) for caption, x in columns.items()}
    right = None if batch.y is None else _frame(task.pictured(batch.y).nan_to_num(0.0))
    size = right.shape[-2:] if right is not None else max((x.shape[-2:] for x in columns.values()), key=math.prod)
    arrays = {caption: _unit(resized(x, size)) for caption, x in columns.items()}
    truth = None if right is None else _unit(right)
    if truth is not None:
        arrays["truth"] = truth
    guide = arrays["input"] if truth is None else truth
    side = min(CROP, *guide.shape[:2])
    top, left = textured(guide, side)
    box = (left, top, left + side, top + side)
    crops = {caption: array[top : top + side, left : left + side] for caption, array in arrays.items()}
    compared = truth is not None and not isinstance(task, Asking)
    answers = [key for key in crops if key != "input" or task.gives == "images"] if compared else []
    errors = {key: np.abs(crops[key] - crops["truth"]).mean(2) for key in answers}
    judge = _quality if task.gives == "images" else _share_alike
    judged = [error for key, error in errors.items() if key not in ("input", "truth")]
    scale = max(1 / 255, *(float(np.quantile(error, 0.995)) for error in judged)) if judged else 1.0

    thumb_height = min(TILE, round(TILE * guide.shape[0] / guide.shape[1]) or 1)
    height = 2 * LINE + thumb_height + GAP + TILE + (LINE + TILE if errors else 0) + 2 * GAP
    band = Image.new("RGB", (GAP + (TILE + GAP) * len(arrays), height), "white")
    draw = ImageDraw.Draw(band)
    _text(draw, (GAP, 2), f"{name}, {guide.shape[1]}x{guide.shape[0]}", bold=True)
    for column, (caption, array) in enumerate(arrays.items()):
        x, y = GAP + column * (TILE + GAP), LINE
        quality = judge(array, truth) if truth is not None and caption in errors and array is not truth else ""
        _text(draw, (x, y), _title(caption), room=TILE - 76 * bool(quality))
        _text(draw, (x + TILE - 72, y), quality)
        band.paste(_thumbnail(array, box, thumb_height), (x, y := y + LINE))
        band.paste(_enlarged(crops[caption]), (x, y := y + thumb_height + GAP))
        if caption in errors and caption != "truth":
            _text(draw, (x, y := y + TILE), f"|{_title(caption)} - truth|", room=TILE)
            band.paste(_enlarged(_heat(errors[caption] / scale)), (x, y + LINE))
        elif caption == "truth":
            band.paste(_legend(scale * 255), (x, y + TILE))
    return band


def _seen(task: Pictured, net: nn.Module, batch: Batch) -> Tensor:
    if isinstance(task, Asking):
        return task.pictured_by(net, batch)
    return task.pictured(tiling.whole(net, batch.x, batch.cond))


def _frame(x: Tensor) -> Tensor:
    """Images ``(B, C, H, W)``, of other channels than grey and colour the first three, or the first of two.

    Of clips ``(B, C, T, H, W)`` it is the frame in the middle.
    """
    x = x[:, :, x.shape[2] // 2] if x.ndim == 5 else x
    return x if x.shape[1] in (1, 3) else x[:, : 3 if x.shape[1] > 3 else 1]


def resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Images ``(B, C, H, W)`` resampled to a height and width, where they are of another."""
    return x if x.shape[-2:] == size else F.interpolate(x.float(), size, mode="bicubic", antialias=True)


def _unit(x: Tensor) -> Array:
    """The first image of ``(B, C, H, W)`` in [-1, 1] as ``(H, W, C)`` in [0, 1]."""
    array: Array = ((x[0].float().clamp(-1, 1) + 1) / 2).movedim(0, -1).cpu().numpy()
    return array


def _quality(array: Array, truth: Array) -> str:
    """The PSNR in words, 100 dB at most."""
    error = float(np.mean((array.astype(np.float64) - truth) ** 2))
    if not math.isfinite(error):
        return "not finite"
    return f"{100.0 if error == 0 else min(100.0, -10 * math.log10(error)):.2f} dB"


def _share_alike(array: Array, truth: Array) -> str:
    """The share of pixels that have the truth's colour, in words."""
    return f"{np.isclose(array, truth, atol=1 / 512).all(2).mean():.1%}"


def _picture(array: Array) -> Image.Image:
    octets = (np.nan_to_num(array) * 255).round().astype(np.uint8)
    return Image.fromarray(octets[..., 0] if octets.shape[2] == 1 else octets).convert("RGB")


def _enlarged(crop: Array) -> Image.Image:
    return _picture(crop).resize((TILE, TILE), Image.Resampling.NEAREST)


def _thumbnail(array: Array, box: tuple[int, int, int, int], height: int) -> Image.Image:
    """The whole image, fitted into the tile, with a frame around the zoomed crop."""
    picture = _picture(array)
    ratio = min(TILE / picture.width, height / picture.height)
    width, height_drawn = max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))
    small = picture.resize((width, height_drawn), Image.Resampling.LANCZOS)
    frame = tuple(round(edge * ratio) - (i > 1) for i, edge in enumerate(box))
    if frame[2] - frame[0] > 4 and frame[3] - frame[1] > 4:
        ImageDraw.Draw(small).rectangle(frame, outline="#ffd500", width=2)
    tile = Image.new("RGB", (TILE, height), "white")
    tile.paste(small, ((TILE - width) // 2, 0))
    return tile


def _heat(share: Array) -> Array:
    """Colours ``(H, W, 3)`` of an error as a share of the scale."""
    colours: Array = matplotlib.colormaps["magma"](share.clip(0, 1))[..., :3]
    return colours


def _legend(largest: float) -> Image.Image:
    tile = Image.new("RGB", (TILE, LINE + TILE), "white")
    draw = ImageDraw.Draw(tile)
    _text(draw, (0, 0), "absolute error, of 255", room=TILE)
    bar = np.linspace(1, 0, TILE, dtype=np.float32)[:, None].repeat(24, axis=1)
    tile.paste(_picture(_heat(bar)), (0, LINE))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = LINE + round((1 - share) * (TILE - 20))
        _text(draw, (32, y), f"{share * largest:.0f}" + (" and more" if share == 1 else ""))
    return tile


def _text(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, *, room: int = 10**6, bold: bool = False) -> None:
    font = ImageFont.load_default(size=16)
    while len(text) > 1 and draw.textlength(text, font=font) > room:
        text = text[:-2].rstrip("… ") + "…"
    draw.text(at, text, fill="black", font=font, stroke_width=0.4 if bold else 0)


def _title(role: str) -> str:
    return role.replace("control_", "control, equal ")
