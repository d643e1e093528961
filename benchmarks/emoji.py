"""Write the images that the bundled text-to-image model was trained on: emoji with captions, 32x32, on white.

    python benchmarks/emoji.py NOTO_FOLDER emoji-captioned

`NOTO_FOLDER` holds Noto emoji (Apache-2.0) as PNG files named by their code points, `emoji_u1f431.png`; captions go to
`metadata.jsonl`, as `datasets` lays it out.

A caption is the Unicode name of the code point in lower case, without the "black", "white" and "heavy" that say of a
symbol how it is printed. What is to be read more than seen is left out: flags of countries, letters, arrows, signs and
clock faces; so are skin tones and other sequences of several code points. An emoji of mostly one hue comes in others
too, and its caption says which; people and hands keep theirs. Some words are held out: no caption has them together.
"""

import colorsys
import json
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image

SIDE = 32
HUES = {"red": 2, "orange": 28, "yellow": 50, "green": 120, "blue": 212, "purple": 278, "pink": 328}
"""Degrees of the colours that emoji are brought to."""

COLOURS = (*HUES, "black", "white")
COPIES = 3
"""Other colours that an emoji comes in."""

HELD_OUT = (
    "orange heart", "green circle", "purple star", "purple book", "blue apple", "blue pizza", "yellow automobile",
    "blue cat", "pink dog", "red frog", "green bear", "crying cat", "pouting cat", "pink square",
)  # fmt: skip
"""Words that no caption has together, though each is in many."""

SAID_OTHERWISE = {"heavy black heart": "red heart", "slice of pizza": "pizza", "white medium star": "star"}
LEFT_OUT = {
    "sign", "symbol", "symbols", "clock", "arrow", "arrows", "mark", "asterisk", "triangle", "squared", "circled",
    "ideograph", "suit", "letter", "letters", "katakana", "information", "moon", "no", "number", "numbers",
    "ornament", "double", "fitzpatrick", "one", "ten", "above", "small", "bar", "button", "input", "exclamation",
    "loop",
}  # fmt: skip
"""Words in the names of what is to be read."""

ZODIAC, SYMBOLS = range(0x2648, 0x2654), 0x1F000


def caption(code: int) -> str:
    """What an emoji is called: its name without what it says of print and size."""
    name = unicodedata.name(chr(code)).lower()
    if name in SAID_OTHERWISE:
        return SAID_OTHERWISE[name]
    words = [word for word in name.split() if word not in ("large", "medium")]
    if {"pointing", "sun"} & set(words) or (code < SYMBOLS and not {"circle", "square"} & set(words)):
        words = [word for word in words if word not in ("black", "white", "heavy")]
    return " ".join(word for word in words if word != "sign" or not {"hand", "hands", "thumbs"} & set(words))


def held_out(text: str) -> bool:
    """Whether a caption has words together that are kept for drawing."""
    return any(set(pair.split()) <= set(text.split()) for pair in HELD_OUT)


def emoji(folder: Path) -> Iterator[tuple[str, str, Image.Image, bool]]:
    """Name, caption and picture of each emoji, and whether it comes with skin tones."""
    for file in sorted(folder.glob("emoji_u*.png")):
        stem = file.stem.removeprefix("emoji_u")
        if "_" in stem or int(stem, 16) in ZODIAC or LEFT_OUT & set((said := caption(int(stem, 16))).split()):
            continue
        with Image.open(file) as image:
            white = Image.new("RGBA", image.size, "white")
            picture = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
        small = picture.resize((SIDE, SIDE), Image.Resampling.HAMMING)
        yield stem, said, small, (folder / f"{file.stem}_1f3fb.png").exists()


def hues(picture: Image.Image) -> np.ndarray:
    """Hue in degrees, saturation and value in [0, 1], ``(H, W, 3)``."""
    pixels = np.asarray(picture, np.float64).reshape(-1, 3) / 255
    return np.array([colorsys.rgb_to_hsv(*pixel) for pixel in pixels]).reshape(SIDE, SIDE, 3) * (360, 1, 1)


def apart(hue: np.ndarray, other: float) -> np.ndarray:
    """Degrees from one hue to another, in [-180, 180)."""
    return (hue - other + 180) % 360 - 180


def main_hue(hsv: np.ndarray) -> float | None:
    """The hue of most of a picture, in degrees; None where there is no such."""
    drawn = (hsv[..., 1] > 0.05) | (hsv[..., 2] < 0.95)
    vivid = hsv[(hsv[..., 1] > 0.3) & (hsv[..., 2] > 0.25)][:, 0]
    if vivid.size < 0.4 * drawn.sum():
        return None
    best = max(range(0, 360, 5), key=lambda hue: int((abs(apart(vivid, hue)) < 25).sum()))
    near = apart(vivid, best)
    return None if (abs(near) < 25).mean() < 0.7 else float(best + near[abs(near) < 25].mean()) % 360


def recoloured(hsv: np.ndarray, old: float, new: float) -> Image.Image:
    """A picture with all near one hue turned to another."""
    turned = hsv.copy()
    near = abs(apart(hsv[..., 0], old)) < 35
    turned[near, 0] = (turned[near, 0] + new - old) % 360
    pixels = [colorsys.hsv_to_rgb(h / 360, s, v) for h, s, v in turned.reshape(-1, 3)]
    return Image.fromarray((np.array(pixels).reshape(SIDE, SIDE, 3) * 255).round().astype(np.uint8))


def coloured(stem: str, said: str, picture: Image.Image) -> Iterator[tuple[str, str, Image.Image]]:
    """The copies of an emoji whose captions say their colour: its own, and a few others."""
    hsv = hues(picture)
    if (own := main_hue(hsv)) is None or hsv[..., 1].max() < 0.3:
        return
    noun = " ".join(word for word in said.split() if word not in COLOURS)
    near = min(HUES, key=lambda colour: abs(apart(np.array(own), HUES[colour])))
    others = sorted(HUES.keys() - {near}, key=lambda colour: crc32(f"{stem} {colour}".encode()))
    allowed = [colour for colour in others if not held_out(f"{colour} {noun}")]
    for colour in allowed[:COPIES]:
        yield colour, f"{colour} {noun}", recoloured(hsv, own, HUES[colour])
    if not set(COLOURS) & set(said.split()):
        yield near, f"{near} {noun}", picture


def write_images(noto: Path, out: Path) -> None:
    """Write the folder of images and captions."""
    out.mkdir(parents=True)
    lines = []
    for stem, said, picture, toned in emoji(noto):
        copies = [] if toned else [(f"{stem}-{colour}", *copy) for colour, *copy in coloured(stem, said, picture)]
        for name, words, image in [(stem, said, picture), *copies]:
            if not held_out(words):
                image.save(out / f"{name}.png")
                lines.append(json.dumps({"file_name": f"{name}.png", "text": words}))
    (out / "metadata.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} images in {out}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    write_images(Path(sys.argv[1]), Path(sys.argv[2]))
