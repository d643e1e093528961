"""Masks on the command line: what they hide is not looked at, and what does not fit is told."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import COLOUR, RAMP
from PIL import Image
from support import call

from kdgen.models import model as models
from kdgen.models.model import Model
from kdgen.registry import Spec

GREY, RGB = RAMP.round().astype(np.uint8), COLOUR.round().astype(np.uint8)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


@pytest.fixture
def inpainter(monkeypatch: pytest.MonkeyPatch) -> Model:
    torch.manual_seed(0)
    args = {"channels": 3, "widths": [4, 6], "blocks": 1, "blind": True, "mask": True}
    made, use = models.build_net(Spec(name="unet", args=args), 3)
    model = Model(made, name="inpainter", channels=3, use=use, task={"name": "restore", "damages": ["mask"]})
    monkeypatch.setattr(models, "load", lambda reference: model)
    return model


def test_what_a_mask_hides_is_not_looked_at(inpainter: Model, tmp_path: Path) -> None:
    holes = np.zeros(RGB.shape[:2], bool)
    holes[5:9, 7:20] = True
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "masks" / "deep").mkdir(parents=True)
    Image.fromarray(RGB).save(tmp_path / "in" / "a.png")
    Image.fromarray(np.where(holes[..., None], 255 - RGB, RGB)).save(tmp_path / "in" / "deep" / "b.png")
    Image.fromarray(holes).save(tmp_path / "masks" / "a.png")
    Image.fromarray(holes).save(tmp_path / "masks" / "deep" / "b.webp", lossless=True)
    inside, out = tmp_path / "in", tmp_path / "out"
    assert call("restore", "inpainter", str(inside), str(out), "--mask", str(tmp_path / "masks")) == 0
    assert np.array_equal(read(out / "a.png"), read(out / "deep" / "b.png"))
    assert call("restore", "inpainter", str(inside), str(tmp_path / "untold")) == 0
    assert not np.array_equal(read(tmp_path / "untold" / "a.png"), read(tmp_path / "untold" / "deep" / "b.png"))
    whole = inpainter(Image.open(inside / "a.png"), mask=Image.fromarray(holes))
    assert np.array_equal(read(out / "a.png"), np.asarray(whole))


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (lambda folder: folder / "none.png", "the mask .*none.png cannot be read"),
        (lambda folder: folder, "holds no mask for a.png: name it a.png"),
        (lambda folder: folder / "small.png", "the mask has 3x4 pixels and the image 24x32"),
    ],
)
def test_masks_that_do_not_fit(
    inpainter: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str], mask: Any, says: str
) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    (tmp_path / "masks").mkdir()
    Image.fromarray(RGB[:3, :4]).save(tmp_path / "masks" / "small.png")
    paths = [str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--mask", str(mask(tmp_path / "masks"))]
    assert call("restore", "inpainter", *paths) == 2
    assert re.search(says, capsys.readouterr().err)


def test_a_model_that_is_told_no_mask_says_which_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, use = models.build_net(Spec(name="half_res"), 1)
    blind = Model(made, name="blind", channels=1, use=use, task={"name": "denoise", "sigma": 25})
    monkeypatch.setattr(models, "load", lambda reference: blind)
    Image.fromarray(GREY).save(tmp_path / "a.png")
    path = str(tmp_path / "a.png")
    assert call("restore", "blind", path, str(tmp_path / "b.png"), "--mask", path) == 2
    said = capsys.readouterr().err
    assert "blind takes no mask: leave it out, or name a model that was trained with it" in " ".join(said.split())
    assert "unet with mask" in said
