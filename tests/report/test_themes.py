"""Sheets of pictures lie on pages of any colour: what is no picture is transparent, and words stand on labels."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from scipy.ndimage import binary_dilation
from torch import nn

from kdgen.report import previews, sample_grids
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


@pytest.mark.parametrize("kind", ["samples", "captioned"])
@pytest.mark.parametrize("name", ["learned.webp", "learned.gif"])
def test_how_a_student_learned_is_transparent_where_its_sheets_are(name: str, kind: str, tmp_path: Path) -> None:
    whole = sheet(tmp_path / "preview.png", kind)
    for step in range(3):
        previews.keep(tmp_path / "previews", tmp_path / "preview.png", step)
    assert previews.animate(tmp_path / "previews", tmp_path / name)
    with Image.open(tmp_path / name) as image:
        frames = [np.asarray(frame.convert("RGBA")).astype(int) for frame in ImageSequence.Iterator(image)]
    small = np.asarray(whole.resize(frames[0].shape[1::-1], Image.Resampling.LANCZOS)).astype(int)
    sure = np.isin(small[..., 3], (0, 255)) if name.endswith("gif") else np.full(small.shape[:2], fill_value=True)
    for frame in frames:
        assert np.abs(frame[..., 3] - small[..., 3])[sure].max() <= 8
        seen = small[..., 3] == 255
        assert np.abs(frame - small)[seen].mean() < 8


def test_animations_of_opaque_previews_stay_opaque(tmp_path: Path) -> None:
    for step in range(2):
        Image.new("RGB", (40, 30), (90 * step, 120, 60)).save(tmp_path / "preview.png")
        previews.keep(tmp_path / "previews", tmp_path / "preview.png", step)
    for name in ("learned.webp", "learned.gif"):
        assert previews.animate(tmp_path / "previews", tmp_path / name)
        with Image.open(tmp_path / name) as image:
            frames = [frame.convert("RGBA") for frame in ImageSequence.Iterator(image)]
        assert [frame.getextrema()[3] for frame in frames] == [(255, 255)] * 2
        assert all(abs(frame.getpixel((9, 9))[0] - 90 * i) < 8 for i, frame in enumerate(frames))  # type: ignore[index]
