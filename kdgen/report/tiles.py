"""Pieces of a sheet of pictures: crops, enlarged pixels, colours of errors, words."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from kdgen.report.captions import blank, label
from kdgen.utils.palette import palette

ZOOM = 3
"""How many pixels of the picture one pixel of a zoomed crop takes."""

CROP = 96
"""Side of the zoomed crop in pixels."""

TILE = ZOOM * CROP
LINE = 24
"""Height of a line of words in pixels."""

MARGIN = 8
"""Around what is listed, in pixels."""

Array = NDArray[np.float32]


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


def middle_frame(x: Tensor) -> Tensor:
    """Images ``(B, C, H, W)``, of other channels than grey and colour the first three, or the first of two.

    Of clips ``(B, C, T, H, W)`` it is the frame in the middle.
    """
    x = x[:, :, x.shape[2] // 2] if x.ndim == 5 else x
    return x if x.shape[1] in (1, 3) else x[:, : 3 if x.shape[1] > 3 else 1]


def resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Images ``(B, C, H, W)`` resampled to a height and width, where they are of another."""
    return x if x.shape[-2:] == size else F.interpolate(x.float(), size, mode="bicubic", antialias=True)


def unit(x: Tensor) -> Array:
    """The first image of ``(B, C, H, W)`` in [-1, 1] as ``(H, W, C)`` in [0, 1]."""
    array: Array = ((x[0].float().clamp(-1, 1) + 1) / 2).movedim(0, -1).cpu().numpy()
    return array


def decibels(array: Array, truth: Array) -> str:
    """The PSNR in words, 100 dB at most."""
    error = float(np.mean((array.astype(np.float64) - truth) ** 2))
    if not math.isfinite(error):
        return "not finite"
    return f"{100.0 if error == 0 else min(100.0, -10 * math.log10(error)):.2f} dB"


def share_alike(array: Array, truth: Array) -> str:
    """The share of pixels that have the truth's colour, in words."""
    return f"{np.isclose(array, truth, atol=1 / 512).all(2).mean():.1%}"


def _picture(array: Array) -> Image.Image:
    """Of a stack of more than three channels the first three, which are a photograph; of two the first."""
    octets = (np.nan_to_num(array[..., : 3 if array.shape[2] > 2 else 1]) * 255).round().astype(np.uint8)
    return Image.fromarray(octets[..., 0] if octets.shape[2] == 1 else octets).convert("RGB")


def enlarged(crop: Array) -> Image.Image:
    """A crop as a picture, ``TILE`` pixels wide and high, its pixels as squares."""
    return _picture(crop).resize((TILE, TILE), Image.Resampling.NEAREST)


def thumbnail(array: Array, box: tuple[int, int, int, int], height: int) -> Image.Image:
    """The whole image, fitted into the tile, with a frame around the zoomed crop."""
    picture = _picture(array)
    ratio = min(TILE / picture.width, height / picture.height)
    width, height_drawn = max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio))
    small = picture.resize((width, height_drawn), Image.Resampling.LANCZOS)
    frame = tuple(round(edge * ratio) - (i > 1) for i, edge in enumerate(box))
    if frame[2] - frame[0] > 4 and frame[3] - frame[1] > 4:
        ImageDraw.Draw(small).rectangle(frame, outline="#ffd500", width=2)
    tile = blank(TILE, height)
    tile.paste(small, ((TILE - width) // 2, 0))
    return tile


def heat(share: Array) -> Array:
    """Colours ``(H, W, 3)`` of an error as a share of the scale."""
    colours: Array = matplotlib.colormaps["magma"](share.clip(0, 1))[..., :3]
    return colours


def legend(largest: float) -> Image.Image:
    """What the colours of an error stand for, up to the largest in 8-bit units."""
    tile = blank(TILE, LINE + TILE)
    draw = ImageDraw.Draw(tile)
    write(draw, (0, 0), "absolute error, of 255", room=TILE)
    bar = np.linspace(1, 0, TILE, dtype=np.float32)[:, None].repeat(24, axis=1)
    tile.paste(_picture(heat(bar)), (0, LINE))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = LINE + round((1 - share) * (TILE - 20))
        write(draw, (32, y), f"{share * largest:.0f}" + (" and more" if share == 1 else ""))
    return tile


def key(names: Sequence[str], width: int) -> Image.Image:
    """The colours that classes have, with their names, in as many lines of a width in pixels as that takes."""
    font, entries, x, y = ImageFont.load_default(size=16), [], MARGIN, 0
    for name, colour in zip(names, palette(len(names)).mul(255).round().int().tolist(), strict=True):
        room = LINE + math.ceil(font.getlength(name)) + 2 * MARGIN
        if x > MARGIN and x + room > width:
            x, y = MARGIN, y + LINE
        entries.append((name, tuple(colour), x, y))
        x += room
    strip = blank(width, y + LINE)
    draw = ImageDraw.Draw(strip)
    for name, fill, left, top in entries:
        draw.rectangle((left, top + 4, left + 15, top + 19), fill=fill)
        write(draw, (left + LINE, top), name, room=width - left - LINE)
    return strip


def write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, *, room: int = 10**6, bold: bool = False) -> None:
    """Words on a picture, cut to the room in pixels that there is for them."""
    font = ImageFont.load_default(size=16)
    while len(text) > 1 and draw.textlength(text, font=font) > room:
        text = text[:-2].rstrip("… ") + "…"
    label(draw, at, text, font, bold=bold)


def title(role: str) -> str:
    """What a column is called."""
    return role.replace("control_", "control, equal ")
