"""What pictures were asked for: in words below each of them, and in the file for whoever reads it instead."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
SIZE, LINES, GAP = 13, 2, 3
AROUND = 2
"""Pixels of a label around its words."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

KEYWORD = "Description"
"""Under which PNG keeps what a picture is of (PNG specification, third edition, 11.3.3.2)."""

SHOWN = 80
"""Characters of a prompt that are told."""


def blank(width: int, height: int) -> Image.Image:
    """Nothing to draw on, for a page of whatever colour; white where that is asked for without transparency."""
    return Image.new("RGBA", (width, height), (255, 255, 255, 0))


def label(draw: ImageDraw.ImageDraw, at: tuple[float, float], words: str, font: Font, *, anchor: str = "la",
          bold: bool = False) -> None:  # fmt: skip
    """Write black words on a white label, which is not seen on a white page."""
    if not words:
        return
    left, top, right, bottom = draw.textbbox(at, words, font=font, anchor=anchor)
    around = (left - AROUND, top - AROUND, right + AROUND, bottom + AROUND)
    draw.rounded_rectangle(around, AROUND, fill="white")
    draw.text(at, words, fill="black", font=font, anchor=anchor, stroke_width=0.4 if bold else 0)


def captioned(pictures: Sequence[Image.Image], captions: Sequence[str]) -> list[Image.Image]:
    """Pictures with their captions below; what the font has no letters for is told by its number in ``listed``."""
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions), start=1)}
    return [_with(picture, shortened(caption) if _legible(caption) else f"{numbers[caption]}")
            for picture, caption in zip(pictures, captions, strict=True)]  # fmt: skip


def listed(captions: Sequence[str]) -> str:
    """What pictures are of, each once and by number, e.g. ``1: red heart; 2: blue star``."""
    each = enumerate(map(shortened, dict.fromkeys(captions)), start=1)
    return "; ".join(f"{number}: {caption}" for number, caption in each)


def information(captions: Sequence[str]) -> PngInfo:
    """What a PNG file says that its pictures are of."""
    told = PngInfo()
    if captions:
        told.add_itxt(KEYWORD, listed(captions))
    return told


def description(image: Image.Image) -> str:
    """What an open file says that its pictures are of; empty where it says nothing."""
    return str(image.info.get(KEYWORD, ""))


def shortened(prompt: str) -> str:
    """A prompt in a line that is not too long."""
    plain = " ".join(prompt.split())
    return plain if len(plain) <= SHOWN else f"{plain[: SHOWN - 1]}…"


def _with(picture: Image.Image, caption: str) -> Image.Image:
    font, height = ImageFont.truetype(FONT, SIZE), SIZE + GAP
    whole = blank(picture.width, picture.height + LINES * height + GAP)
    whole.paste(picture.convert("RGB"), (0, 0))
    draw = ImageDraw.Draw(whole)
    for line, words in enumerate(_broken(caption, font, picture.width - 2 * GAP)):
        at = (picture.width / 2, picture.height + GAP + line * height)
        label(draw, at, words, font, anchor="ma")
    return whole


def _broken(text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """A text in lines that fit, the last of them cut short where there is more."""
    lines, words = [""], text.split()
    while words:
        longer = f"{lines[-1]} {words[0]}".strip()
        if lines[-1] and font.getlength(longer) > width:
            if len(lines) == LINES:
                lines[-1] += " …"
                break
            lines.append("")
        else:
            lines[-1] = longer
            words.pop(0)
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    while len(line) > 1 and font.getlength(line) > width:
        line = f"{line.rstrip('… ')[:-1].rstrip()}…"
    return line


def _legible(caption: str) -> bool:
    return {ord(letter) for letter in shortened(caption)} <= _letters()


@lru_cache(maxsize=1)
def _letters() -> frozenset[int]:
    """The characters that the font has."""
    return frozenset(FT2Font(str(FONT)).get_charmap())


__all__ = ["blank", "captioned", "description", "information", "label", "listed", "shortened"]
