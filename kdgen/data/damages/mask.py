"""What is missing."""

import math
from collections.abc import Mapping
from typing import Annotated, Literal

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field
from torch import Tensor

from kdgen.data.damages.damage import Amount, Damage, Damaged, amounts, check_amount
from kdgen.registry import register

Shape = Annotated[Literal["strokes", "boxes", "text", "any"],
                  Field(description='"strokes", "boxes", "text" or "any" of them')]  # fmt: skip
SHAPES = ("strokes", "boxes", "text")
MOST = 64
"""Strokes, boxes or lines of text in a mask at most."""


@register("damage")
class Mask(Damage):
    """Parts of the image are missing: brush strokes, boxes or written text. What inpainting undoes.

    Missing pixels become grey (0). ``cond["mask"]``, ``(B, 1, H, W)``, is 1 where they are missing and 0 elsewhere.

    Args:
        share: of the pixels that are missing, roughly, 0 to 0.9.
        shape: of the holes.
        width: of strokes and letters, as a share of the shorter side, above 0 to 0.5.
    """

    keeps = True

    def __init__(self, share: Amount = (0.05, 0.3), shape: Shape = "any", width: Amount = (0.03, 0.12)) -> None:
        check_amount("mask", "share", share, 0, 0.9)
        check_amount("mask", "width", width, 0.005, 0.5)
        self.share, self.shape, self.width = share, shape, width

    def __call__(self, images: Tensor, random: torch.Generator, share: float | None = None) -> Damaged:
        """See the base."""
        count, _, height, width = images.shape
        missing, thick = amounts(self.share, count, random, share), amounts(self.width, count, random, share)
        seeds = torch.randint(2**62, (count,), generator=random).tolist()
        holes = [self._holes(height, width, float(part), float(line), np.random.default_rng(seed))
                 for part, line, seed in zip(missing, thick, seeds, strict=True)]  # fmt: skip
        mask = torch.from_numpy(np.stack(holes))[:, None].float()
        return images * (1 - mask), {"mask": mask}

    def nothing(self, images: Tensor) -> Mapping[str, Tensor]:
        """See the base."""
        return {"mask": torch.zeros(len(images), 1, *images.shape[2:])}

    def _holes(self, height: int, width: int, share: float, thick: float, dice: np.random.Generator) -> np.ndarray:
        """A mask ``(H, W)`` of 0 and 1 with about a share of ones."""
        picture = Image.new("1", (width, height))
        draw = ImageDraw.Draw(picture)
        shape = SHAPES[dice.integers(len(SHAPES))] if self.shape == "any" else self.shape
        line = max(round(thick * min(height, width)), 1)
        holes = np.asarray(picture)
        for _ in range(MOST):
            if holes.mean() >= share:
                break
            {"strokes": _stroke, "boxes": _box, "text": _text}[shape](draw, (width, height), line, dice)
            holes = np.asarray(picture)
        return holes


def _stroke(draw: ImageDraw.ImageDraw, size: tuple[int, int], line: int, dice: np.random.Generator) -> None:
    """A brush that goes on a few times in about the same direction."""
    at, angle = dice.uniform((0, 0), size), dice.uniform(0, 2 * math.pi)
    points = [tuple(at)]
    for _ in range(dice.integers(2, 6)):
        angle += dice.normal(0, 0.6)
        at = at + dice.uniform(0.05, 0.2) * max(size) * np.array([math.cos(angle), math.sin(angle)])
        points.append(tuple(at))
    draw.line(points, fill=1, width=line, joint="curve")
    for x, y in points:
        draw.ellipse((x - line / 2, y - line / 2, x + line / 2, y + line / 2), fill=1)


def _box(draw: ImageDraw.ImageDraw, size: tuple[int, int], line: int, dice: np.random.Generator) -> None:
    wide, high = (dice.uniform(0.1, 0.4) * length for length in size)
    left, top = dice.uniform((-wide / 2, -high / 2), (size[0] - wide / 2, size[1] - high / 2))
    draw.rectangle((left, top, left + wide, top + high), fill=1)


def _text(draw: ImageDraw.ImageDraw, size: tuple[int, int], line: int, dice: np.random.Generator) -> None:
    letters = "".join(chr(each) for each in dice.integers(33, 127, dice.integers(3, 12)))
    font = ImageFont.load_default(max(6 * line, 8))
    draw.text(tuple(dice.uniform((-size[0] / 4, 0), size)), letters, fill=1, font=font)
