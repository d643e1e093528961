"""Sheets of pictures lie on pages of any colour: what is no picture is transparent, and words stand on labels."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation
from torch import nn

from kdgen.report import sample_grids
from kdgen.tasks.denoise import Denoise
from kdgen.ui import markup

GREY = torch.zeros(24, 1, 32, 32)


def sheet(path: Path, kind: str) -> Image.Image:
    """One without black or white in its pictures."""
    if kind == "samples":
        sample_grids.samples(path, Denoise(), {"teacher": nn.Identity(), "student": nn.Identity()}, limit=1)
    else:
        captions = ["red heart"] * 24 if kind == "captioned" else ()
        sample_grids.drawings(path, {"teacher": GREY, "student": GREY}, captions)
    with Image.open(path) as image:
        image.load()
    return image


@pytest.mark.parametrize("kind", ["samples", "drawings", "captioned"])
def test_around_pictures_a_sheet_is_as_its_page(kind: str, tmp_path: Path) -> None:
    image = sheet(tmp_path / "sheet.png", kind)
    assert image.mode == "RGBA"
    pixels = np.asarray(image)
    assert pixels[-1, -1].tolist() == [255, 255, 255, 0]
    assert (pixels[..., 3] == 0).mean() > 0.05
    assert np.isin(pixels[..., :3][pixels[..., 3] < 255], 255).all()


@pytest.mark.parametrize("kind", ["drawings", "captioned"])
def test_words_stand_on_labels(kind: str, tmp_path: Path) -> None:
    pixels = np.asarray(sheet(tmp_path / "sheet.png", kind)).astype(int)
    words = (pixels[..., :3].max(2) < 64) & (pixels[..., 3] == 255)
    assert words.sum() > 100
    around = binary_dilation(words, iterations=1)
    assert (pixels[..., 3][around] == 255).all()


def test_the_app_keeps_what_is_transparent(tmp_path: Path) -> None:
    image = sheet(tmp_path / "sheet.png", "drawings")
    for width in (1600, 120):
        data = markup.address(image, width=width).partition(",")[2]
        with Image.open(io.BytesIO(base64.b64decode(data))) as shown:
            assert shown.mode == "RGBA"
            assert shown.getpixel((shown.width - 1, shown.height - 1))[3] == 0  # type: ignore[index]
