"""What people put before and on things: lines, twigs, rows of windows, writing; of one colour, more or less opaque."""

import math
import string
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Generator, Tensor

FINE = 2
"""How many times finer than the image overlays are drawn, for smooth edges."""

LETTERS = [*string.ascii_letters, *string.digits, *"   .,"]

Chance = np.random.Generator
Pen = ImageDraw.ImageDraw


def lines(image: Tensor, random: Generator) -> Tensor:
    """An image ``(C, H, H)`` in [-1, 1] behind one to three of parallel lines, twigs and rows of windows."""
    chance = _chance(random)
    for _ in range(chance.integers(1, 4)):
        kind = (parallels, twigs, windows)[chance.integers(3)]
        image = _over(image, _sheet(image.shape[-1], kind, chance), chance.uniform(0.2, 1), chance)
    return image


def writing(image: Tensor, random: Generator) -> Tensor:
    """An image ``(C, H, H)`` in [-1, 1] with one to three pieces of text on it, at any angle and of any size."""
    chance = _chance(random)
    for _ in range(chance.integers(1, 4)):
        turn = chance.uniform(-90, 90) if chance.uniform() < 0.5 else 0.0
        image = _over(image, _sheet(image.shape[-1], text, chance, turn), chance.uniform(0.4, 1), chance)
    return image


def parallels(pen: Pen, extent: int, chance: Chance) -> None:
    """Lines side by side: fences, wires, stripes."""
    width, angle = int(chance.integers(1, 7)), chance.uniform(0, math.pi)
    gap, (before, behind) = width + chance.uniform(3, 40), chance.integers(2, 30, 2)
    along = np.array([math.cos(angle), math.sin(angle)])
    across, middle = np.array([-along[1], along[0]]), chance.uniform(0, extent, 2)
    for number in range(-before, behind):
        at, reach = middle + number * gap * across, chance.uniform(0.1, 1) * extent * along
        pen.line([*(at - reach), *(at + reach)], fill=255, width=width)


def twigs(pen: Pen, extent: int, chance: Chance) -> None:
    """Lines that wander: twigs, hair, scratches."""
    thickest = int(chance.integers(1, 7))
    for _ in range(chance.integers(3, 40)):
        steps = chance.integers(5, 40)
        angle = chance.uniform(0, 2 * math.pi) + np.cumsum(chance.normal(chance.normal(0, 0.15), 0.1, steps))
        path = chance.uniform(0, extent, 2) + 8 * np.cumsum(np.stack([np.cos(angle), np.sin(angle)], 1), 0)
        pen.line(path.flatten().tolist(), fill=255, width=int(chance.integers(1, thickest + 1)))


def windows(pen: Pen, extent: int, chance: Chance) -> None:
    """Rectangles in rows: windows, tiles, keys."""
    pitch, corner = chance.uniform(8, 60, 2), chance.uniform(0, extent / 2, 2)
    size, (columns, rows) = pitch * chance.uniform(0.3, 0.9, 2), chance.integers(2, 12, 2)
    for column in range(columns):
        for row in range(rows):
            start = corner + pitch * (column, row)
            pen.rectangle([*start, *(start + size)], fill=255)


def text(pen: Pen, extent: int, chance: Chance) -> None:
    """Some lines of letters and digits, from 8 to 64 pixels high in the image."""
    font = ImageFont.load_default(FINE * 8 ** (1 + chance.uniform()))
    rows = ["".join(chance.choice(LETTERS, chance.integers(3, 30))) for _ in range(chance.integers(1, 5))]
    at = chance.uniform(-0.15, 0.6, 2) * extent
    pen.multiline_text((at[0], at[1]), "\n".join(rows), fill=255, font=font)


def _chance(random: Generator) -> Chance:
    return np.random.default_rng(int(torch.randint(2**62, (1,), generator=random)))


def _sheet(extent: int, draw: Callable[[Pen, int, Chance], None], chance: Chance, turn: float = 0.0) -> Tensor:
    """What is drawn, as a mask ``(1, H, H)`` in [0, 1]; turned by degrees."""
    sheet = Image.new("L", (FINE * extent, FINE * extent))
    draw(ImageDraw.Draw(sheet), FINE * extent, chance)
    turned = sheet.rotate(turn, resample=Image.Resampling.BILINEAR) if turn else sheet
    return F.avg_pool2d(torch.from_numpy(np.array(turned, dtype=np.float32) / 255)[None], FINE)


def _over(image: Tensor, mask: Tensor, opacity: float, chance: Chance) -> Tensor:
    """One colour over an image where the mask is, more grey than colourful."""
    tint = chance.normal(0, 0.3, len(image)) if len(image) > 1 else np.zeros(1)
    colour = torch.from_numpy((chance.uniform(-1, 1) + tint).clip(-1, 1)).to(image)
    return image.lerp(colour.view(-1, 1, 1).expand_as(image), opacity * mask)
