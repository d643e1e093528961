"""Pictures restored at full size: as large as they came, bounded, their session's alone."""

import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdgen import load
from kdgen.types import UserError
from kdgen.ui import answering
from kdgen.ui.comparing import Options
from kdgen.ui.job import new_session
from kdgen.ui.limits import Limits
from kdgen.ui.pictures import ORIGINAL_SECONDS, Pictures
from kdgen.ui.uploads import open_full

MINE, OTHER = new_session(), new_session()
OPTIONS = Options(sigma=25, seed=0, num_images=1, num_steps=1, noisy=True)
DENOISER = ("denoiser", "denoiser", 0.0)


@pytest.fixture
def pictures(tmp_path):
    return Pictures(Limits(folder=tmp_path / "app"))


def uploaded(tmp_path, width=603, height=517):
    path = tmp_path / "mine.png"
    Image.effect_noise((width, height), 60).convert("RGB").save(path)
    return path


def test_before_and_after_are_as_large_as_the_picture(pictures, tmp_path):
    path = uploaded(tmp_path)
    name = pictures.add(str(path), MINE)
    assert max(pictures.get(name, MINE).size) < 603
    original, room = pictures.original(name, MINE), pictures.room(MINE)
    names = answering.full_size([DENOISER], original, OPTIONS, pictures.limits, room)
    assert names == ["before.png", "1-denoiser.png"]
    before, after = (np.asarray(Image.open(room / each)) for each in names)
    assert before.shape == after.shape == (517, 603, 3)
    assert np.array_equal(before, np.asarray(Image.open(path)))
    whole = np.asarray(load("denoiser")(Image.open(path), sigma=25))
    assert np.abs(whole.astype(int) - after).max() <= 1


def test_pixels_are_bounded_and_hostile_originals_are_judged(pictures, tmp_path):
    limits = replace(pictures.limits, full_pixels=100_000)
    image = open_full(uploaded(tmp_path), limits)
    assert image.width * image.height <= 100_000
    (tmp_path / "a.png").write_text("<svg/>")
    with pytest.raises(UserError, match="no PNG"):
        answering.full_size([DENOISER], tmp_path / "a.png", OPTIONS, limits, tmp_path)


def test_others_cannot_name_it_and_it_is_gone_after_an_hour(pictures, tmp_path):
    name = pictures.add(str(uploaded(tmp_path)), MINE)
    for reference in (name, "../x", f"{name}.original", None, ["chelsea"]):
        with pytest.raises(UserError):
            pictures.original(reference, OTHER)
    file = pictures.original(name, MINE)
    os.utime(file, (time.time() - ORIGINAL_SECONDS - 5,) * 2)
    pictures.sweep()
    with pytest.raises(UserError, match="kept for an hour"):
        pictures.original(name, MINE)
    first, second = pictures.room(MINE), pictures.room(MINE)
    assert not first.exists()
    assert second.is_dir()
    os.utime(second, (time.time() - ORIGINAL_SECONDS - 5,) * 2)
    pictures.room(OTHER)
    assert not second.exists()


def test_models_that_draw_are_refused(pictures):
    room = pictures.room(MINE)
    with pytest.raises(UserError, match="tile by tile"):
        answering.full_size([("gan", "gan", 0.0)], pictures.original("chelsea", MINE), OPTIONS, pictures.limits, room)


def test_both_are_downloaded_from_the_page(opened, tmp_path):
    page = opened(tab="Compare")
    with page.expect_file_chooser() as chooser:
        page.locator("#kd-upload").click()
    chooser.value.set_files(uploaded(tmp_path))
    page.wait_for_function(
        "!document.querySelector('#kd-examples input:checked')"
    )  # the picture is there, theirs is not
    page.locator("#kd-full").click()
    links = page.locator("#kd-full-files a[download], #kd-full-files a[href*='file=']")
    links.first.wait_for()
    assert links.count() >= 2
    with page.expect_download() as waiting:
        links.nth(1).click()
    with Image.open(Path(waiting.value.path())) as image:
        assert image.size == (603, 517)
