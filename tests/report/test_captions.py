"""What pictures were asked for stands below them and in their files."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kdgen.report import sample_grids
from kdgen.report.captions import captioned, description, listed
from kdgen.ui import markup

PROMPTS = ["red heart", "a face with tears of joy, and two hearts around it, very large", "红心", "red heart"]


def test_each_picture_has_its_words_below_it_and_its_number_where_the_font_has_no_letters() -> None:
    pictures = [Image.new("L", (128, 128)) for _ in PROMPTS]
    first, long, foreign, again = (np.asarray(each.convert("L")) for each in captioned(pictures, PROMPTS))
    assert first.shape == long.shape
    assert (first[:128] == 0).all()
    assert np.array_equal(first, again)
    dark = {name: (each[128:] < 128).any(0).sum() for name, each in (("long", long), ("foreign", foreign))}
    assert 0 < dark["foreign"] < 12 < dark["long"], "the number 3"
    assert (long[128:, [0, -1]] == 255).all(), "cut to fit"


def test_a_file_tells_what_its_pictures_are_of_and_the_page_tells_it_to_whoever_does_not_see_them(
    tmp_path: Path,
) -> None:
    images = torch.zeros(4, 3, 8, 8)
    sample_grids.drawings(tmp_path / "told.png", {"teacher": images, "student": images}, PROMPTS)
    sample_grids.drawings(tmp_path / "untold.png", {"teacher": images, "student": images})
    with Image.open(tmp_path / "told.png") as told, Image.open(tmp_path / "untold.png") as untold:
        assert description(told) == listed(PROMPTS) == f"1: red heart; 2: {PROMPTS[1]}; 3: 红心"
        assert description(untold) == ""
        assert told.width > untold.width
    assert 'alt="Samples. 1: red heart; 2: ' in markup.picture(tmp_path / "told.png", "Samples.")
    assert 'alt="Samples."' in markup.picture(tmp_path / "untold.png", "Samples.")
