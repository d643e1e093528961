"""Freely licensed photographs that are at hand on every machine."""

from collections.abc import Sequence
from importlib.resources import as_file, files

import numpy as np
from PIL import Image

from kdgen.data.pictures import Pictures, Scales
from kdgen.registry import register
from kdgen.types import UserError, text
from kdgen.utils.image_io import Picture

FILES = ("astronaut.png", "camera.png", "chelsea.png", "coffee.png", "rocket.jpg")
LARGEST = 256


@register("images")
class Photographs(Pictures):
    """Five photographs that scikit-image carries, halved to be sharp and free of noise: to evaluate on.

    ==========  ========================================================  ====================
    astronaut   Eileen Collins, by NASA                                   public domain
    camera      a man with a camera, by Lav Varshney (grey)               CC0
    chelsea     a cat, by Stefan van der Walt                             CC0
    coffee      a cup of espresso, by Rachel Michetti                     CC0
    rocket      a Falcon 9 on its launch pad, by SpaceX                   public domain
    ==========  ========================================================  ====================

    Each is averaged over blocks of 2x2 pixels and cut to its middle 256x256 where it is larger.

    Args:
        scales: patches are shrunk by area averaging to one of these shares of their size, drawn at random.

    Raises:
        UserError: if the installed scikit-image lacks one of them.
    """

    def __init__(self, scales: Scales = (1.0,)) -> None:
        super().__init__(scales)
        self._pictures = [_halved(name) for name in FILES]

    @property
    def names(self) -> Sequence[str]:
        """``astronaut``, ``camera`` and so on."""
        return [name.partition(".")[0] for name in FILES]

    def picture(self, index: int) -> Picture:
        """The photograph at a position of ``names``, uint8."""
        return self._pictures[index]


def full_size(name: str) -> Image.Image:
    """A photograph as scikit-image carries it, RGB, cut to sides that are multiples of 16, at most 512.

    Args:
        name: of ``FILES``.

    Raises:
        UserError: if the installed scikit-image lacks it.
    """
    try:
        with as_file(files("skimage") / "data" / name) as path, Image.open(path) as image:
            width, height = (min(side, 2 * LARGEST) // 16 * 16 for side in image.size)
            left, top = (image.width - width) // 2, (image.height - height) // 2
            return image.convert("RGB").crop((left, top, left + width, top + height))
    except OSError:
        raise UserError(text("photograph_gone", "scikit-image lacks its photograph {name}: install scikit-image anew",
                             name=name)) from None  # fmt: skip


def _halved(name: str) -> Picture:
    try:
        with as_file(files("skimage") / "data" / name) as path, Image.open(path) as image:
            half = np.asarray(image.reduce(2))
    except OSError:
        raise UserError(text("photograph_gone", "scikit-image lacks its photograph {name}: install scikit-image anew",
                             name=name)) from None  # fmt: skip
    top, left = (max(extent - LARGEST, 0) // 2 for extent in half.shape[:2])
    return half[top : top + LARGEST, left : left + LARGEST].copy()
