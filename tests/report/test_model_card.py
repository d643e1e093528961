"""The model card says what was measured, and how to make and use the student."""

import yaml

from kdgen.presets import preset
from kdgen.recipe import parse
from kdgen.report.compare import compare
from kdgen.report.model_card import card
from kdgen.report.report import Row


def test_a_card_holds_metadata_figures_use_and_recipe() -> None:
    rows = [
        Row(role="teacher", name="denoiser", num_params=100, macs=10**9, metrics={"psnr": 30.25}),
        Row(role="student", name="denoise", num_params=10, macs=10**8, metrics={"psnr": 29.5}),
    ]
    recipe = preset("denoise")
    text = card(compare(rows, task="denoise(sigma=25)"), recipe)
    _, metadata, page = text.split("---\n", 2)
    data = yaml.safe_load(metadata)
    assert data["library_name"] == "kdgen"
    assert {"kdgen", "denoise", "output"} <= set(data["tags"])
    assert "29.50" in page
    assert "30.25" in page
    assert 'kdgen.load("ORG/denoise")' in page
    assert "\nkdgen restore ORG/denoise in.png out.png --sigma 25\n" in page
    assert parse(page.split("```json\n")[1].split("```")[0]) == recipe


def test_a_picture_is_told_beside_the_card_by_what_it_says_that_it_is_of() -> None:
    page = card(None, preset("denoise"), pictures={"samples.png": "1: red heart; 2: a [box]", "gallery.png": ""})
    assert "![samples: 1: red heart; 2: a (box)](samples.png)" in page
    assert "![gallery](gallery.png)" in page
