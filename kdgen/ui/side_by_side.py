"""The pictures of a comparison: a pair, a sheet, and how far apart the pair is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib
import numpy as np
import torch
from PIL import Image

from kdgen.report.tiles import resized
from kdgen.types import Text
from kdgen.utils.convert import sheet, to_pictures

ENLARGED = 192
"""Least height and width at which drawn images are shown, in pixels."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What models made of one input.

    Attributes:
        pair: what the first two made, as large as one another.
        sheet: all of them side by side, with a zoom and differences where there is a truth.
        difference: how far apart the pair is, a colour for each pixel.
        largest: the largest difference, of 255.
        psnr: of the second against the first, in dB.
        prompt: what models that read words were asked for; empty where none did.
        notes: what is to be known of it.
    """

    pair: tuple[Image.Image, Image.Image]
    sheet: Image.Image
    difference: Image.Image
    largest: float
    psnr: float
    prompt: str = ""
    notes: tuple[Text, ...] = ()


def side_by_side(
    first: torch.Tensor, second: torch.Tensor, grid: Image.Image, prompt: str = "", notes: Sequence[Text] = ()
) -> Shown:
    """Images ``(N, C, H, W)`` in [-1, 1] of two models, the smaller resized, beside the sheet of all of them."""
    size = max(first.shape[-2:], second.shape[-2:])
    first, second = (resized(each, size) for each in (first, second))
    pair = (enlarged(first), enlarged(second))
    distance = (first - second).abs().mean(1).float() * 127.5
    largest = float(distance.amax())
    share = (distance / max(largest, 1e-6)).numpy()
    coloured = [Image.fromarray(_heat(each)) for each in share]
    error = float(((first - second).float().square().mean() / 4).clamp_min(1e-10))
    difference = _grid(coloured)
    return Shown(pair, grid, difference, largest, -10 * float(np.log10(error)), prompt, tuple(notes))


def _heat(share: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    colours: np.ndarray[Any, Any] = (matplotlib.colormaps["magma"](share)[..., :3] * 255).astype(np.uint8)
    return colours


def enlarged(images: torch.Tensor) -> Image.Image:
    """Images ``(N, C, H, W)`` in [-1, 1] as a picture, or a sheet, large enough to be seen."""
    return _grid(to_pictures(images.clamp(-1, 1)))


def _grid(images: list[Image.Image]) -> Image.Image:
    """One picture, or a sheet of several, large enough to be seen."""
    image = images[0] if len(images) == 1 else sheet(images)
    times = max(-(-ENLARGED * 2 // image.width), 1)
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST).convert("RGB")


def drawn_sheet(write: Callable[[Path], object]) -> Image.Image:
    """The picture that a function writes to the file that it is given."""
    with TemporaryDirectory(prefix="kdgen-") as place:
        write(Path(place) / "sheet.png")
        with Image.open(Path(place) / "sheet.png") as image:
            return image.copy()
