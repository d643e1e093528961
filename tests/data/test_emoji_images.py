"""What the bundled text-to-image model is trained on: captions, colours, and words that are kept apart."""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from kdgen.data import Captioned

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "emoji.py"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT))


@pytest.mark.parametrize(
    ("code", "said"),
    [(0x2764, "red heart"), (0x1F355, "pizza"), (0x1F535, "blue circle"), (0x2B50, "star"), (0x1F600, "grinning face"),
     (0x26AB, "black circle"), (0x2708, "airplane"), (0x1F5A4, "black heart"), (0x1F44D, "thumbs up")],
)  # fmt: skip
def test_an_emoji_is_called_by_its_name(script: dict[str, Any], code: int, said: str) -> None:
    assert script["caption"](code) == said


def test_words_that_are_held_out_come_together_in_no_caption(script: dict[str, Any], tmp_path: Path) -> None:
    noto = tmp_path / "noto"
    noto.mkdir()
    for code in (0x1F431, 0x1F436, 0x1F63F, 0x2B50, 0x1F44D, 0x23, 0x1F550):
        image = Image.new("RGBA", (72, 72))
        ImageDraw.Draw(image).ellipse((4, 4, 68, 68), fill=(255, 200, 40))
        image.save(noto / f"emoji_u{code:04x}.png")
    image.save(noto / "emoji_u1f44d_1f3fb.png")
    script["write_images"](noto, tmp_path / "out")
    source = Captioned(str(tmp_path / "out"))
    said = set(source.captions)
    assert {"cat face", "yellow cat face", "dog face", "star"} <= said
    assert not any(word in " ".join(said) for word in ("crying", "clock", "number"))
    assert [caption for caption in said if "thumbs" in caption] == ["thumbs up"], "hands keep their colour"
    assert not any(script["held_out"](caption) for caption in said)
    assert all(len([1 for caption in said if caption.endswith(f" {noun}")]) == 4 for noun in ("cat face", "dog face"))
    for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines():
        name, text = json.loads(line).values()
        red, _, blue = np.asarray(Image.open(tmp_path / "out" / name))[16, 16].astype(int)
        assert (blue > red) == (text.split()[0] in ("blue", "purple")), text
